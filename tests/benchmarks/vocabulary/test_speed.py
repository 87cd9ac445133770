"""Steps are timed in turns, and bytes a step follow from the text."""

import pytest
import torch

from benchmarks.vocabulary import speed
from benchmarks.vocabulary.trained import bytes_per_token, tokenizers
from lmcore.synthetic.stories import stories

TEXT = "\n\n".join(stories(seed=0, start=0, count=40))


def test_both_sizes_take_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A B A B …: as many blocks of each; threads are put back."""
    turns = []
    timed = speed.timed
    monkeypatch.setattr(speed, "BATCH_SIZE", 1)
    monkeypatch.setattr(speed, "timed", lambda step, n: (turns.append(step), timed(step, n))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    made = tokenizers([TEXT], [300, 400])
    found = speed.in_turns(list(made.values()), TEXT, blocks=2, steps=1)
    assert turns == [*turns[:2]] * 3
    assert turns[0] is not turns[1]
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 2
    for one in found:
        assert len(one.seconds) == 2
        per_token = bytes_per_token(made[one.vocab_size], TEXT)
        assert one.bytes_per_step == pytest.approx(256 * per_token)
        assert one.bytes_per_second == pytest.approx(one.bytes_per_step * one.steps_per_second)
