"""Every way gives the same result, and a way that does not is told."""

import pytest

from benchmarks.vocabulary import tricks
from lmcore.errors import InputError
from lmcore.synthetic.stories import stories
from lmcore.tokenizer.pretokenize import pre_tokens

TEXT = "\n\n".join(stories(seed=0, start=0, count=200))


def test_all_ways_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trick is measured against ways of the same result, round by round."""
    monkeypatch.setattr(tricks, "MEGABYTE", 10_000)
    found = tricks.tricks(TEXT, size=500, rounds=2)
    assert len(found) == 4
    for one in found:
        assert [len(seconds) for seconds in one.seconds] == [2] * len(one.ways)
        assert one.times_faster(-1) == 1.0


def test_what_is_done_once_or_together_is_counted() -> None:
    """Words are counted with their repetitions; 43 merges are made in fewer batches."""
    often = tricks.repetition(TEXT, size=300)
    assert often.n_words == len(pre_tokens(TEXT))
    assert often.n_distinct == len(set(pre_tokens(TEXT)))
    assert often.n_merges == 43
    assert 1 < often.n_batches < 43


def test_another_result_ends_it() -> None:
    """A figure of a way that gave something else would say nothing."""
    with pytest.raises(InputError, match="the ways gave different results"):
        tricks.compared("sum", {"one": lambda: 1, "other": lambda: 2}, rounds=1)


def test_a_ratio_is_of_one_round() -> None:
    """The median of the rounds' ratios, not the ratio of medians."""
    trick = tricks.Trick("", ("slow", "fast"), ([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]))
    assert trick.times_faster(0) == 3.0
