"""Disks without room and folders that cannot be written."""

import ctypes
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import SMALL, record_of
from tests.faults.damage import contents, forget

# Linux: the rights to pass by a file's permissions, to write and to read.
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2

STAGES = ("download", "tokenizer", "pretokenize", "pretrain", "evaluate")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Path]]:
    """A disk of its own whose size can be set, in KiB; what a run will need is not foreseen."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs Linux and root to mount a small disk")
    if subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a small disk")
    monkeypatch.setattr("flows.preflight.free_disk_bytes", lambda folder: 1e12)
    monkeypatch.setattr("flows.run.stage_bytes", lambda *args: 0)

    def resize(kib: int) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", str(folder)], check=True)
        return folder

    yield resize
    subprocess.run(["umount", str(folder)], check=True)


def is_whole(path: Path, folder: Path) -> bool:
    """Whether a file belongs to a finished artifact, a checkpoint or a run, not to half of one."""
    name = path.relative_to(folder).as_posix()
    return "/.tmp-" not in name and not name.startswith("tmp/")


def test_a_run_survives_a_disk_that_fills_at_any_moment(disk, small, artifacts):
    """Each size ends in one error, nothing half-made; with room the digests are the usual ones.

    The sizes are such that the disk fills in the download, the tokens, the token maps, the first
    checkpoint, and later ones.
    """
    met = set()
    for kib in (16, 64, 96, 128, 160, 256, 512):
        folder = disk(kib)
        finished = {k: v for k, v in contents(folder).items() if k.startswith("store/")}
        ended = small(folder)
        ended.refused("the disk is full", "Nothing already made was lost", "--artifacts")
        met.update(stage for stage in STAGES if f"stage {stage} " in ended.err)
        assert finished.items() <= contents(folder).items()
        assert all(is_whole(path, folder) for path in folder.rglob("*") if path.is_file())
    assert met == {"download", "pretokenize", "pretrain"}
    ended = small(disk(2048))
    assert ended.status == 0, ended
    assert "resumed after step" in ended.out
    for stage in STAGES:
        assert record_of(disk(2048), stage)["digest"] == record_of(artifacts, stage)["digest"]


def test_a_run_survives_a_limit_on_the_size_of_files(small, tmp_path, artifacts):
    """Each limit (ulimit -f) ends in one error, nothing half-made; without it the run goes on.

    The limits are such that they are met in the corpus, the token map and a checkpoint.
    """
    folder, met = tmp_path / "limited", set()
    for n_bytes in (1 << 12, 48 << 10, 80 << 10):
        with limited_files(n_bytes):
            ended = small(folder)
        ended.refused("files may not be larger here (ulimit -f", "--artifacts")
        met.update(stage for stage in STAGES if f"stage {stage} " in ended.err)
        assert all(is_whole(path, folder) for path in folder.rglob("*") if path.is_file())
    assert met == {"download", "pretrain"}
    assert small(folder).status == 0
    for stage in STAGES:
        assert record_of(folder, stage)["digest"] == record_of(artifacts, stage)["digest"]


@contextmanager
def limited_files(n_bytes: int) -> Iterator[None]:
    """Files beyond so many bytes cannot be written by this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_training_process_whose_disk_fills_says_so(disk, command):
    """The same through the real process, whose error crosses as a line of JSON."""
    ended = command(*SMALL, "--artifacts", disk(512))
    ended.refused("the disk is full: stage pretrain", "--artifacts")
    ended = command(*SMALL, "--artifacts", disk(2048))
    assert ended.status == 0, ended
    assert "resumed after step" in ended.out


NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
SAID_BY_A_LIBRARY = "an I/O error: No space left on device (os error 28)"
WRITERS = {
    "download": "flows.stages.download.write_stories",
    "tokenizer": "flows.stages.tokenizer.save_tokenizer",
    "pretokenize": "flows.stages.pretokenize.write_shards",
    "pretrain": "flows.formats.checkpoint.write",
    "evaluate": "flows.trainer.scoring.table",
}


