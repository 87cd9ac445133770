"""Pictures of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.disk.atomic import new_file


def draw_loss(records: Sequence[Mapping], path: Path, result: Mapping) -> None:
    """Draw training and validation loss over tokens, and the corpus's floor where it is known.

    Args:
      records: the metrics log.
      path: the PNG file to write.
      result: the evaluation; its ``floor_nats_per_token`` is drawn where it is there.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, StrMethodFormatter

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    train = [r for r in records if r["kind"] == "train" and r["loss"] is not None]
    valid = [r for r in records if r["kind"] == "validation" and r["loss"] is not None]
    tokens_per_step = train[0]["tokens"] / train[0]["step"] if train else 1.0
    axes.plot(
        [r["tokens"] for r in train], [r["loss"] for r in train], lw=0.8, alpha=0.6, label="train"
    )
    seen = [r["step"] * tokens_per_step for r in valid]
    axes.plot(seen, [r["loss"] for r in valid], "o-", ms=4, label="valid")
    floor = result.get("floor_nats_per_token")
    if floor:
        axes.axhline(floor, color="black", ls="--", lw=1, label="entropy of the corpus")
    axes.set(xlabel="tokens seen", ylabel="loss (nats a token)", yscale="log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    with new_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
