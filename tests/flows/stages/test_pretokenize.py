"""Pretokenizing: the same bytes however it is shared out, and wherever it was stopped before."""

import errno
import itertools
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flows.conductor.shards import map_shards
from flows.corpora.config import ReadingConfig
from flows.formats.token_parquet import write_shards
from flows.formats.tokenizer_json import load_tokenizer
from flows.progress.events import Event, silent
from flows.stages import pretokenize, tokenizer
from flows.stages.product import Product
from lmcore.errors import InputError
from lmcore.synthetic.stories import stories
from lmcore.tokenizer.config import TokenizerConfig
from lmcore.tokenizer.tokenizer import Tokenizer
from tests.flows.tiny_run import map_here

STORIES = list(stories(seed=3, start=0, count=24))


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Both texts and a tokenizer, and sizes that make several shards and batches of them."""
    for split, documents in (("train", STORIES[:20]), ("valid", STORIES[20:])):
        (tmp_path / split).write_text("\n<|endoftext|>\n".join(documents))
    config = TokenizerConfig(vocab_size=400)
    tokenizer.run(config, ReadingConfig(), tmp_path / "train", tmp_path, silent)
    monkeypatch.setattr(pretokenize, "write_shards", partial(write_shards, group_tokens=100))
    monkeypatch.setattr(pretokenize, "BATCH_CHARACTERS", 1000)
    return {split: tmp_path / split for split in ("train", "valid")}


def made(
    texts: dict[str, Path],
    name: str,
    map_in_order: Callable = map_here,
    notify: Callable[[Event], None] = silent,
    shard_tokens: int = 600,
    digest: str = "ab" * 32,
) -> Product:
    """The stage, into two folders of that name; they may be there already."""
    home = texts["train"].parent
    out, work = home / name, home / f"{name}-work"
    for folder in (out, work):
        folder.mkdir(exist_ok=True)
    return pretokenize.run(
        pretokenize.PretokenizeConfig(shard_tokens=shard_tokens),
        ReadingConfig(),
        texts,
        home / tokenizer.FILE,
        digest,
        out,
        work,
        notify,
        map_in_order,
    )


def files(texts: dict[str, Path], name: str) -> dict[str, bytes]:
    """Every file of the folder, by name."""
    return {path.name: path.read_bytes() for path in (texts["train"].parent / name).iterdir()}


class Stopped(Exception):
    """What a test stops the stage with."""


class Stopping:
    """Maps in order and counts the documents; raises before a batch, if it is told one."""

    def __init__(self, before: int | None = None) -> None:
        self.left = before
        self.documents = 0

    def __call__(self, fn: Callable, batches: Iterable) -> Iterable[Any]:
        for batch in batches:
            if self.left == 0:
                raise Stopped
            self.left = None if self.left is None else self.left - 1
            self.documents += len(batch)
            yield fn(batch)


@pytest.mark.parametrize("batch_characters", [1, 1000, 10**9])
@pytest.mark.parametrize("runner", ["here", "one", "three"])
def test_sharing_out_changes_no_byte(
    texts: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    batch_characters: int,
) -> None:
    """Any number of workers and any size of their batches: the same files, the same facts."""
    expected = made(texts, "first")
    monkeypatch.setattr(pretokenize, "BATCH_CHARACTERS", batch_characters)
    shared_out = {
        "here": map_here,
        "one": partial(map_shards, workers=1),
        "three": partial(map_shards, workers=3),
    }
    assert made(texts, "second", shared_out[runner]) == expected
    assert len(files(texts, "first")) > 6
    assert files(texts, "second") == files(texts, "first")


def test_threads_do_not_share_a_tokenizer(
    texts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that encode at the same time do it with two tokenizers, used again and again.

    One that two threads use loses words: it cannot learn two at once.
    """
    encode, both = Tokenizer.encode_batch, threading.Barrier(2)
    at_work: set[int] = set()
    ever: set[int] = set()
    calls = itertools.count()

    def watched(self: Tokenizer, *args: Any, **options: Any) -> Any:
        assert id(self) not in at_work
        at_work.add(id(self))
        ever.add(id(self))
        if next(calls) < 2:
            both.wait(10)
        found = encode(self, *args, **options)
        at_work.remove(id(self))
        return found

    monkeypatch.setattr(Tokenizer, "encode_batch", watched)
    found = made(texts, "out", partial(map_shards, workers=2))
    assert len(ever) == 2
    assert next(calls) > 4
    assert found == made(texts, "again")


@pytest.mark.parametrize("stop", [1, 4, 7, 10, 11])
def test_finished_shards_are_kept(texts: dict[str, Path], stop: int) -> None:
    """Stopped anywhere and called again: the same files and facts; what was kept is not encoded."""
    whole, counted = made(texts, "whole", everything := Stopping()), Stopping()
    with pytest.raises(Stopped):
        made(texts, "cut", Stopping(stop))
    assert files(texts, "cut") == {}
    left = {name for name in files(texts, "cut-work") if name.endswith(".parquet")}
    assert left == set(sorted(files(texts, "whole"))[: len(left)])
    notes: list[Event] = []
    assert made(texts, "cut", counted, notes.append) == whole
    assert files(texts, "cut") == files(texts, "whole")
    said = [event.text for event in notes if event.kind == "note"]
    assert sum(int(text.split()[1]) for text in said) == len(left)
    assert counted.documents == everything.documents - documents_in(texts, left)


