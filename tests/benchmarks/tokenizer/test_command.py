"""The tokenizer benchmark: every engine does the same work, and the differences are told."""

import json

import pytest

from benchmarks.tokenizer.command import Measured, Row, compare
from benchmarks.tokenizer.engines import (
    PACKAGES,
    SPECIAL,
    TRAINERS,
    encoder,
    merges_of_ranks,
    trainer,
)
from benchmarks.tokenizer.texts import documents
from benchmarks.tokenizer.worker import Job, measure, read_vocabulary, write_vocabulary
from lmcore import train_bpe
from lmcore.synthetic.stories import stories

# Long enough that merges are plenty, and short enough that most pairs differ in count.
TEXT = "\n\n".join(stories(seed=0, start=0, count=40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, and the vocabulary that ours trains on it."""
    folder = tmp_path_factory.mktemp("tokenizers")
    (folder / "text.txt").write_text(TEXT)
    _, merges = train_bpe([TEXT], 457, (SPECIAL,))
    write_vocabulary(folder / "vocabulary.json", list(merges))
    return folder


def job(folder, kind, engine="lmcore", result=""):
    return Job(
        kind,
        engine,
        str(folder / "text.txt"),
        457,
        result=result,
        vocabulary=str(folder / "vocabulary.json"),
    )


def test_merges_are_read_off_ranks():
    """From the tokens in their order, the pair that made each is found again."""
    vocab, merges = train_bpe([TEXT], 400, ())
    assert merges_of_ranks({token: i for i, token in enumerate(vocab)}) == list(merges)


@pytest.mark.parametrize("engine", PACKAGES)
def test_engines_train_and_encode_the_same_text(folder, engine):
    """Every engine makes as many merges; those that load a vocabulary encode as ours does."""
    pytest.importorskip(PACKAGES[engine], reason="it is in the extra bench")
    if engine in TRAINERS:
        merges = trainer(engine)(TEXT, 457)()
        assert len(merges) == 200
        assert merges[:5] == list(train_bpe([TEXT], 262, (SPECIAL,))[1])
    if engine != "rustbpe":
        vocabulary = read_vocabulary(folder / "vocabulary.json")
        texts = list(documents(TEXT + SPECIAL + "a\n", 500))
        ours, theirs = (encoder(one, vocabulary, folder) for one in ("lmcore", engine))
        expected = [ours.one(text) for text in texts]
        assert [theirs.one(text) for text in texts] == expected
        assert [list(ids) for ids in theirs.lists(texts)] == expected
        assert theirs.flat(theirs.arrays(texts)) == [i for ids in expected for i in ids]


@pytest.mark.parametrize(
    ("kind", "parts"), [("train", 1), ("arrays", 2), ("lists", 2), ("sentence", 1)]
)
def test_a_measurement_has_its_figures(folder, kind, parts):
    """Seconds for each part, memory, and a digest that does not change from run to run."""
    first, second = (measure(job(folder, kind)) for _ in range(2))
    assert first["digest"] == second["digest"]
    assert len(first["seconds"]) == parts
    assert min(first["seconds"]) > 0
    assert first["added_bytes"] >= 0


def test_the_first_difference_is_told(folder):
    """Merges that differ are not ranked, and whether it was a tie is told."""
    row = Row("train", "train", 0, 457, ("lmcore", "rustbpe"))
    merges = json.loads((folder / "vocabulary.json").read_text())
    (folder / "x-lmcore.npy").write_text(json.dumps(merges))
    (folder / "x-rustbpe.npy").write_text(
        json.dumps([*merges[:3], merges[4], merges[3], *merges[5:]])
    )
    ours = Measured("x", "lmcore", [{"digest": "a"}])
    theirs = Measured("x", "rustbpe", [{"digest": "b"}])
    for one in (ours, theirs):
        compare(one, [ours, theirs], row, folder, folder / "text.txt")
    assert ours.difference == ""
    assert theirs.difference.startswith(f"merge 3 is {tuple(merges[4])!r}, ours")
    assert "NOT a tie (200 and 200 in all, 200 the same)" in theirs.difference
