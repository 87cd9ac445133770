"""The five stages as requests: what each is keyed by, and how each is called.

This is the only place that knows both the stages and the store. A request names the slice of the
config that the stage means, its input artifacts, the modules whose code decides its bytes, and the
packages whose versions do.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flows.config import Execution, RunConfig
from flows.corpora.config import SourceConfig
from flows.corpora.http_download import shown
from flows.corpora.published import name_of
from flows.disk.atomic import file_sha256
from flows.progress.events import Event, Notify
from flows.stages import download, evaluate, pretokenize, pretrain, tokenizer
from flows.stages.product import Product
from flows.store.key import Request
from flows.store.lock import held_descriptors
from flows.store.record import Artifact
from flows.trainer.job import Job
from flows.trainer.numerics import Resolved
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.planning.budget import plan
from lmcore.tokenizer.word_counts import MapInOrder
from lmcore.training.config import TrainingConfig

SPLITS = ("train", "valid")
SHARED_OUT_BYTES = (
    1 << 25
)  # of a text; the words of a smaller one are counted in less than a second
Upstream = Mapping[str, Artifact]


@dataclass(frozen=True)
class Context:
    """What a build needs beside its slice and inputs; nothing here is in a key."""

    config: RunConfig
    execution: Execution
    numerics: Resolved
    root: Path
    notify: Notify
    map_in_order: MapInOrder


@dataclass(frozen=True)
class Stage:
    """One stage: the stages it takes artifacts from, its request, and its call."""

    inputs: tuple[str, ...]
    request: Callable[[RunConfig, Upstream], Request]
    build: Callable[[Context, Upstream, Path, Path], Product]


def download_request(config: RunConfig, upstream: Upstream) -> Request:
    """A local file is an input: its digest is in the key, so that an edit of it is seen."""
    local = {
        f"{split} file": digest_of_local_file(getattr(config.source, f"{split}_url"))
        for split in SPLITS
        if getattr(config.source, f"{split}_url").startswith("file:")
    }
    return Request("download", config.source, local, ("flows.stages.download",))


def digest_of_local_file(url: str) -> str:
    path = Path(unquote(urlsplit(url).path))
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"{url} cannot be read ({error.strerror}); check the path") from error


def download_build(context: Context, upstream: Upstream, out_dir: Path, work_dir: Path) -> Product:
    return download.run(context.config.source, out_dir, work_dir, context.notify)


def tokenizer_request(config: RunConfig, upstream: Upstream) -> Request:
    return Request(
        "tokenizer",
        {"tokenizer": config.tokenizer, "reading": config.reading},
        {"corpus": upstream["download"]},
        ("flows.stages.tokenizer",),
    )


def tokenizer_build(context: Context, upstream: Upstream, out_dir: Path, _: Path) -> Product:
    config, corpus = context.config, upstream["download"]
    train = corpus.path / "train"
    shared_out = context.map_in_order if train.stat().st_size >= SHARED_OUT_BYTES else None
    with naming_texts(config.source, corpus):
        return tokenizer.run(
            config.tokenizer, config.reading, train, out_dir, context.notify, shared_out
        )


def pretokenize_request(config: RunConfig, upstream: Upstream) -> Request:
    return Request(
        "pretokenize",
        {"pretokenize": config.pretokenize, "reading": config.reading},
        {"corpus": upstream["download"], "tokenizer": upstream["tokenizer"]},
        ("flows.stages.pretokenize",),
    )


def pretokenize_build(
    context: Context, upstream: Upstream, out_dir: Path, work_dir: Path
) -> Product:
    config, corpus, trained = context.config, upstream["download"], upstream["tokenizer"]
    with naming_texts(config.source, corpus):
        return pretokenize.run(
            config.pretokenize,
            config.reading,
            {split: corpus.path / split for split in SPLITS},
            trained.path / tokenizer.FILE,
            trained.digest,
            out_dir,
            work_dir,
            context.notify,
            context.map_in_order,
        )


@contextmanager
def naming_texts(source: SourceConfig, corpus: Artifact) -> Iterator[None]:
    """Let an error about a text name the URL that the user gave, not our copy of it.

    Raises:
      InputError: in place of one that names the copy.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        for split in SPLITS if source.kind == "url" else ():
            url = shown(getattr(source, f"{split}_url"))
            message = message.replace(str(corpus.path / split), f"the {split} text {url}")
        raise InputError(message) from error


def settled_model(config: RunConfig, upstream: Upstream) -> ModelConfig:
    """The model's config with the vocabulary that the tokenizer came to.

    Raises:
      InputError: ``--model.vocab-size`` is smaller than that.
    """
    trained = int(upstream["tokenizer"].facts["vocab_size"])
    wanted = config.model.vocab_size
    if 0 < wanted < trained:
        raise InputError(
            f"--model.vocab-size is {wanted}: the tokenizer has {trained} tokens; raise it, or "
            "leave it 0 to take the tokenizer's"
        )
    return replace(config.model, vocab_size=wanted or trained)


