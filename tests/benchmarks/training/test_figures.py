"""From seconds to figures."""

from dataclasses import replace

import pytest

from benchmarks.training.figures import Spread, differences, rows, table
from benchmarks.training.rounds import Measured
from benchmarks.training.sides import CompileMode, Kind, Side, Work
from lmcore.model.counts import training_flops

# 2 sequences of 16 tokens in 5 steps: 160 tokens a block
WORK = Work("tiny", "cpu", batch_size=2, threads=1, warmup_steps=4, steps=5, blocks=3)
FLOPS = training_flops(WORK.case.model, 1)


def measured(
    kind: Kind,
    seconds: list[float],
    memory: int,
    compile_mode: CompileMode | None = "default",
    norm: float = 0.5,
) -> Measured:
    """A side that took these seconds."""
    step = {"loss": 4.0, "grad_norm": norm}
    return Measured(
        side=Side(kind, compile=compile_mode, pinned=kind == "lmcore"),
        ready={"n_params": 5168, "first": step, "warmed": step, "warmup_seconds": 11.6},
        seconds=seconds,
        last={"loss": 3.5, "grad_norm": norm},
        memory_bytes=memory,
        reserved_bytes=0,
    )


OURS = measured("lmcore", [2.0, 1.0, 4.0], 3 << 20)
THEIRS = measured("faithful", [3.0, 1.0, 2.0], 4 << 20)


def test_figures_of_known_seconds() -> None:
    """Speeds, ratios block by block, shares and compile time are what one works out by hand."""
    ours, theirs = rows([OURS, THEIRS], WORK, matmul=1_000 * FLOPS, vendor=4_000 * FLOPS)
    assert ours.tokens_per_second == Spread(80.0, 40.0, 160.0)
    assert ours.ratio == {"faithful": Spread(1.0, 0.5, 1.5)}  # 3/2, 1/1, 2/4
    assert ours.memory_ratio == {"faithful": 0.75}
    assert ours.compile_seconds == pytest.approx(11.6 - 4 * 2.0 / 5)
    assert ours.share_of_matmul == pytest.approx(80.0 / 1_000)
    assert ours.share_of_vendor == pytest.approx(80.0 / 4_000)
    assert (theirs.ratio, theirs.memory_ratio) == ({}, {})


def test_the_ratio_is_the_median_of_pairs() -> None:
    """A machine that slows down for a block, for both sides, does not move the ratio."""
    ours = replace(OURS, seconds=[1.0, 10.0, 1.0])
    theirs = replace(THEIRS, seconds=[1.5, 15.0, 1.5])
    assert rows([ours, theirs], WORK, 1.0, None)[0].ratio["faithful"] == Spread(1.5, 1.5, 1.5)


def test_eager_has_no_compile_time_and_a_cpu_no_vendor() -> None:
    """What was not measured is None, and a side that failed has no row."""
    failed = Measured(Side("nanogpt"), failed="out of memory")
    eager = [measured("lmcore", [1.0] * 3, 1, None), measured("faithful", [1.0] * 3, 1, None)]
    found = rows([*eager, failed], WORK, 1.0, None)
    assert [(row.name, row.compile_seconds, row.share_of_vendor) for row in found] == [
        ("lmcore", None, None),
        ("faithful", None, None),
    ]


def test_the_table() -> None:
    """A line for each side, ratios under the name of the module they refer to."""
    found = rows([OURS, THEIRS], WORK, matmul=1_000 * FLOPS, vendor=4_000 * FLOPS)
    assert table(found).splitlines() == [
        "          tokens/s (least-most)       speed/faithful  memory  memory/faithful"
        "  compile  of matmul  of vendor    loss",
        "lmcore              80 (40-160)  1.000 (0.500-1.500)   3 MiB             0.75"
        "   10.0 s       8.0%       2.0%  3.5000",
        "faithful            80 (53-160)                        4 MiB                 "
        "   10.0 s       8.0%       2.0%  3.5000",
    ]


def test_other_work_is_noticed() -> None:
    """A gradient norm that is not the faithful module's is told, for each step looked at."""
    assert differences([OURS, THEIRS], "float32") == []
    other = measured("lmcore", [1.0] * 3, 1, norm=0.501)
    assert differences([other, THEIRS], "bfloat16") == []
    assert differences([other, THEIRS], "float32") == [
        f"lmcore: grad_norm of the {when} step is 0.501, the module's 0.5"
        for when in ("first", "warm")
    ]
    unknown = measured("lmcore", [1.0] * 3, 1, norm=float("nan"))
    assert len(differences([unknown, THEIRS], "bfloat16")) == 2
