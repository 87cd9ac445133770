"""Builds and requests that the store's tests share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flows.store.key import Request
from flows.store.publish import Built

PROJECT = Path(__file__).resolve().parents[3]


def request(n: int = 1, stage: str = "demo", **more) -> Request:
    """A request whose only setting is ``n``."""
    return Request(stage, {"n": n}, **more)


def writing(files: dict[str, str], calls: list[int] | None = None) -> Callable[[Path, Path], Built]:
    """A build that writes ``files`` and counts its calls."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        if calls is not None:
            calls.append(1)
        for name, text in files.items():
            (out_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (out_dir / name).write_text(text)
        return Built(facts={"files": len(files)})

    return build


def overwrite(path: Path, content: bytes) -> None:
    """Change a read-only file where it lies."""
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()


def start(script: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    """Run ``script`` in a new interpreter that can import the project."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process that must succeed, and return what it printed."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out
