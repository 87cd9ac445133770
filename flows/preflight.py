"""Before any work: what a run will be and cost, and whether it can fit. One screen to read."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from flows.corpora.config import SourceConfig
from flows.corpora.fetch import preflight as size_at_url
from flows.progress.terminal import clock, count, size
from flows.trainer.numerics import SUSTAINED_FLOPS, Resolved
from lmcore.errors import InputError
from lmcore.model.counts import (
    ParamCounts,
    activation_bytes,
    count_params,
    training_flops,
)
from lmcore.synthetic.stories import entropy_bits_per_byte, expected_bytes
from lmcore.training.config import n_steps

# Weights, gradients and AdamW's two moments in float32, and the new parameters beside the old.
BYTES_PER_PARAMETER = 20
TORCH_BYTES = 400e6  # what a training process holds before its first tensor
# Share of the free memory that a run may plan for.
MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Outline:
    """A run before it begins, in numbers.

    Attributes:
      config: the run's settings, the vocabulary taken at its largest.
      device: where it will compute.
      params: the model's parameters.
      steps: training steps.
      training_flops: of the whole training.
      micro_batch: sequences of a process that fit into memory at once.
      memory_bytes: estimated peak of a training process; 0 where none fits.
      memory_free: what there is, 0 when unknown.
      disk_bytes: estimated room for the artifacts, corpus included where its size is known.
      disk_free: what there is.
      faults: why it cannot be, a line each.
    """

    config: RunConfig
    device: str
    params: ParamCounts
    steps: int
    training_flops: float
    micro_batch: int
    memory_bytes: float
    memory_free: float
    disk_bytes: float
    disk_free: float
    faults: tuple[str, ...]

    def rows(self, numerics: Resolved) -> list[tuple[str, str]]:
        """What to show, a name and a finding each."""
        config, model = self.config, self.config.model
        tokens = self.steps * config.training.batch_size * model.context_length
        parts = ", ".join(f"{name.replace('_', ' ')} {count(n)}" for name, n in self.parts())
        seconds = self.training_flops / (SUSTAINED_FLOPS[self.device] * numerics.processes)
        split = numerics.micro_batch * numerics.processes
        rows = [
            ("corpus", describe_corpus(config.source)),
            (
                "tokenizer",
                f"byte-level BPE, {config.tokenizer.vocab_size:,} tokens at most, "
                f"{config.tokenizer.pattern} pre-tokens",
            ),
            (
                "model",
                f"{model.n_layers} layers of {model.d_model}, {model.n_heads} heads, "
                f"{model.feed_forward}, {model.norm} {model.norm_position}, {model.positions}, "
                f"context {model.context_length}",
            ),
            (
                "parameters",
                f"{self.params.total:,} ({self.params.non_embedding:,} outside embeddings)",
            ),
            ("", parts),
            (
                "training",
                f"{count(tokens)} tokens = {self.steps:,} steps of {config.training.batch_size} x "
                f"{model.context_length}; {tokens / max(1, self.params.total):.1f} a parameter",
            ),
            (
                "work",
                f"{self.training_flops:.2e} FLOPs, 3 x forward; about {clock(seconds)} at "
                f"{count(SUSTAINED_FLOPS[self.device] * numerics.processes)}FLOP/s",
            ),
            (
                "numerics",
                f"{self.device}, {config.training.precision}, {numerics.threads} threads x "
                f"{numerics.processes} processes, {split} sequences at once"
                + (", compiled" if numerics.compile else ", eager"),
            ),
            ("memory", f"about {size(self.memory_bytes)}{of(self.memory_free)}"),
            ("disk", f"about {size(self.disk_bytes)}{of(self.disk_free)}"),
        ]
        if config.source.kind == "stories":
            floor = f"{entropy_bits_per_byte():.4f} bits per byte: no honest model is below it"
            rows.insert(1, ("entropy", floor))
        return rows

    def parts(self) -> list[tuple[str, int]]:
        """The parameters by part, those that are there."""
        return [(name, n) for name, n in self.params.by_part().items() if n]


def plan(config: RunConfig, device: str, root: Path) -> Outline:
    """Work out what a run will be, and what stands against it.

    Args:
      config: settings without faults.
      device: where training will compute.
      root: the artifacts folder, which need not exist.
    """
    vocab_size = max(config.model.vocab_size, config.tokenizer.vocab_size)
    model = replace(config.model, vocab_size=vocab_size)
    training = config.training
    params = count_params(model)
    steps = n_steps(training, model.context_length)
    rows = training.batch_size // config.numerics.processes
    memory_free = free_memory_bytes(device)
    micro_batch, memory = fitting(
        replace(config, model=model), params, rows, memory_free * MEMORY_SHARE
    )
    corpus = known_corpus_bytes(config.source)
    checkpoint = 12 * params.total
    # The corpus, its tokens twice (Parquet and map, about 2 of 4 bytes each), checkpoints, weights.
    disk = 2 * corpus + 5 * checkpoint + 5e6
    outline = Outline(
        config=replace(config, model=model),
        device=device,
        params=params,
        steps=steps,
        training_flops=float(
            training_flops(model, steps * training.batch_size * model.context_length)
        ),
        micro_batch=micro_batch,
        memory_bytes=memory,
        memory_free=memory_free,
        disk_bytes=disk,
        disk_free=free_disk_bytes(root),
        faults=(),
    )
    return replace(outline, faults=tuple(faults(outline, config.source)))


def faults(outline: Outline, source: SourceConfig) -> list[str]:
    """What stands against a run: memory, disk, a validation text that fills no window."""
    found = []
    if outline.memory_free and outline.memory_bytes > MEMORY_SHARE * outline.memory_free:
        found.append(
            f"training needs about {size(outline.memory_bytes)} of memory, one sequence at a time, "
            f"and {size(outline.memory_free)} are free: lower --model.d-model, --model.n-layers or "
            "--model.context-length"
        )
    if outline.disk_bytes > outline.disk_free:
        found.append(
            f"the run needs about {size(outline.disk_bytes)} of disk and {size(outline.disk_free)} "
            "are free: make room, or give --artifacts a folder on a larger disk"
        )
    for split in ("train", "valid"):
        n_bytes = known_bytes(source, split)
        if n_bytes and n_bytes < outline.config.model.context_length and is_plain(source, split):
            found.append(
                f"the {split} text has {n_bytes:,} bytes, fewer than context_length "
                f"{outline.config.model.context_length} tokens: lower --model.context-length or "
                "give more text"
            )
    return found


def fitting(config: RunConfig, params: ParamCounts, rows: int, memory: float) -> tuple[int, float]:
    """The largest divisor of ``rows`` that fits into ``memory`` bytes (0: unknown), and its need.

    Where not even one sequence fits, one sequence and its need.
    """
    divisors = [n for n in range(rows, 0, -1) if rows % n == 0]
    asked = config.numerics.micro_batch
    candidates = [asked] if asked else divisors
    needs = {n: memory_bytes(config, params, n) for n in candidates}
    fit = [n for n, need in needs.items() if not memory or need <= memory]
    chosen = fit[0] if fit else candidates[-1]
    return chosen, needs[chosen]


def memory_bytes(config: RunConfig, params: ParamCounts, micro_batch: int) -> float:
    """Estimated peak of a training process with so many sequences at once."""
    value_bytes = 4 if config.training.precision == "float32" else 2
    model = config.model
    activations = activation_bytes(
        model, micro_batch, model.context_length, bytes_per_value=value_bytes
    )
    gradient_of_logits = 4 * micro_batch * model.context_length * model.vocab_size
    return BYTES_PER_PARAMETER * params.total + activations.total + gradient_of_logits + TORCH_BYTES


def free_memory_bytes(device: str = "cpu") -> float:
    """Memory that a new process may take on the device; 0 where nobody says."""
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0])
    if sys.platform != "linux":
        return 0.0
    return min(system_memory(), *cgroup_memory())


def system_memory() -> float:
    """MemAvailable of Linux; infinite where it is not said."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return float(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return float("inf")


