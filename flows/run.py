"""One run: checked and planned before any work, its artifacts obtained, its folder kept."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from flows import config as configuration
from flows.arguments import parse
from flows.catalog import STAGES, Context
from flows.config import Execution, RunConfig, refuse
from flows.corpora import config as corpora
from flows.disk.atomic import new_file
from flows.disk.errors import disk_errors
from flows.preflight import plan, screen, stage_bytes, unanswered
from flows.progress.events import Event, Notify
from flows.report.collect import collect
from flows.report.report import Report
from flows.stages import evaluate, pretokenize
from flows.store.explain import why
from flows.store.publish import Artifact, Built, Event as StoreEvent, produce
from flows.trainer import numerics
from flows.trainer.numerics import available_cores
from lmcore.errors import InputError
from lmcore.model import config as models
from lmcore.tokenizer import config as tokenizers
from lmcore.training import config as trainings


@dataclass(frozen=True)
class Run:
    """A run that has been checked: its settings, its folder, and who watches it."""

    preset: str
    context: Context
    folder: Path

    @property
    def config(self) -> RunConfig:
        return self.context.config


def prepare(preset: str, words: Sequence[str], map_shards: Callable, notify: Notify) -> Run:
    """Read the settings, refuse what cannot work, show the plan. No work is done before.

    Args:
      preset: the run to start from.
      words: settings as on the command line.
      map_shards: shares shards out, given a runner and a number of workers.
      notify: who is told what happens.

    Raises:
      InputError: all that is wrong with the settings at once, or the first thing that the
        machine, the disk or a URL refuses.
    """
    config, execution = parse(preset, words)
    refuse(faults(config, execution))
    refuse(unanswered(config.source, "here"))
    device = numerics.choose_device(config.numerics.device)
    config = with_precision(config, device)
    root = artifacts_folder(execution)
    outline = plan(config, device, root, execution.keep_checkpoints)
    refuse(outline.faults)
    resolved = numerics.resolve(
        config.numerics,
        device=device,
        total_flops=outline.budget.flops,
        micro_batch=outline.budget.micro_batch,
        precision=config.training.precision,
    )
    notify(
        Event(
            "note", "preflight", data={"plan": screen(outline.rows(resolved), f"the run: {preset}")}
        )
    )
    if not downloaded(config, root):
        refuse(unanswered(config.source, "elsewhere"))
    folder = open_folder(root, execution.name or default_name(preset, config))
    shared_out = partial(
        map_shards, runner=execution.runner, workers=execution.workers or available_cores()
    )
    context = Context(config, execution, resolved, root, notify, shared_out)
    run = Run(preset, context, folder)
    describe(run, {})
    return run


def artifacts_folder(execution: Execution) -> Path:
    """The artifacts folder's absolute path; it need not exist.

    Raises:
      InputError: the path leads round in circles, or through a folder that is closed to us.
    """
    try:
        root = Path(execution.artifacts).resolve()
        (root / "store").exists()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{execution.artifacts} cannot be followed ({error}): give --artifacts a folder that "
            "you can write to"
        ) from error
    return root


def downloaded(config: RunConfig, root: Path) -> bool:
    """Whether the corpus is in the store already, so that its URL need not answer."""
    return why(root, STAGES["download"].request(config, {})).hit


def faults(config: RunConfig, execution: Execution) -> list[str]:
    """Everything that is wrong with the settings."""
    special_tokens = config.tokenizer.special_tokens
    context_length = config.model.context_length
    return [
        *configuration.faults(execution),
        *corpora.faults(config.source, config.reading),
        *tokenizers.faults(config.tokenizer),
        *pretokenize.faults(config.pretokenize, special_tokens),
        *models.faults(config.model),
        *trainings.faults(config.training, context_length if context_length > 0 else None),
        *evaluate.faults(config.evaluation),
        *numerics.faults(config.numerics),
        *split_faults(config),
    ]


def split_faults(config: RunConfig) -> list[str]:
    """What is wrong with how a batch is shared out."""
    batch, asked = config.training.batch_size, config.numerics
    if asked.processes < 1 or batch < 1:
        return []
    if batch % asked.processes:
        return [
            f"--training.batch-size {batch} cannot be shared by --numerics.processes "
            f"{asked.processes}: make it a multiple"
        ]
    if asked.micro_batch > 0 and (batch // asked.processes) % asked.micro_batch:
        return [
            f"--numerics.micro-batch is {asked.micro_batch}: it must divide the "
            f"{batch // asked.processes} sequences of each process"
        ]
    return []


def with_precision(config: RunConfig, device: str) -> RunConfig:
    """The config with the precision chosen: mixed precision is meaning, so it is in the key."""
    if config.training.precision != "auto":
        return config
    precision = numerics.choose_precision(device)
    return replace(config, training=replace(config.training, precision=precision))


def obtain(run: Run, stage: str, **upstream: Artifact) -> Artifact:
    """The artifact of a stage: found and verified, or built; linked into the run's folder."""
    entry, context = STAGES[stage], run.context

    def build(out_dir: Path, work_dir: Path) -> Built:
        show_live_metrics(run, stage, work_dir)
        product = entry.build(context, upstream, out_dir, work_dir)
        return Built(product.digest, product.facts)

    context.notify(Event("started", stage))
    corpus_bytes = upstream["download"].n_bytes if "download" in upstream else None
    keep = context.execution.keep_checkpoints
    artifact = produce(
        context.root,
        entry.request(context.config, upstream),
        build,
        notify=lambda event: context.notify(translated(event)),
        verify=context.execution.verify,
        needs_bytes=stage_bytes(stage, context.config, keep, corpus_bytes),
        root_flag="--artifacts",
    )
    kind = "hit" if artifact.hit else "built"
    data = {"facts": dict(artifact.facts), "seconds": artifact.seconds, "path": str(artifact.path)}
    context.notify(Event(kind, stage, data=data))
    link(run.folder / stage, artifact.path)
    describe(run, {**upstream, stage: artifact})
    return artifact


