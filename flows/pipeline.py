"""The pipeline: five stages in a row, from text to an evaluated model.

Start reading here. Each stage is a plain function in `flows/stages`; `flows.run` asks the store
whether its artifact is already there, verified, and builds it where it is not. Prefect conducts
the stages and shows them; with `--engine none` the same lines are plain calls.
"""

if __name__ == "__main__":  # first, for the command line chooses the engine imported below
    import sys

    from flows.cli import main

    sys.exit(main())

from flows.conductor.shards import map_shards
from flows.conductor.watch import watching
from flows.engine import flow, task
from flows.run import Run, finish, obtain, prepare
from flows.store.publish import Artifact


@task("download")
def download(run: Run) -> Artifact:
    """The corpus: fetched by URL, or written from the embedded grammar."""
    return obtain(run, "download")


@task("tokenizer")
def train_tokenizer(run: Run, corpus: Artifact) -> Artifact:
    """A byte-level BPE tokenizer of the training text."""
    return obtain(run, "tokenizer", download=corpus)


@task("pretokenize")
def pretokenize(run: Run, corpus: Artifact, tokenizer: Artifact) -> Artifact:
    """Both texts as token ids, in Parquet shards."""
    return obtain(run, "pretokenize", download=corpus, tokenizer=tokenizer)


@task("pretrain")
def pretrain(run: Run, tokenizer: Artifact, tokens: Artifact) -> Artifact:
    """A trained model: weights, metrics and the best checkpoint."""
    return obtain(run, "pretrain", tokenizer=tokenizer, pretokenize=tokens)


@task("evaluate")
def evaluate(
    run: Run, corpus: Artifact, tokenizer: Artifact, tokens: Artifact, model: Artifact
) -> Artifact:
    """Loss, perplexity and bits per byte over the whole validation set, and samples."""
    return obtain(
        run, "evaluate", download=corpus, tokenizer=tokenizer, pretokenize=tokens, pretrain=model
    )


@flow("pipeline")
def pipeline(
    preset: str = "quickstart",
    train_url: str | None = None,
    valid_url: str | None = None,
    vocab_size: int | None = None,
    d_model: int | None = None,
    n_layers: int | None = None,
    context_length: int | None = None,
    tokens: int | None = None,
    max_lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    processes: int | None = None,
    overrides: list[str] | None = None,
) -> str:
    """Text in, an evaluated model out; returns the folder of the run.

    Args:
      preset: the run to start from, one of `flows.presets.PRESETS`.
      train_url, valid_url: https, http or file URLs of text, plain or gzip.
      vocab_size: tokens of the vocabulary, special tokens included.
      d_model, n_layers, context_length: the model's sizes.
      tokens: how many tokens to train on.
      max_lr: the peak of the learning rate.
      seed: of the weights and of the order of the batches.
      device: auto, cpu, cuda or mps.
      processes: training processes (data parallel).
      overrides: further settings as on the command line: ["--training.batch-size", "16"].
    """
    flags = {
        "--corpus.train-url": train_url,
        "--corpus.valid-url": valid_url,
        "--tokenizer.vocab-size": vocab_size,
        "--model.d-model": d_model,
        "--model.n-layers": n_layers,
        "--model.context-length": context_length,
        "--training.tokens": tokens,
        "--training.max-lr": max_lr,
        "--training.seed": seed,
        "--numerics.device": device,
        "--numerics.processes": processes,
    }
    given = [f"{flag}={value}" for flag, value in flags.items() if value is not None]
    with watching() as notify:
        run = prepare(preset, [*given, *(overrides or [])], map_shards, notify)

        corpus = download(run)
        tokenizer = train_tokenizer(run, corpus)
        token_shards = pretokenize(run, corpus, tokenizer)
        model = pretrain(run, tokenizer, token_shards)
        evaluation = evaluate(run, corpus, tokenizer, token_shards, model)

        return str(finish(run, corpus, tokenizer, token_shards, model, evaluation).folder)
