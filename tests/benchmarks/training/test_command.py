"""``python -m benchmarks.training`` from end to end, on work that takes no time."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.training import command, rounds
from benchmarks.training.rounds import Measured, in_turns
from benchmarks.training.sides import CompileMode, Side, Work, sides_of

ROOT = Path(__file__).parents[3]
TINY = ["--size", "tiny", "--steps", "3", "--blocks", "2", "--threads", "1"]


def test_one_command_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides make the same steps on the same tokens; figures are printed and written."""
    out = tmp_path / "figures.json"
    assert (
        command.main([*TINY, "--mode", "eager", "--against", "faithful", "--json", str(out)]) == 0
    )
    (found,) = json.loads(out.read_text())
    ours, theirs = found["rows"]
    assert [ours["name"], theirs["name"]] == ["lmcore", "faithful"]
    assert [len(row["block_seconds"]) for row in found["rows"]] == [2, 2]
    assert found["work"]["tokens"] == 3 * 2 * 2 * 16
    # After eight steps from the same parameters; float32 rounds to 1e-7.
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
    assert ours["memory_bytes"] > 50e6
    assert set(ours["ratio"]) == {"faithful"}
    shown = capsys.readouterr().out
    for words in ("tiny, eager", "192 tokens a side", "speed/faithful", "\nlmcore ", "\nfaithful "):
        assert words in shown


def test_each_precision_has_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products are made in what was asked for, ours and the module's, and the heading says so."""
    seen = []

    def compare(work: Work, *_: object) -> dict:
        seen.append(work.training.precision)
        return {"failed": [], "differences": []}

    monkeypatch.setattr(command, "compare", compare)
    monkeypatch.setattr(command, "peak_of", lambda work: None)
    assert command.main([*TINY, "--mode", "eager", "--precision", "float32,bfloat16"]) == 0
    assert seen == ["float32", "bfloat16"]
    monkeypatch.undo()
    out = tmp_path / "figures.json"
    words = [*TINY, "--mode", "eager", "--against", "faithful", "--json", str(out)]
    assert command.main([*words, "--precision", "bfloat16"]) == 0
    ours, theirs = json.loads(out.read_text())[0]["rows"]
    # bfloat16 has 8 bits of mantissa.
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=3e-2)
    assert "bfloat16" in capsys.readouterr().out


@pytest.mark.slow
def test_compiled_sides_do_the_same_work(capsys: pytest.CaptureFixture[str]) -> None:
    """Compiled, our step and the module agree, and the time that it took is told."""
    assert command.main([*TINY, "--mode", "compiled", "--against", "faithful"]) == 0
    assert re.search(r"\nlmcore .* \d+\.\d s ", capsys.readouterr().out)


def test_a_side_that_fails_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason stands below the table, and the exit status is 1."""
    facts = dict.fromkeys(("device", "python", "torch", "cuda", "numpy", "einops"), "known")
    machine = Measured(Side("matmul"), ready={"facts": facts})
    monkeypatch.setattr(command, "matmul_flops", lambda work: (1e9, machine))
    text = tmp_path / "tokens.bin"
    text.write_bytes(b"\xff\x00" * 100)
    words = ["--mode", "eager", "--against", "faithful", "--tokens", str(text)]
    assert command.main([*TINY, *words]) == 1
    shown = capsys.readouterr().out
    assert f"FAILED lmcore: {text} has the token id 255" in shown
    assert "no side came to its end" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--size", "2m"], "'2m': choose from tiny, 1m"),
        (["--steps", "0"], "'0': a whole number of at least 1"),
        (["--precision", "int8"], "'int8': choose from float32"),
        (["--cuda-graph"], "--cuda-graph: only CUDA has such graphs"),
        (["--compile-mode", "default,fast"], "'fast': choose from default, reduce-overhead"),
    ],
)
def test_a_wrong_word_is_refused(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not known is named, and what is."""
    with pytest.raises(SystemExit):
        command.main(words)
    assert expected in capsys.readouterr().err


def test_every_variant_of_ours_is_a_side() -> None:
    """Compile modes, graphs and freedom are combined, but no graph is made of a graph."""
    modes: tuple[CompileMode, ...] = ("default", "reduce-overhead")
    sides = sides_of("compiled", ("faithful", "nanogpt"), modes, free=True, graph=True)
    assert [side.name for side in sides] == [
        *("lmcore", "lmcore, free", "lmcore, graph", "lmcore, graph, free"),
        *("lmcore, reduce-overhead", "lmcore, reduce-overhead, free"),
        *("faithful", "nanogpt"),
    ]
    eager = sides_of("eager", ("faithful",), modes, free=False, graph=True)
    assert [side.name for side in eager] == ["lmcore", "lmcore, graph", "faithful"]
    assert {side.compile for side in eager} == {None}


def test_sides_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A B A B: a block of each in turn, after all have warmed up."""
    log = []

    class Recorder:
        def __init__(self, side: Side, work: Work) -> None:
            self.measured = Measured(side)

        def __enter__(self) -> "Recorder":
            return self

        def __exit__(self, *_: object) -> None:
            log.append("end")

        def wait_until_ready(self) -> None:
            log.append(f"ready {self.measured.side.name}")

        def go(self, steps: int) -> None:
            log.append(f"{self.measured.side.name} {steps}")

    monkeypatch.setattr(rounds, "Measuring", Recorder)
    work = Work("tiny", "cpu", 2, threads=1, warmup_steps=1, steps=3, blocks=2)
    in_turns([Side("lmcore"), Side("faithful")], work, lambda text: None)
    assert log == [
        *("ready lmcore", "ready faithful"),
        *("lmcore 3", "faithful 3", "lmcore 3", "faithful 3"),
        *("end", "end"),
    ]


def test_little_is_imported() -> None:
    """Nothing beyond torch, numpy, einops and the standard library is needed."""
    absent = ["prefect", "pyarrow", "tyro", "pydantic", "rich", "httpx", "matplotlib"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "from benchmarks.training import command, steppers, worker"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
