"""The benchmark of pretokenizing: both sides do the same work, and a difference is told."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.pretokenize.command import (
    DOCUMENT_CHARACTERS,
    Measured,
    main,
    report,
    same,
    write_files,
)
from benchmarks.pretokenize.sides import PACKAGES, Side, digest_of
from benchmarks.pretokenize.worker import Job, measure
from benchmarks.tokenizer.engines import SPECIAL
from flows.formats.tokenizer_json import load_tokenizer
from lmcore.synthetic.stories import stories

TEXT = f"\n{SPECIAL}\n".join("\n".join(stories(0, 20 * n, 20)) for n in range(3)) + "é ☃"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A text for both sides, and its vocabulary."""
    folder = tmp_path_factory.mktemp("pretokenize")
    (folder / "text.txt").write_text(TEXT)
    return write_files(folder / "text.txt", folder, 400)


def test_documents_are_the_text(files: dict[str, str]) -> None:
    """Documents end at separators and at about a page; joined they are the text between them."""
    lines = Path(files["text"]).read_text().splitlines()
    found = [json.loads(line)["text"] for line in lines]
    assert "".join(found) == TEXT.replace(SPECIAL, "")
    assert max(map(len, found)) < DOCUMENT_CHARACTERS + 500
    assert len(found) > 9


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("side", PACKAGES)
@pytest.mark.parametrize("cores", [1, 2])
def test_sides_make_the_same_ids(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: Side, cores: int
) -> None:
    """Each way writes the ids that a plain loop makes, on one core and on two."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    for package in PACKAGES[side]:
        pytest.importorskip(package, reason="it is in the extras bench and readers")
    # The side without numba hides it; this puts it back.
    monkeypatch.setitem(sys.modules, "numba", sys.modules.get("numba"))
    tokenizer = load_tokenizer(Path(files["tokenizer"]))
    texts = [json.loads(line)["text"] for line in Path(files["text"]).read_text().splitlines()]
    expected = digest_of([written(tmp_path / "loop.parquet", map(tokenizer.encode, texts))])
    told = measure(Job(side, cores, **files, folder=str(tmp_path)))
    assert told["digest"] == expected["digest"]
    assert (told["n_documents"], told["n_tokens"]) == (len(texts), expected["n_tokens"])
    assert min(told["wall_seconds"], told["processor_seconds"], told["file_bytes"]) > 0


def written(path: Path, documents) -> Path:
    """Ids as a Parquet file."""
    ids = pa.array(list(documents), pa.list_(pa.uint16()))
    pq.write_table(pa.table({"ids": ids}), path)
    return path


def test_digest_is_of_ids_and_documents(tmp_path: Path) -> None:
    """Another id and another border of documents are another digest; another width is not."""
    path = tmp_path / "a.parquet"
    cases = ([[1, 2], [3]], [[1, 2], [4]], [[1], [2, 3]], [[1, 2, 3]])
    assert len({digest_of([written(path, case)])["digest"] for case in cases}) == len(cases)
    narrow = digest_of([written(path, cases[0])])["digest"]
    pq.write_table(pa.table({"ids": pa.array(cases[0], pa.list_(pa.uint32()))}), path)
    assert digest_of([path])["digest"] == narrow


def test_parts_of_a_larger_array_are_read(tmp_path: Path) -> None:
    """More documents than are read at a time, in two files, count once each."""
    documents = [np.arange(n % 7).tolist() for n in range(3000)]
    (one,) = [written(tmp_path / "one.parquet", documents)]
    two = [written(tmp_path / f"{n}.parquet", documents[n::2]) for n in range(2)]
    ordered = documents[::2] + documents[1::2]
    assert digest_of(two)["digest"] == digest_of([written(one, ordered)])["digest"]
    assert digest_of(two)["n_documents"] == 3000


def told(digest: str, seconds: float) -> dict:
    figures = {"wall_seconds": seconds, "processor_seconds": 2 * seconds, "import_seconds": 0.1}
    return figures | {"digest": digest, "n_documents": 2, "n_tokens": 9, "file_bytes": 1_000_000}


def found(*measured: Measured) -> dict:
    """A benchmark's figures."""
    machine = {"cpu": "a processor", "cores": 2, "system": "a system"}
    return {
        "machine": machine,
        "python": "3",
        "versions": {"numpy": "1"},
        "missing": ["lmcore+numba"],
        "text": "a text",
        "bytes": 10_000_000,
        "vocab_size": 400,
        "cores": 1,
        "rounds": 2,
        "measured": list(measured),
    }


def test_a_ratio_is_that_of_one_round() -> None:
    """Their time over ours, round by round, and the median of it; equal ids are told."""
    ours = Measured("lmcore", [told("a", 1.0), told("a", 10.0), told("a", 2.0)])
    theirs = Measured("datasets", [told("a", 4.0), told("a", 30.0), told("a", 10.0)])
    text = report(found(ours, theirs))
    assert "4.00 x lmcore (4.00 by processor)" in text
    assert "5.0 MB/s" in text
    assert "lmcore+numba  not installed" in text
    assert "the ids are equal" in text


def test_another_result_is_told() -> None:
    """Ids that differ in any round, and a side that failed, are not passed over."""
    ours = Measured("lmcore", [told("a", 1.0), told("a", 1.0)])
    theirs = Measured("datasets", [told("a", 1.0), told("b", 1.0)])
    assert not same([ours, theirs])
    assert "NOT THE SAME WORK" in report(found(ours, theirs))
    assert "datasets      failed: why" in report(found(ours, Measured("datasets", [], "why")))


def test_the_command_measures_and_tells(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The whole command on a little text: its table, and all figures as JSON."""
    small = ["--sides", "lmcore", "--megabytes", "1", "--vocab-size", "400", "--rounds", "2"]
    main([*small, "--json", str(tmp_path / "figures.json")])
    assert "synthetic stories" in capsys.readouterr().out
    (measured,) = json.loads((tmp_path / "figures.json").read_text())["measured"]
    assert len(measured["rounds"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cores", "9999"], "--cores is 9999"),
        (["--vocab-size", "70000"], "16 bits"),
        (["--data", "/nowhere"], "--data must be a folder"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], message: str) -> None:
    """A flag that cannot be followed is an error that names it."""
    with pytest.raises(SystemExit, match=message):
        main(words)
