"""What a training process tells malloc, and for how long."""

import pytest

from flows.trainer import lifeline
from flows.trainer.lifeline import passing_memory


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What malloc is told, in order, instead of telling it."""
    said: list[str] = []
    for name in ("keep_freed_memory", "give_back_freed_memory", "trim_memory"):
        monkeypatch.setattr(lifeline, name, lambda name=name: said.append(name))
    return said


def test_passing_work_gives_its_memory_back(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only meanwhile, and also when the work fails; what it left is handed back at the end."""
    monkeypatch.setattr(lifeline, "_keeps_freed_memory", True)

    def fail() -> None:
        assert told == ["give_back_freed_memory"]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), passing_memory():
        fail()
    assert told == ["give_back_freed_memory", "keep_freed_memory", "trim_memory"]


def test_a_process_that_gives_back_anyway_is_left_alone(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpointed blocks malloc must not begin to keep what is freed."""
    monkeypatch.setattr(lifeline, "_keeps_freed_memory", False)
    with passing_memory():
        pass
    assert told == []