def pretrain_request(config: RunConfig, upstream: Upstream) -> Request:
    return Request(
        "pretrain",
        {"model": settled_model(config, upstream), "training": config.training},
        {"tokenizer": upstream["tokenizer"], "tokens": upstream["pretokenize"]},
        ("flows.stages.pretrain", "flows.trainer.loop"),
        ("torch",),
    )


def pretrain_build(context: Context, upstream: Upstream, out_dir: Path, work_dir: Path) -> Product:
    execution, config = context.execution, context.config
    tokens = upstream["pretokenize"].facts
    pretrain.refuse_short_texts(tokens, config.model.context_length)
    tell_times_seen(settled_model(config, upstream), config.training, tokens, context.notify)
    numerics = pretrain.fixed_numerics(
        work_dir, context.numerics, config.numerics, execution.allow_drift, context.notify
    )
    job = replace(
        new_job("pretrain", context, upstream, out_dir, work_dir),
        numerics=numerics,
        metrics=str(work_dir / "metrics.jsonl"),
        log_every=execution.log_every,
        checkpoint_every=execution.checkpoint_every,
        keep_checkpoints=execution.keep_checkpoints,
    )
    return pretrain.run(job, context.notify, held_descriptors())


def tell_times_seen(
    model: ModelConfig, training: TrainingConfig, tokens: Mapping, notify: Notify
) -> None:
    """Say how often the text will be seen: a run that sees it many times gains by dropout."""
    targets = pretrain.n_targets(tokens["train"])
    epochs = plan(model, training, micro_batch=1, corpus_tokens=targets).epochs
    notify(Event("note", "pretrain", f"the training text will be seen {epochs:,.2f} times"))


def evaluate_request(config: RunConfig, upstream: Upstream) -> Request:
    return Request(
        "evaluate",
        {
            "evaluation": config.evaluation,
            "known_entropy": config.source.kind == "stories",
            "reference": reference(config),
            # Equal weights may be another function: head count, norm position, precision.
            "model": settled_model(config, upstream),
            "precision": config.training.precision,
        },
        {
            "corpus": upstream["download"],
            "tokenizer": upstream["tokenizer"],
            "tokens": upstream["pretokenize"],
            "model": upstream["pretrain"],
        },
        # The training process only opens the token map; what made it decides the tokens it holds.
        ("flows.stages.evaluate", "flows.trainer.scoring", "flows.formats.token_map_builder"),
        ("torch",),
    )


def reference(config: RunConfig) -> dict[str, str | int]:
    """What decides which published results the run is held against; empty where none are known."""
    corpus = name_of(config.source)
    return {"corpus": corpus, "n_tokens": config.training.tokens} if corpus else {}


def evaluate_build(context: Context, upstream: Upstream, out_dir: Path, work_dir: Path) -> Product:
    config = context.config
    known = {"known_entropy": config.source.kind == "stories", "reference": reference(config)}
    job = replace(
        new_job("evaluate", context, upstream, out_dir, work_dir),
        settings=vars(config.evaluation) | known,
    )
    return evaluate.run(job, upstream["pretrain"].path, context.notify, held_descriptors())


def new_job(stage: str, context: Context, upstream: Upstream, out_dir: Path, work_dir: Path) -> Job:
    """A job with what both kinds of process need."""
    tokens = upstream["pretokenize"]
    maps = {
        split: str(
            pretrain.map_tokens(
                tokens.path, tokens.facts, split, context.root / "maps", context.notify, stage
            )
        )
        for split in SPLITS
    }
    return Job(
        stage=stage,
        model=settled_model(context.config, upstream),
        training=context.config.training,
        numerics=context.numerics,
        train_tokens=maps["train"],
        valid_tokens=maps["valid"],
        tokenizer=str(upstream["tokenizer"].path / tokenizer.FILE),
        work_dir=str(work_dir),
        out_dir=str(out_dir),
        compiled=str((context.root / "compiled").absolute()),
    )


STAGES: dict[str, Stage] = {
    "download": Stage((), download_request, download_build),
    "tokenizer": Stage(("download",), tokenizer_request, tokenizer_build),
    "pretokenize": Stage(("download", "tokenizer"), pretokenize_request, pretokenize_build),
    "pretrain": Stage(("tokenizer", "pretokenize"), pretrain_request, pretrain_build),
    "evaluate": Stage(
        ("download", "tokenizer", "pretokenize", "pretrain"), evaluate_request, evaluate_build
    ),
}
