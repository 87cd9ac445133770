"""From seconds to figures, and from figures to a table: values in, values out."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.training.rounds import Measured
from benchmarks.training.sides import Side, Work, model_of
from lmcore.model.counts import training_flops

# Loss and gradient norm of the first steps, as in flows.trainer.compiled: kernels reorder sums,
# and bfloat16 has 8 bits of mantissa.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of several measurements.

    Example:
      >>> Spread.of([3.0, 1.0, 2.0])
      Spread(median=2.0, least=1.0, greatest=3.0)
    """

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """The figures of one side."""

    name: str
    side: Side
    n_params: int
    tokens_per_second: Spread
    ratio: dict[str, Spread]
    """Our speed over that of each module, block by block; above 1 ours is the greater."""
    memory_bytes: int
    memory_ratio: dict[str, float]
    """Our peak over that of each module; below 1 ours is the smaller."""
    reserved_bytes: int
    """What PyTorch took of a GPU at most, CUDA graphs included; 0 on a CPU."""
    compile_seconds: float | None
    """Warming up, less what as many steps take later; None in eager mode."""
    share_of_matmul: float
    """FLOP/s of the model over those of a large matrix product."""
    share_of_vendor: float | None
    """Model FLOPs utilisation: the same over the vendor's peak; None where it is not known."""
    loss: float
    """Of the last step."""
    block_seconds: list[float]


def rows(measured: list[Measured], work: Work, matmul: float, vendor: float | None) -> list[Row]:
    """The figures of every side that came to its end.

    Args:
      measured: in any order; ours are compared with each module.
      work: what each did.
      matmul: FLOP/s of a large matrix product.
      vendor: the vendor's FLOP/s, or None.
    """
    done = [one for one in measured if not one.failed]
    modules = [one for one in done if one.side.kind != "lmcore"]
    return [
        row(one, modules if one.side.kind == "lmcore" else [], work, matmul, vendor) for one in done
    ]


def row(
    one: Measured, modules: list[Measured], work: Work, matmul: float, vendor: float | None
) -> Row:
    """The figures of one side, compared with the modules given."""
    speeds = [work.steps * work.tokens_of_step / seconds for seconds in one.seconds]
    speed = Spread.of(speeds)
    model = model_of(one.side.kind, work.case.model)
    flops = speed.median * training_flops(model, 1)
    steady = work.warmup_steps * median(one.seconds) / work.steps
    return Row(
        name=one.side.name,
        side=one.side,
        n_params=one.ready["n_params"],
        tokens_per_second=speed,
        ratio={
            other.side.name: Spread.of(
                [theirs / ours for ours, theirs in zip(one.seconds, other.seconds, strict=True)]
            )
            for other in modules
        },
        memory_bytes=one.memory_bytes,
        reserved_bytes=one.reserved_bytes,
        memory_ratio={m.side.name: one.memory_bytes / m.memory_bytes for m in modules},
        compile_seconds=max(0.0, one.ready["warmup_seconds"] - steady)
        if one.side.compile
        else None,
        share_of_matmul=flops / matmul if matmul else 0.0,
        share_of_vendor=flops / vendor if vendor else None,
        loss=one.last["loss"],
        block_seconds=one.seconds,
    )


def differences(measured: list[Measured], precision: str) -> list[str]:
    """Where our steps and the faithful module's are not the same, a line each.

    They begin with the same parameters and read the same tokens, so loss and gradient norm of the
    first step, and of the last one of the warm-up, agree up to rounding.
    """
    done = [one for one in measured if not one.failed]
    expected = [one for one in done if one.side.kind == "faithful"]
    return [
        f"{one.side.name}: {name} of the {when} step is {found:.6g}, the module's {wanted:.6g}"
        for other in expected
        for one in done
        if one.side.kind == "lmcore"
        for when, key in (("first", "first"), ("warm", "warmed"))
        for name, wanted in other.ready[key].items()
        for found in [one.ready[key][name]]
        if not abs(found - wanted) <= TOLERANCE[precision] * max(1.0, abs(wanted))
    ]


def as_values(row: Row) -> dict[str, Any]:
    """A row for a JSON file."""
    return asdict(row)


def table(found: list[Row]) -> str:
    """The rows as a table for a terminal.

    Every ratio is that of the side in the row to the module that the column names: of speeds, where
    more than 1 is better, and of memory, where less is.
    """
    others = [one.name for one in found if one.side.kind != "lmcore"]
    head = ["", "tokens/s (least-most)"]
    head += [f"speed/{name}" for name in others]
    head += ["memory", *(f"memory/{name}" for name in others)]
    head += ["compile", "of matmul", "of vendor", "loss"]
    lines = [head, *(cells(one, others) for one in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def cells(one: Row, others: list[str]) -> list[str]:
    """A row's words; a module's ratios are empty."""
    speed, share, compiling = one.tokens_per_second, one.share_of_vendor, one.compile_seconds
    ours = [name for name in others if name in one.ratio]
    blank = [""] * (len(others) - len(ours))
    return [
        one.name,
        f"{speed.median:,.0f} ({speed.least:,.0f}-{speed.greatest:,.0f})",
        *([ratio_cell(one.ratio[name]) for name in ours] + blank),
        f"{one.memory_bytes / 2**20:,.0f} MiB",
        *([f"{one.memory_ratio[name]:.2f}" for name in ours] + blank),
        "" if compiling is None else f"{compiling:.1f} s",
        f"{one.share_of_matmul:.1%}",
        "" if share is None else f"{share:.1%}",
        f"{one.loss:.4f}",
    ]


def ratio_cell(ratio: Spread) -> str:
    """The median, and between which values the blocks lie."""
    return f"{ratio.median:.3f} ({ratio.least:.3f}-{ratio.greatest:.3f})"