def translated(event: StoreEvent) -> Event:
    """A store's event as one of the run's; what the run says itself becomes silence."""
    loud = {"quarantined", "unlocked", "swept"}
    kind = "warning" if event.kind in loud else "note"
    text = "" if event.kind in ("hit", "building", "built") else event.text
    return Event(kind, event.stage, text)


def default_name(preset: str, config: RunConfig) -> str:
    """The preset and six digits of what the run means: the same settings, the same folder."""
    meaning = asdict(config)
    meaning.pop("numerics")
    digits = sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:6]
    return f"{preset}-{digits}"


def open_folder(root: Path, name: str) -> Path:
    """Make the run's folder.

    Raises:
      InputError: it cannot be made.
    """
    folder = root / "runs" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}): give --artifacts a folder that you can "
            "write to"
        ) from error
    return folder


def describe(run: Run, artifacts: dict[str, Artifact]) -> None:
    """Write ``run.json``: settings, and the key and digest of each artifact so far."""
    value = {
        "preset": run.preset,
        "name": run.folder.name,
        "config": asdict(run.config),
        "artifacts": {
            stage: {"key": artifact.key, "digest": artifact.digest}
            for stage, artifact in artifacts.items()
        },
    }
    with new_file(run.folder / "run.json") as file:
        file.write(json.dumps(value, indent=2).encode())


def link(path: Path, target: Path) -> None:
    """Point ``path`` at ``target``, relative, replacing an older link.

    Raises:
      InputError: no room, not writable, or something else than a link is there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with disk_errors(path):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.path.relpath(target, path.parent))
            temporary.replace(path)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise InputError(
            f"{path} is a folder, and must become a link to {target}: move it out of the way, or "
            "give the run another --name"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def show_live_metrics(run: Run, stage: str, work_dir: Path) -> None:
    """While the model trains, its metrics can be read in the run's folder."""
    if stage == "pretrain":
        with suppress(OSError):
            link(run.folder / "metrics.jsonl", work_dir / "metrics.jsonl")


def finish(run: Run, *artifacts: Artifact) -> Report:
    """Write and show the report of a run that has all its artifacts."""
    by_stage = {artifact.stage: artifact for artifact in artifacts}
    describe(run, by_stage)
    link(run.folder / "metrics.jsonl", by_stage["pretrain"].path / "metrics.jsonl")
    with disk_errors(run.folder):
        report = collect(run.preset, run.config, run.folder, by_stage)
    run.context.notify(Event("note", "report", data={"report": report}))
    return report
