"""A run in this process: what is refused before it, what is kept of it, and in which order."""

from pathlib import Path

from flows.progress.events import Event
from flows.run import finish, obtain, prepare
from tests.flows.tiny_run import TINY, map_here


def run_through(artifacts: Path, *words: str) -> list[Event]:
    """All five stages as plain calls; what was said on the way."""
    events: list[Event] = []
    settings = [*TINY, "--engine", "none", "--artifacts", str(artifacts), *words]
    run = prepare("quickstart", settings, map_here, events.append)
    corpus = obtain(run, "download")
    tokenizer = obtain(run, "tokenizer", download=corpus)
    tokens = obtain(run, "pretokenize", download=corpus, tokenizer=tokenizer)
    model = obtain(run, "pretrain", tokenizer=tokenizer, pretokenize=tokens)
    evaluation = obtain(
        run, "evaluate", download=corpus, tokenizer=tokenizer, pretokenize=tokens, pretrain=model
    )
    finish(run, corpus, tokenizer, tokens, model, evaluation)
    return events
