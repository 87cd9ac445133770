"""The clock of a run: speed over the last steps, time left, time of earlier processes."""

from dataclasses import replace

import pytest
import torch

from flows.progress.events import Event
from flows.trainer import meter as metering
from flows.trainer.job import Job
from flows.trainer.meter import Meter
from flows.trainer.numerics import Resolved
from lmcore.model.config import ModelConfig
from lmcore.model.counts import training_flops
from lmcore.training.config import TrainingConfig

NUMERICS = Resolved("cpu", False, 1, 1, 1, "2.11.0", "x86_64", "avx2")
JOB = Job("pretrain", ModelConfig(context_length=10), TrainingConfig(batch_size=5), NUMERICS)
METRICS = {"loss": torch.tensor(2.5)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr(metering.time, "perf_counter", lambda: now[0])
    return now


def test_speed_and_time_left(clock: list[float]) -> None:
    """Two seconds a step of 50 tokens are 25 tokens a second, and the rest takes as long."""
    meter, events = Meter(JOB, 100, 10, 7.0), list[Event]()
    for step in (11, 12, 13):
        clock[0] += 2.0
        meter.show(events.append, step, METRICS)
    assert dict(events[-1].data) == {
        "done": 13,
        "total": 100,
        "unit": "steps",
        "loss": 2.5,
        "tokens_per_second": 25.0,
        "seconds_left": 174.0,
    }
    assert meter.seconds() == 13.0


def test_speed_is_of_the_last_steps(clock: list[float]) -> None:
    """A slow beginning is forgotten after a window of steps."""
    meter = Meter(JOB, 10_000, 0, 0.0)
    clock[0] += 1000.0
    for step in range(1, 2 * metering.WINDOW):
        clock[0] += 0.5
        meter.show(lambda event: None, step, METRICS)
    assert meter.speed() == pytest.approx(100.0)


def test_shown_a_few_times_a_second_and_at_the_end(clock: list[float]) -> None:
    """Fast steps are shown now and then; the last one always."""
    meter, events = Meter(JOB, 1000, 0, 0.0), list[Event]()
    for step in range(1, 1001):
        clock[0] += 0.001
        meter.show(events.append, step, METRICS)
    shown = [event.data["done"] for event in events]
    assert 4 <= len(shown) <= 7
    assert shown[-1] == 1000


def test_first_moment_has_no_speed(clock: list[float]) -> None:
    """Before a second has passed nothing is divided by it."""
    meter, events = Meter(JOB, 10, 0, 0.0), list[Event]()
    meter.show(events.append, 1, METRICS)
    assert meter.speed() == 0.0
    assert events[-1].data["seconds_left"] is None


def test_record_counts_tokens_of_the_whole_run(clock: list[float]) -> None:
    """Tokens are those of all processes and steps, also after a resume."""
    job = replace(JOB, training=replace(JOB.training, batch_size=6))
    names = ("loss", "lr", "grad_norm", "loss_scale", "skipped")
    metrics = {name: torch.tensor(1.0) for name in names}
    assert Meter(job, 10, 7, 3.0).record(8, metrics)["tokens"] == 8 * 60


class Late:
    """A loss that a GPU still works on: asked for, it lets time pass until it is there."""

    def __init__(self, clock: list[float], ready: float) -> None:
        self.clock, self.ready = clock, ready

    def __float__(self) -> float:
        self.clock[0] = max(self.clock[0], self.ready)
        return 2.5


def test_speed_is_that_of_the_device_not_of_the_queue(clock: list[float]) -> None:
    """Steps asked for a thousand a second and taken ten a second are shown as ten a second."""
    meter, events = Meter(JOB, 100_000, 0, 0.0), list[Event]()
    for step in range(1, 3000):
        clock[0] = max(clock[0] + 0.001, 100.0 + 0.1 * (step - 1000))  # 1,000 wait at most
        meter.show(events.append, step, {"loss": Late(clock, 100.0 + 0.1 * step)})  # type: ignore
    assert events[-1].data["tokens_per_second"] == pytest.approx(500.0)


def test_first_steps_are_no_speed(clock: list[float]) -> None:
    """The first step compiles for a minute; the second moment already tells the true speed."""
    meter, events = Meter(JOB, 100, 0, 0.0), list[Event]()
    for step, seconds in ((1, 60.0), (2, 1.0), (3, 1.0)):
        clock[0] += seconds
        meter.show(events.append, step, METRICS)
    assert [round(event.data["tokens_per_second"], 1) for event in events] == [0.8, 50.0, 50.0]


def test_nothing_is_asked_of_the_device_between_two_shows(clock: list[float]) -> None:
    """A step that is neither shown nor logged is not waited for."""
    meter, asked = Meter(JOB, 10_000, 0, 0.0), list[int]()

    class Asked:
        def __init__(self, step: int) -> None:
            self.step = step

        def __float__(self) -> float:
            asked.append(self.step)
            return 2.5

    for step in range(1, 1001):
        clock[0] += 0.001
        meter.show(lambda event: None, step, {"loss": Asked(step)})  # type: ignore
    assert 4 <= len(asked) <= 6


def test_utilisation_is_a_share_of_the_peak(clock: list[float]) -> None:
    """FLOP/s are tokens a second times those of a token; a share where the peak is known."""
    names = ("loss", "lr", "grad_norm", "loss_scale", "skipped")
    metrics = {name: torch.tensor(1.0) for name in names}
    for peak in (None, 1e9):
        meter = Meter(JOB, 100, 0, 0.0, peak)
        clock[0] += 2.0
        record = meter.record(1, metrics)
        flops = record["tokens_per_second"] * training_flops(JOB.model, 1)
        assert record["flops_per_second"] == pytest.approx(flops)
        if peak is None:
            assert "utilisation" not in record
        else:
            assert record["utilisation"] == pytest.approx(flops / peak)