def cgroup_memory() -> list[float]:
    """What the container's limit leaves; infinite where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = float((folder / "memory.current").read_text())
        return [float("inf") if limit == "max" else float(limit) - used]
    except (OSError, ValueError):
        return [float("inf")]


def free_disk_bytes(folder: Path) -> float:
    """Free bytes on the disk of a folder that may not exist yet."""
    there = next(path for path in [folder, *folder.parents] if path.exists())
    return float(shutil.disk_usage(there).free)


def known_bytes(source: SourceConfig, split: str) -> int:
    """Size of a text as downloaded; 0 where it is not known before."""
    if source.kind == "stories":
        return round(expected_bytes() * getattr(source, f"n_{split}_stories"))
    url = getattr(source, f"{split}_url")
    if url.startswith("file:"):
        return size_at_url(url, f"--corpus.{split}")
    return getattr(source, f"{split}_bytes")


def known_corpus_bytes(source: SourceConfig) -> int:
    """Size of both texts, as far as known."""
    return known_bytes(source, "train") + known_bytes(source, "valid")


def is_plain(source: SourceConfig, split: str) -> bool:
    """Whether a text is likely not packed: a packed one has more characters than bytes."""
    return source.kind == "stories" or not getattr(source, f"{split}_url").endswith(".gz")


def check_urls(source: SourceConfig) -> None:
    """Ask whether remote texts are there.

    Raises:
      InputError: one is not, or nobody answers.
    """
    for split in ("train", "valid"):
        url = getattr(source, f"{split}_url")
        if source.kind == "url" and not url.startswith("file:"):
            size_at_url(url, f"--corpus.{split}")


def describe_corpus(source: SourceConfig) -> str:
    """The corpus in a line."""
    if source.kind == "stories":
        return (
            f"embedded stories, {source.n_train_stories:,} to train on (about "
            f"{size(known_bytes(source, 'train'))}), {source.n_valid_stories:,} to validate"
        )
    known = known_corpus_bytes(source)
    return f"{source.train_url}" + (f" ({size(known)} with validation)" if known else "")


def of(free: float) -> str:
    """How much there is, for a table."""
    return f" of {size(free)} free" if 0 < free < float("inf") else ""


def refuse(faults: Sequence[str]) -> None:
    """Raise one error that lists all faults, if there are any.

    Raises:
      InputError: there are.
    """
    if len(faults) == 1:
        raise InputError(faults[0])
    if faults:
        raise InputError("\n".join([f"{len(faults)} things to mend:", *(f"- {f}" for f in faults)]))


def screen(rows: list[tuple[str, str]], title: str) -> Any:
    """The plan as something that rich can print."""
    from rich.panel import Panel
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for name, finding in rows:
        grid.add_row(name, finding)
    return Panel(grid, title=title, title_align="left", expand=False)