@pytest.mark.parametrize(
    ("stage", "error"),
    [*((stage, NO_ROOM) for stage in STAGES), ("pretrain", SAID_BY_A_LIBRARY)],
)
def test_no_room_in_the_middle_of_a_stage(stage, error, small, tmp_path, monkeypatch, artifacts):
    """Whether the system says it or only a library's text: one line, earlier stages are kept."""

    def full(*args: object, **kwargs: object) -> None:
        raise error if isinstance(error, OSError) else RuntimeError(error)

    for later in STAGES[STAGES.index(stage) :]:
        forget(artifacts, later)
    before = contents(artifacts / "store")
    with monkeypatch.context() as patched:
        patched.setattr(WRITERS[stage], full)
        ended = small(artifacts)
    ended.refused("the disk is full", f"stage {stage}", "--artifacts")
    assert contents(artifacts / "store") == before
    assert list((artifacts / "tmp").iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_before_any_work(small, tmp_path, monkeypatch):
    """By the preflight's estimate, with what is needed and what is free."""
    monkeypatch.setattr("flows.preflight.free_disk_bytes", lambda folder: 1000.0)
    small(tmp_path / "artifacts").refused("MB of disk are free", "--artifacts")
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("stage", ["download", "pretokenize", "pretrain"])
def test_a_stage_without_room_is_refused_before_it_begins(stage, small, artifacts, monkeypatch):
    """Where the room went since the run began: what is needed and what is free; nothing is built.

    A stage that is made already needs none.
    """
    for later in STAGES[STAGES.index(stage) :]:
        forget(artifacts, later)
    before = contents(artifacts / "store")
    monkeypatch.setattr("flows.store.layout.Layout.free_bytes", lambda self: 1000)
    small(artifacts).refused(f"1.0 kB free and the stage {stage} needs", "--artifacts")
    assert contents(artifacts / "store") == before


def test_a_memory_that_is_too_small_is_refused_before_any_work(small, tmp_path, monkeypatch):
    """By the preflight's estimate, with the flags that make a model smaller."""
    monkeypatch.setattr("flows.preflight.free_memory_bytes", lambda device: 1e6)
    small(tmp_path / "artifacts").refused("memory", "--model.d-model")
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_artifacts_that_would_lie_in_a_file_are_refused(below, small, tmp_path):
    """The file is as it was, and the flag is named."""
    (tmp_path / "file").write_text("mine")
    small(tmp_path / "file" / below).refused(str(tmp_path / "file"), "--artifacts")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_link_to_nowhere_is_refused(small, tmp_path):
    """A dangling link, and one that leads to itself."""
    (tmp_path / "loop").symlink_to("loop")
    small(tmp_path / "loop").refused("--artifacts")


@pytest.mark.parametrize("name", ["store", "locks", "tmp", "work", "runs", "maps"])
def test_a_file_where_a_folder_must_be_is_refused(name, small, tmp_path):
    """One of our own folders replaced by a file, which is named and left alone."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / name).write_text("mine")
    small(tmp_path / "artifacts").refused(f"/artifacts/{name}")
    assert (tmp_path / "artifacts" / name).read_text() == "mine"


def test_a_folder_where_a_link_must_be_is_refused(small, artifacts):
    """As after a copy of the runs that followed the links: what is there is left alone."""
    link = artifacts / "runs" / "small" / "tokenizer"
    link.unlink()
    link.mkdir()
    (link / "file").write_text("mine")
    small(artifacts).refused(str(link), "move it out of the way", "--name")
    assert (link / "file").read_text() == "mine"
    assert [path.name for path in link.parent.glob(".tokenizer*")] == []


@pytest.mark.parametrize("writer", ["new_file", "collect"])
def test_no_room_for_the_run_folder(writer, small, artifacts, monkeypatch):
    """Its description and its report: one line, and the artifacts stay."""
    before = contents(artifacts / "store")

    def full(*args: object, **kwargs: object) -> None:
        raise NO_ROOM

    with monkeypatch.context() as patched:
        patched.setattr(f"flows.{MODULES[writer]}", full)
        small(artifacts).refused("no room to write", "artifacts folder")
    assert contents(artifacts / "store") == before
    assert small(artifacts).status == 0


MODULES = {"new_file": "disk.atomic.sync_folder", "collect": "run.collect"}


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may write anywhere: give that right up for a while, in this thread and its children.

    The user stays root, who owns the test's files: another user could not read an environment
    that lies in a private folder.
    """
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("only Linux lets root give up the right to write anywhere")
    libc = ctypes.CDLL(None, use_errno=True)
    this_thread = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the capability calls
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: low words, high words
    assert libc.capget(this_thread, rights) == 0, os.strerror(ctypes.get_errno())
    had = rights[0]
    rights[0] = had & ~(CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH)
    assert libc.capset(this_thread, rights) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        rights[0] = had
        assert libc.capset(this_thread, rights) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "shut"])
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_folder_without_the_right_to_write_is_refused(below, mode, small, artifacts, tmp_path):
    """Read-only, or not even to be looked into: one line, before any work."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=mode)
    with as_ordinary_user():
        ended = small(closed / below)
    closed.chmod(0o755)
    ended.refused(str(closed), "ermission denied", "--artifacts")
    assert list(closed.iterdir()) == []


def test_a_finished_run_in_a_folder_that_became_read_only(small, artifacts, tmp_path):
    """Nothing can be written: one line; the artifacts are as they were."""
    copy = tmp_path / "copy"
    shutil.copytree(artifacts, copy, symlinks=True)
    folders = (copy, copy / "runs", copy / "runs" / "small")
    for folder in folders:
        folder.chmod(0o555)
    with as_ordinary_user():
        ended = small(copy)
    for folder in folders:
        folder.chmod(0o755)
    ended.refused("cannot write", "run.json", "another artifacts folder")
    assert contents(copy) == contents(artifacts)