def documents_in(texts: dict[str, Path], names: set[str]) -> int:
    """Rows of some of the whole run's shards."""
    from flows.formats.token_parquet import describe_shards

    return sum(describe_shards([texts["train"].parent / "whole" / n])[1].rows for n in names)


def test_stopped_again_and_again(texts: dict[str, Path]) -> None:
    """A stage that is stopped every few batches comes to its end, with the same bytes."""
    expected, tries = made(texts, "whole"), 0
    while True:
        tries += 1
        try:
            found = made(texts, "cut", Stopping(3))
            break
        except Stopped:
            continue
    assert tries > 3
    assert found == expected
    assert files(texts, "cut") == files(texts, "whole")


@pytest.mark.parametrize("harm", ["damage", "gap", "other tokenizer", "other Parquet", "empty"])
def test_what_would_be_written_otherwise_is_dropped(
    texts: dict[str, Path], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """A damaged, missing or foreign shard, and all after it, are written again."""
    made(texts, "whole")
    work = texts["train"].parent / "cut-work"
    digest = ("cd" if harm == "other tokenizer" else "ab") * 32
    with pytest.raises(Stopped):
        made(texts, "cut", Stopping(9), digest=digest)
    assert len(list(work.glob("train-*"))) >= 3
    second = work / "train-00001.parquet"
    if harm == "damage":
        data = bytearray(second.read_bytes())
        data[len(data) // 3] ^= 1
        second.write_bytes(data)
    elif harm == "gap":
        second.unlink()
    elif harm == "empty":
        second.write_bytes(b"")
    elif harm == "other Parquet":
        monkeypatch.setattr("flows.formats.kept_shards.WRITER", "another version")
    (work / ".tmp-train-00009.parquet-0123abcd").write_bytes(b"half")
    notes: list[Event] = []
    made(texts, "cut", notify=notes.append)
    assert files(texts, "cut") == files(texts, "whole")
    said = [event.text for event in notes if event.kind == "note"]
    kept = 0 if harm.startswith("other") else 1
    assert [text.split(" of an")[0] for text in said] == ["train: 1 shard"] * kept
    assert set(files(texts, "cut-work")) == set(files(texts, "cut"))


def test_facts_of_the_vocabulary_are_of_the_training_text(texts: dict[str, Path]) -> None:
    """The longest token is the longest that occurs in the training text, and the share of all."""
    texts["train"].write_text("to to")
    product = made(texts, "out")
    loaded = load_tokenizer(texts["train"].parent / tokenizer.FILE)
    used = set(loaded.encode("to to"))
    longest = max((loaded.vocab[i] for i in sorted(used)), key=len)
    assert product.facts["longest_token"] == longest.decode()
    assert product.facts["longest_token_bytes"] == len(longest)
    assert product.facts["vocabulary_used"] == len(used) / loaded.vocab_size


def test_progress_has_an_end_from_the_start(texts: dict[str, Path]) -> None:
    """A plain text's progress runs to about its size from nothing, and ends full."""
    events: list[Event] = []
    made(texts, "out", notify=events.append)
    told = [e.data for e in events if e.kind == "progress" and e.data["label"] == "train"]
    size = texts["train"].stat().st_size
    assert told[0] == {"unit": "bytes", "label": "train", "done": 0, "total": size, "tokens": 0}
    done = [data["done"] for data in told]
    assert done == sorted(done)
    assert told[-1]["done"] == told[-1]["total"] == sum(len(t.encode()) for t in STORIES[:20])


def test_progress_goes_on_from_what_was_kept(texts: dict[str, Path]) -> None:
    """A second try begins where the kept shards end."""
    with pytest.raises(Stopped):
        made(texts, "cut", Stopping(8))
    events: list[Event] = []
    made(texts, "cut", notify=events.append)
    first = next(event.data for event in events if event.kind == "progress")
    assert first["done"] > 1000
    assert first["tokens"] > 600


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_text_at_fault_leaves_no_shard(
    texts: dict[str, Path], monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """No UTF-8 far in: the same text will fail again, so what was made before is removed."""
    monkeypatch.setattr(pretokenize, "write_shards", partial(write_shards, group_tokens=10_000))
    monkeypatch.setattr(pretokenize, "BATCH_CHARACTERS", 100_000)
    texts[split].write_bytes("<|endoftext|>".join(STORIES * 100).encode() + b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        made(texts, "out", partial(map_shards, workers=2), shard_tokens=100_000)
    assert files(texts, "out") == files(texts, "out-work") == {}


def test_a_full_disk_leaves_its_shards(
    texts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another failure may be gone the next time: finished shards stay, and nothing half-made."""
    made(texts, "whole")
    synced = itertools.count()

    def full(descriptor: int) -> None:
        if next(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("flows.disk.atomic.sync", full)
        with pytest.raises(InputError, match="full"):
            made(texts, "out")
    assert set(files(texts, "out-work")) == {"train-00000.parquet", "train-00001.parquet"}
    made(texts, "out")
    assert files(texts, "out") == files(texts, "whole")
