"""A deployment for every preset: served by this process, or run by workers through prefect.yaml.

Both ways hold the same names, ``pipeline/PRESET``. A served name that a worker holds too would be
run by either of them, so `serve` refuses it.
"""

import os
import signal
import time
import urllib.request
from collections.abc import Iterable
from typing import Any

from flows.conductor import server
from flows.config import RunConfig
from flows.presets import PRESETS
from lmcore.errors import InputError

FLOW = "pipeline"
USUAL_SERVER = "http://127.0.0.1:4200/api"  # where `prefect server start` listens
PATIENCE_SECONDS = 60  # a server, often started just before, takes 7 s, on a busy machine over 20


def serve() -> None:
    """Serve every preset from this process until Ctrl-C, one run at a time.

    A run takes every core, so a second one waits for the first. The server is the one of
    ``PREFECT_API_URL``, or else the one that `prefect server start` starts on this machine.

    Raises:
      InputError: no server answers, or a worker's deployment holds one of the names.

    Example:
      $ prefect server start                          # one terminal
      $ python flows/pipeline.py --serve              # a second one
      $ prefect deployment run pipeline/tinystories --watch
    """
    os.environ["PREFECT_API_URL"] = find_server()
    server.configure()
    import prefect

    need_free_names(PRESETS)
    # Prefect answers Ctrl-C by leaving at once: a run at work would show as running for ever. On
    # SIGTERM it first ends the run, which keeps a checkpoint, and reports it as cancelled.
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    prefect.serve(*deployments(), limit=1)


def deployments() -> list[Any]:
    """A deployment of the pipeline for each preset; its parameters stay flat.

    Only ``preset`` is bound: whatever else a run is given with ``-p`` goes over the preset.
    """
    from flows.pipeline import pipeline

    flow: Any = pipeline
    return [
        flow.to_deployment(
            name=name,
            parameters={"preset": name},
            description=describe(config),
            tags=["lmcore"],
            enforce_parameter_schema=True,
        )
        for name, config in PRESETS.items()
    ]


def describe(config: RunConfig) -> str:
    """A preset in a line: the text, the vocabulary, the model, the tokens it trains on."""
    source = "embedded stories" if config.source.kind == "stories" else config.source.train_url
    return (
        f"{source}; vocabulary {config.tokenizer.vocab_size:,}; {config.model.n_layers} layers of "
        f"{config.model.d_model}; {config.training.tokens:,} tokens"
    )


def find_server() -> str:
    """The address of the server to serve from, which may still be starting."""
    given = os.environ.get("PREFECT_API_URL")
    address = given or USUAL_SERVER
    end = time.monotonic() + PATIENCE_SECONDS
    found = answers(address)
    if not found and PATIENCE_SECONDS:
        server.say(f"waiting up to {PATIENCE_SECONDS} s for a server at {address}")
    while not found and time.monotonic() < end:
        time.sleep(0.5)
        found = answers(address)
    if found:
        return address
    raise InputError(
        f"--serve needs a Prefect server, and none answers at {address}: start one in another "
        "terminal with `prefect server start`"
        + (", or correct PREFECT_API_URL" if given else ", or set PREFECT_API_URL to yours")
    )


def answers(address: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=5) as reply:
            return reply.status == 200
    except (OSError, ValueError):
        return False


def need_free_names(names: Iterable[str]) -> None:
    """Refuse to serve a name whose runs go to a work pool."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    taken: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        for name in names:
            try:
                held = client.read_deployment_by_name(f"{FLOW}/{name}")
            except ObjectNotFound:
                continue
            if held.work_pool_name:
                taken[name] = held.work_pool_name
    if taken:
        pools = ", ".join(f"{FLOW}/{name} (pool {pool})" for name, pool in taken.items())
        raise InputError(
            f"--serve would take runs from workers, who hold {pools}: start a worker with "
            f"`prefect worker start --pool {next(iter(taken.values()))}` instead, or give the "
            f"names up with `prefect deployment delete {FLOW}/NAME`"
        )
