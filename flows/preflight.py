"""Before any work: what a run will be and cost, and whether it can fit. One screen to read."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from flows.config import RunConfig
from flows.corpora.config import SourceConfig
from flows.corpora.fetch import local_path, open_local, preflight as size_at_url
from flows.corpora.text import GZIP_MAGIC
from flows.disk.errors import free_bytes as free_disk_bytes
from flows.disk.units import size
from flows.progress.terminal import count
from flows.trainer.numerics import Resolved, loss_chunk_tokens, sustained_flops, will_compile
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.counts import ParamCounts
from lmcore.planning.budget import Budget, faults as budget_faults, plan as budget_of
from lmcore.planning.memory import fit_micro_batch
from lmcore.synthetic.stories import entropy_bits_per_byte, expected_bytes

# Share of the free memory that a run may plan for.
MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Outline:
    """A run before it begins.

    Attributes:
      config: the run's settings, the vocabulary taken at its largest.
      device: where it will compute.
      budget: what it costs.
      memory_free: what a training process may take, 0 when unknown.
      disk_free: room on the disk of the artifacts.
      faults: why it cannot be, a line each.
    """

    config: RunConfig
    device: str
    budget: Budget
    memory_free: float
    disk_free: float
    faults: tuple[str, ...]

    def rows(self, numerics: Resolved) -> list[tuple[str, str]]:
        """What to show, a name and a finding each."""
        config, model, budget = self.config, self.config.model, self.budget
        precision = config.training.precision
        speed = sustained_flops(self.device, precision, numerics.threads) * numerics.processes
        return [
            ("corpus", describe_corpus(config.source)),
            *entropy_row(config.source),
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
                f"{budget.params.total:,} ({budget.params.non_embedding:,} outside embeddings)",
            ),
            ("", parts(budget.params)),
            (
                "training",
                f"{count(budget.tokens)} tokens = {budget.steps:,} steps of "
                f"{config.training.batch_size} x {model.context_length}; "
                f"{budget.tokens_per_parameter:.1f} a parameter",
            ),
            (
                "work",
                f"{budget.flops:.2e} FLOPs (3 x forward); "
                f"roughly {roughly(budget.flops / speed)} at {count(speed)}FLOP/s",
            ),
            (
                "numerics",
                f"{self.device}, {precision}, {numerics.threads} threads x "
                f"{numerics.processes} processes, {numerics.micro_batch} sequences at once, "
                + ("compiled" if numerics.compile else "eager")
                + (
                    f", logits of {numerics.loss_chunk_tokens:,} tokens at once"
                    if numerics.loss_chunk_tokens
                    else ""
                )
                + (", blocks computed twice" if numerics.activation_checkpointing else ""),
            ),
            ("memory", f"about {size(budget.memory.total)}{of(self.memory_free)}"),
            ("disk", f"about {size(budget.disk.total)}{of(self.disk_free)}"),
        ]


def parts(params: ParamCounts) -> str:
    """The parameters by part, those that are there."""
    present = {name: n for name, n in params.by_part().items() if n}
    return ", ".join(f"{name.replace('_', ' ')} {count(n)}" for name, n in present.items())


def entropy_row(source: SourceConfig) -> list[tuple[str, str]]:
    """The floor of the embedded corpus."""
    if source.kind != "stories":
        return []
    return [("entropy", f"{entropy_bits_per_byte():.4f} bits a byte: no honest model goes below")]


def plan(config: RunConfig, device: str, root: Path, keep_checkpoints: int) -> Outline:
    """Work out what a run will be, and what stands against it.

    Args:
      config: settings without faults; a local text is there.
      device: where training will compute.
      root: the artifacts folder, which need not exist.
      keep_checkpoints: how many stay on the disk.
    """
    model = largest_model(config)
    memory_free = free_memory_bytes(device) / (1 if device == "cuda" else config.numerics.processes)
    usable = memory_free * MEMORY_SHARE
    disk_free = float(free_disk_bytes(root))
    asked = config.numerics.micro_batch
    flops = budget_of(model, config.training, micro_batch=1).flops
    execution: dict[str, Any] = {
        "n_ranks": config.numerics.processes,
        "loss_chunk_tokens": loss_chunk_tokens(config.numerics.loss_chunk_tokens, device),
        "activation_checkpointing": config.numerics.activation_checkpointing,
        "device": device,
        "compiled": will_compile(
            config.numerics, device, total_flops=flops, precision=config.training.precision
        ),
    }
    budget = budget_of(
        model,
        config.training,
        micro_batch=asked or fit_micro_batch(model, config.training, usable, **execution),
        corpus_bytes=known_corpus_bytes(config.source),
        # a restore point stays besides
        keep_checkpoints=keep_checkpoints + bool(config.training.max_rollbacks),
        **execution,
    )
    faults = [*budget_faults(budget, usable, disk_free), *short_texts(config, model.context_length)]
    shown = replace(config, model=model)
    return Outline(shown, device, budget, memory_free, disk_free, tuple(faults))


def largest_model(config: RunConfig) -> ModelConfig:
    """The model with the largest vocabulary that the tokenizer may come to."""
    vocab_size = max(config.model.vocab_size, config.tokenizer.vocab_size)
    return replace(config.model, vocab_size=vocab_size)


def stage_bytes(
    stage: str, config: RunConfig, keep_checkpoints: int, corpus_bytes: int | None = None
) -> int:
    """About how much a stage will write, to refuse it before it begins; 0 where it is little.

    Args:
      stage: its name.
      config: settings without faults.
      keep_checkpoints: how many stay on the disk.
      corpus_bytes: of the corpus once it is there; before, what is known of it counts.

    Returns:
      Bytes. Token maps are left out: they are shared by runs, may be there already, and claim
      their room as a whole before they are written.
    """
    disk = budget_of(
        largest_model(config),
        config.training,
        micro_batch=1,
        corpus_bytes=known_corpus_bytes(config.source) if corpus_bytes is None else corpus_bytes,
        # a restore point stays besides
        keep_checkpoints=keep_checkpoints + bool(config.training.max_rollbacks),
    ).disk
    needs = {
        "download": disk.corpus,
        "pretokenize": disk.tokens // 2,  # the other half are the maps
        "pretrain": disk.checkpoints + disk.model,
    }
    return needs.get(stage, 0)


def short_texts(config: RunConfig, context_length: int) -> list[str]:
    """Texts that cannot fill one window, for a token is one byte at least."""
    return [
        f"the {split} text has {n_bytes:,} bytes, fewer than context_length "
        f"{context_length} tokens: lower --model.context-length or give more text"
        for split in ("train", "valid")
        if is_plain(config, split)
        if (n_bytes := known_bytes(config.source, split)) < context_length
    ]


def free_memory_bytes(device: str = "cpu") -> float:
    """Memory that a new process may take on the device; 0 where nobody says."""
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0])
    if sys.platform != "linux":
        return 0.0
    free = min(system_memory(), *cgroup_memory())
    return free if free < float("inf") else 0.0


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


def is_plain(config: RunConfig, split: str) -> bool:
    """Whether a text is surely not packed: a packed one has more characters than bytes."""
    source = config.source
    if source.kind == "stories":
        return True
    url = getattr(source, f"{split}_url")
    if not url.startswith("file:") or config.reading.format == "parquet":
        return False
    with open_local(local_path(url, f"--corpus.{split}"), f"--corpus.{split}") as file:
        return file.read(len(GZIP_MAGIC)) != GZIP_MAGIC


def unanswered(source: SourceConfig, where: Literal["here", "elsewhere"]) -> list[str]:
    """What is wrong with the URLs of this machine, or with those of others, which are asked."""
    found = []
    for split in ("train", "valid"):
        url = getattr(source, f"{split}_url")
        if source.kind == "url" and url.startswith("file:") == (where == "here"):
            try:
                size_at_url(url, f"--corpus.{split}")
            except InputError as error:
                found.append(str(error))
    return found


def describe_corpus(source: SourceConfig) -> str:
    """The corpus in a line."""
    if source.kind == "stories":
        return (
            f"embedded stories, {source.n_train_stories:,} to train on (about "
            f"{size(known_bytes(source, 'train'))}), {source.n_valid_stories:,} to validate"
        )
    known = known_corpus_bytes(source)
    return f"{source.train_url}" + (f" ({size(known)} with validation)" if known else "")


def roughly(seconds: float) -> str:
    """A duration of which no more is known than two figures.

    Example:
      >>> roughly(42), roughly(301), roughly(7_055), roughly(36_000), roughly(1e6)
      ('42 seconds', '5 minutes', '2 hours', '10 hours', '12 days')
    """
    units = (("days", 86_400, 2), ("hours", 3_600, 1.5), ("minutes", 60, 1.5))
    for name, length, least in units:
        if seconds >= least * length:
            return f"{float(f'{seconds / length:.2g}'):g} {name}"
    return f"{seconds:.0f} seconds"


def of(free: float) -> str:
    """How much there is, for a table."""
    return f" of {size(free)} free" if free > 0 else ""


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
