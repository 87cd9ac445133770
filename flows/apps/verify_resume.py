"""Train a small run, kill it, resume it, and compare its weights with a run never killed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from flows.arguments import read_words
from flows.formats import metrics_log
from lmcore.errors import InputError

SMALL_RUN = [
    *("--engine", "none", "--name", "small", "--evaluation.samples", "0"),
    *("--corpus.n-train-stories", "400", "--corpus.n-valid-stories", "20"),
    *("--tokenizer.vocab-size", "500", "--model.context-length", "64", "--model.d-model", "48"),
    *("--model.n-heads", "4", "--model.n-layers", "2"),
    *("--training.batch-size", "4", "--training.tokens", "40960"),
    *("--training.warmup-steps", "10", "--training.validate-every", "40"),
    *("--checkpoint-every", "15", "--log-every", "1"),
]
STEPS = 160
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class VerifyResume:
    """Train a small run twice, killing the second one (kill -9) on the way, and compare."""

    kills: int = 2
    """How often the second run is killed, at steps spread over its length."""
    compile: bool = False
    """Compile the training step (both runs)."""
    keep: str = ""
    """Keep the artifacts of both runs below this folder; empty uses a temporary one."""


def main(words: list[str]) -> int:
    options = read_words(VerifyResume, words, "lmcore verify-resume", description=__doc__)
    if not 1 <= options.kills <= 10:
        raise InputError(f"--kills is {options.kills}: it must be from 1 to 10")
    with tempfile.TemporaryDirectory(prefix="lmcore-resume-") as temporary:
        return compare(Path(options.keep or temporary).resolve(), options)


def compare(folder: Path, options: VerifyResume) -> int:
    """Make both runs below ``folder`` and compare the digests of their weights."""
    extra = ["--numerics.compile", "on" if options.compile else "off"]
    finish(start(folder / "whole", extra))
    expected = weights_digest(folder / "whole")
    print(f"never killed      {expected}", flush=True)
    for n in range(options.kills):
        step = STEPS * (n + 1) // (options.kills + 1) + 3  # not where a checkpoint is
        print(f"killed after step {kill_after(folder / 'killed', extra, step)}", flush=True)
    finish(start(folder / "killed", extra))
    found = weights_digest(folder / "killed")
    print(f"killed, resumed   {found}")
    print("equal, bit for bit" if found == expected else "DIFFERENT")
    return 0 if found == expected else 1


def start(artifacts: Path, extra: list[str]) -> subprocess.Popen:
    """Begin the small run in a process of its own."""
    command = [sys.executable, "-m", "flows.pipeline", "quickstart", *SMALL_RUN, *extra]
    return subprocess.Popen(
        [*command, "--artifacts", str(artifacts)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that must succeed."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the small run failed:\n{output}")


def weights_digest(artifacts: Path) -> str:
    """Digest of the final weights of the small run."""
    record = json.loads((artifacts / "runs" / "small" / "pretrain" / "record.json").read_text())
    return record["facts"]["weights"]["last"]


def kill_after(artifacts: Path, extra: list[str], step: int) -> int:
    """Begin or resume the run and kill its training process outright once it is past ``step``.

    Returns:
      The last step that it had logged.
    """
    process = start(artifacts, extra)
    log = artifacts / "runs" / "small" / "metrics.jsonl"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (reached := last_step(log)) >= step:
            for child in children_of(process.pid):
                os.kill(child, signal.SIGKILL)
            process.kill()
            process.communicate()
            return reached
        time.sleep(0.01)
    process.kill()
    output, _ = process.communicate()
    raise RuntimeError(f"the small run ended before step {step}:\n{output}")


def last_step(log: Path) -> int:
    """The last step in a metrics log that is being written."""
    try:
        return max((record["step"] for record in metrics_log.read(log)), default=0)
    except (OSError, InputError):
        return 0


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]
