"""The command measures the parts asked for, on the folder's texts."""

import gzip
import json
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.vocabulary import command, languages, parts, texts
from lmcore.synthetic.stories import stories


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four made texts under the names of the real ones, and sizes that they can fill."""
    n = max(one.place for one in languages.LANGUAGES) + 1
    written = list(stories(seed=0, start=0, count=n))
    novels = "\n\n".join(written)
    (tmp_path / texts.NOVELS).write_bytes(gzip.compress(novels.encode()))
    (tmp_path / texts.UNSEEN_NOVELS).write_text(novels[:20_000])
    (tmp_path / texts.STORIES).write_text(texts.SEPARATOR.join(written[:9]))
    declarations = texts.SEPARATOR.join(f"{text}\n{text}" for text in written)
    (tmp_path / texts.DECLARATIONS).write_text(declarations)
    digest = sha256(declarations.encode()).hexdigest()
    monkeypatch.setattr(texts, "DECLARATIONS_SHA256", digest)
    monkeypatch.setattr(parts, "SIZES", (300, 400))
    monkeypatch.setattr(parts, "SIZE", 400)
    monkeypatch.setattr(parts, "FASTER", 300)
    monkeypatch.setattr(parts, "SHARE_SIZE", 300)
    return tmp_path


def test_parts_are_told_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part is a table; the JSON has its figures, and the picture is drawn."""
    asked = ["unknown", "sizes", "languages", "share"]
    figures, plot = folder / "figures.json", folder / "languages.svg"
    command.main(
        ["--data", str(folder), "--parts", *asked, "--json", str(figures), "--plot", str(plot)]
    )
    found = json.loads(figures.read_text())
    assert list(found) == ["machine", *asked]
    assert [one["unknown_bytes"] for one in found["unknown"]] == [0.0] * 7
    assert [one["vocab_size"] for one in found["sizes"][:2]] == [300, 400]
    assert len(found["languages"]) == len(languages.LANGUAGES)
    assert [one["share"] for one in found["share"]] == list(parts.SHARES)
    assert plot.read_text().rstrip().endswith("</svg>")
    out = capsys.readouterr().out
    assert out.startswith(found["machine"])
    assert all(f"\n{part}\n" in out for part in asked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "must be a folder that holds"),
        (["--data", ".", "--parts", "share", "--plot", "x.svg"], "add it to --parts"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    """What is wrong is said, with what to do, before any work."""
    with pytest.raises(SystemExit, match=message) as told:
        command.main(arguments)
    assert str(told.value).startswith("error: ")
