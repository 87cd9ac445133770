"""Make an artifact once, whatever happens meanwhile: the door of the store.

A hit is verified and returned. A miss is built in a private folder, synced, and renamed into
place; until the rename nothing is visible, after it everything is.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flows.disk import durable
from flows.store import lock
from flows.store.build_folder import build_folder
from flows.store.key import SHA256, Key, Request, make_key
from flows.store.layout import ROOT_FLAG, Layout
from flows.store.recheck import refuse_changed_code, refuse_changed_inputs, refuse_stale_code
from flows.store.record import (
    RECORD_NAME,
    Artifact,
    artifact_of,
    content_digest,
    describe_outputs,
    new_record,
    render_record,
)
from flows.store.verify import Mode, Verdict, examine

EventKind = Literal[
    "hit", "building", "built", "waiting", "reused", "quarantined", "swept", "unlocked"
]


class Event(NamedTuple):
    """One thing that happened in the store, for whoever shows progress."""

    kind: EventKind
    stage: str
    text: str


@dataclass(frozen=True)
class Built:
    """What a build returns.

    Args:
      digest: content digest for later stages, when the bytes of the files are not what matters
        (Parquet written by another version); None takes the digest over all files.
      facts: JSON values for people and reports. They are outside the digest: what a later stage
        reads belongs in a file.
    """

    digest: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


Build = Callable[[Path, Path], Built]
Notify = Callable[[Event], None]


def produce(
    root: Path,
    request: Request,
    build: Build,
    *,
    notify: Notify | None = None,
    verify: Mode = "standard",
    needs_bytes: int = 0,
    root_flag: str = ROOT_FLAG,
) -> Artifact:
    """Return the artifact for ``request``, building it only when it is not there or is damaged.

    Args:
      root: the artifacts folder; made when missing.
      request: what is asked for: stage, settings, inputs, code, packages.
      build: ``build(out_dir, work_dir) -> Built`` writes the files of the artifact into
        ``out_dir``, which is empty. ``work_dir`` outlives a failure or a kill, so that the next
        build of the same key can go on from it; it is removed once the artifact is published.
      notify: called with an :class:`Event` for each hit, wait, build, quarantine and sweep.
      verify: "full" reads every byte of a hit, however large.
      needs_bytes: about what the build writes. It is not begun without so much free disk space,
        less what its work folder holds already.
      root_flag: the flag that sets ``root``, for error messages.

    Returns:
      The artifact, read-only on disk, with ``hit`` telling whether it was there already.

    Raises:
      InputError: the folder cannot be written, the disk is or would be full, the code or an input
        changed meanwhile. Nothing already made is lost, and nothing half-made is visible.
      Exception: whatever ``build`` raises; its folder is removed first.

    Example:
      >>> import tempfile
      >>> def build(out_dir, work_dir):
      ...     (out_dir / "n.txt").write_text("1")
      ...     return Built(facts={"n": 1})
      >>> root = Path(tempfile.mkdtemp())
      >>> [produce(root, Request("demo", {"n": 1}), build).hit for _ in range(2)]
      [False, True]

    References:
      Mokhov, Mitchell and Peyton Jones, 2018, Build Systems à la Carte, section 4.2.2, verifying
      traces with early cutoff.
    """
    layout = Layout(Path(root), root_flag)
    key = make_key(request)
    job = _Job(layout, key, request, build, notify or _ignore, verify, needs_bytes)
    with layout.explaining_errors():
        verdict = job.look(verify)
    if verdict is not None and not verdict.faults:
        return job.reuse(verdict, "hit")
    with layout.explaining_full_disk(key.stage), ExitStack() as locked:
        layout.prepare()
        if not lock.locks_exist():
            job.tell("unlocked", "no file locks here: another run may do the same work")
        with layout.explaining_errors():
            locked.enter_context(
                lock.hold(layout.lock(key.stage, key.digest), waiting=job.tell_waiting)
            )
        return job.produce_locked()


@dataclass(frozen=True)
class _Job:
    """One call of produce: the arguments, and the steps that share them."""

    layout: Layout
    key: Key
    request: Request
    build: Build
    notify: Notify
    verify: Mode
    needs_bytes: int

    @property
    def place(self) -> Path:
        """Where the artifact goes."""
        return self.layout.artifact(self.key.stage, self.key.digest)

    def tell(self, kind: EventKind, text: str) -> None:
        self.notify(Event(kind, self.key.stage, text))

    def tell_waiting(self, holder: int | None) -> None:
        who = f"process {holder}" if holder else "another process"
        who = "another thread of this process" if holder == os.getpid() else who
        self.tell("waiting", f"waiting for {who}, which is building it")

    def look(self, mode: Mode) -> Verdict | None:
        """Check what is in place; None when nothing is."""
        if not self.place.is_dir():
            return None
        seal = self.layout.seal(self.key.stage, self.key.digest)
        return examine(self.place, seal, self.key.digest, mode)

    def reuse(self, verdict: Verdict, kind: EventKind) -> Artifact:
        """Return what is in place and was verified."""
        assert verdict.record is not None
        self.tell(kind, f"{self.key.short} verified")
        return artifact_of(self.place, verdict.record)

    def produce_locked(self) -> Artifact:
        """Look again now that nobody else builds; quarantine; build."""
        # A tenth in which a fault was found stays the tenth to read, so this finds it again.
        verdict = self.look(self.verify)
        if verdict is not None and not verdict.faults:
            return self.reuse(verdict, "reused")
        if verdict is not None:
            self.quarantine(verdict.faults)
        refuse_stale_code(self.key)
        held = durable.tree_bytes(self.layout.work(self.key.stage, self.key.digest))
        self.layout.require_bytes(self.needs_bytes - held, self.key.stage)
        with build_folder(self.layout, f"{self.key.stage}-{self.key.short}") as (out_dir, n_swept):
            if n_swept:
                self.tell("swept", f"removed what {n_swept} dead build(s) had left in tmp/")
            built, started, seconds = self.run_build(out_dir)
            return self.publish(out_dir, self.seal_off(out_dir, built, started, seconds))

    def quarantine(self, faults: list[str]) -> None:
        """Move what does not verify out of the way."""
        target = self.layout.free_quarantine(self.key.stage, self.key.digest)
        with self.layout.explaining_errors():
            durable.make_writable(self.place)  # a folder must be writable to change its parent
            os.rename(self.place, target)
        self.layout.seal(self.key.stage, self.key.digest).unlink(missing_ok=True)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        self.tell("quarantined", f"{faults[0]}{more}; moved to {target}, building it again")

    def run_build(self, out_dir: Path) -> tuple[Built, float, float]:
        """Call the build: what it returned, when it started (Unix time), seconds it took."""
        work_dir = self.layout.work(self.key.stage, self.key.digest)
        work_dir.mkdir(exist_ok=True)
        self.tell("building", f"building {self.key.short}")
        started, clock = time.time(), time.perf_counter()
        try:
            built = self.build(out_dir, work_dir)
        finally:
            with suppress(OSError):
                work_dir.rmdir()  # only when nothing was put there
        return built, started, time.perf_counter() - clock

    def seal_off(
        self, out_dir: Path, built: Built, started: float, seconds: float
    ) -> dict[str, Any]:
        """Describe and sync what was built; the record comes last."""
        durable.remove_empty_folders(out_dir)
        outputs = describe_outputs(out_dir)
        digest = content_digest(outputs) if built.digest is None else built.digest
        if not SHA256.fullmatch(digest):
            raise ValueError(f"stage {self.key.stage} gave the digest {digest!r}: expected SHA-256")
        record = new_record(self.key, outputs, digest, built.facts, started, seconds)
        durable.write_new(out_dir / RECORD_NAME, render_record(record))
        durable.sync_tree(out_dir)
        durable.make_read_only(out_dir, itself=False)  # its parent is yet to change
        return record

    def publish(self, out_dir: Path, record: dict[str, Any]) -> Artifact:
        """Rename the finished build into place, unless the world changed meanwhile."""
        refuse_changed_code(self.key, self.request)
        refuse_changed_inputs(self.layout, self.request)
        place = self.place
        with self.layout.explaining_errors():
            place.parent.mkdir(exist_ok=True)
        winner = self._rename(out_dir)
        if winner is not None:
            return self.reuse(winner, "reused")
        durable.make_read_only(place)
        durable.sync_folder(place.parent)
        durable.sync_folder(place.parent.parent)
        durable.remove_tree(self.layout.work(self.key.stage, self.key.digest))
        self.tell("built", f"{self.key.short} built in {record['seconds']:.1f} s")
        return artifact_of(place, record, hit=False)

    def _rename(self, out_dir: Path) -> Verdict | None:
        """Take the place; or verify whoever took it first, and return that."""
        while True:
            try:
                os.rename(out_dir, self.place)
                return None
            except OSError:
                if not self.place.is_dir():
                    raise
            verdict = self.look("full")
            if verdict is not None and not verdict.faults:
                return verdict
            if verdict is not None:
                self.quarantine(verdict.faults)


def _ignore(event: Event) -> None:
    """Nobody listens."""
