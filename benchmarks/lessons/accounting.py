"""Parameters, FLOPs and memory of a step by model size, from the settings alone."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from flows.presets import PRESETS
from lmcore.model.config import ModelConfig
from lmcore.model.counts import activation_bytes, count_params, forward_flops
from lmcore.planning.memory import memory_bytes
from lmcore.training.config import TrainingConfig

_GPT2 = ModelConfig(vocab_size=50_257, context_length=1_024, feed_forward="swiglu")
_XL = replace(_GPT2, n_layers=48, d_model=1_600, n_heads=25, d_ff=6_400)

# The assignment's four, with its architecture: a gated feed-forward layer, an untied head.
GPT2: dict[str, ModelConfig] = {
    "GPT-2 small": replace(_GPT2, n_layers=12, d_model=768, n_heads=12, d_ff=3_072),
    "GPT-2 medium": replace(_GPT2, n_layers=24, d_model=1_024, n_heads=16, d_ff=4_096),
    "GPT-2 large": replace(_GPT2, n_layers=36, d_model=1_280, n_heads=20, d_ff=5_120),
    "GPT-2 XL": _XL,
    "XL, context 16,384": replace(_XL, context_length=16_384),
}


def models() -> dict[str, ModelConfig]:
    """The sizes of GPT-2, and our presets that differ in their model."""
    names = ("quickstart", "tinystories", "tinystories-small", "tinystories-base", "owt-small",
             "cs336")  # fmt: skip
    ours = {
        f"`{name}`": replace(PRESETS[name].model, vocab_size=PRESETS[name].tokenizer.vocab_size)
        for name in names
    }
    return GPT2 | ours


def parameters() -> str:
    """Parameters by part, in millions."""
    rows = []
    for name, model in models().items():
        if "context" in name:
            continue  # a longer context has no more parameters
        found = count_params(model)
        parts = (found.embedding, found.attention, found.feed_forward, found.norms)
        rows.append([name, *map(millions, parts), millions(found.total)])
    return markdown(["model", "embeddings and head", "attention", "FFN", "norms", "in all"], rows)


def flops() -> str:
    """Shares of the FLOPs of a forward pass over one sequence of the context's length."""
    rows = []
    for name, model in models().items():
        found = forward_flops(model, 1, model.context_length)
        shares = [f"{part / found.total:.1%}" for part in found.by_part().values()]
        rows.append([name, *shares, engineering(found.total)])
    head = ["model", "QKV", "QKᵀ", "PV", "output", "FFN", "head", "FLOPs of a sequence"]
    return markdown(head, rows)


def memory() -> str:
    """Memory of a step in float32 with one sequence at once, by part."""
    rows = []
    for name, model in models().items():
        n = count_params(model).total
        kept = activation_bytes(model, 1, model.context_length).total
        peak = memory_bytes(model, TrainingConfig(batch_size=1), micro_batch=1).total
        rows.append([name, *(gigabytes(size) for size in (4 * n, 4 * n, 8 * n, kept, peak))])
    head = ["model", "parameters", "gradients", "moments", "activations", "peak, estimated"]
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its first column left, the others right.

    Example:
      >>> print(markdown(["a", "b"], [["x", "1"]]))
      | a | b |
      |---|---:|
      | x | 1 |
    """
    lines = ["|".join(["", "---", *["---:"] * (len(head) - 1), ""])]
    return "\n".join([row_of(head), *lines, *map(row_of, rows)])


def row_of(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def millions(n: int) -> str:
    """A count in millions, to three digits or so.

    Example:
      >>> millions(984_448), millions(2_127_057_600)
      ('0.984', '2,127')
    """
    return f"{n / 1e6:,.0f}" if n >= 1e8 else f"{n / 1e6:.3g}"


def engineering(n: float) -> str:
    """FLOPs with a unit.

    Example:
      >>> engineering(4_513_336_524_800)
      '4.51 T'
    """
    scale, unit = (1e12, "T") if n >= 1e12 else (1e9, "G")
    return f"{n / scale:.2f} {unit}"


def gigabytes(n: float) -> str:
    """Bytes in GB.

    Example:
      >>> gigabytes(8_508_230_400), gigabytes(1_234_567)
      ('8.51', '0.0012')
    """
    return f"{n / 1e9:,.2f}" if n >= 1e8 else f"{n / 1e9:.2g}"
