"""Files and folders that are whole or absent."""

import os
import resource
import subprocess
import sys
import time

import pytest

from flows.disk.atomic import file_sha256, new_file, new_folder, sweep
from lmcore.errors import InputError


@pytest.fixture
def small_files():
    """Files beyond 64 KiB cannot be written, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_whole(tmp_path):
    """Until the block ends, the old bytes stand; then the new ones do, and nothing else lies by."""
    path = tmp_path / "facts"
    path.write_bytes(b"old")
    with new_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["facts"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """An exception in the block leaves the file as it was, and no leftover."""
    path = tmp_path / "facts"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), new_file(path) as file:
        file.writelines([b"half", None])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["facts"]


def test_a_failed_sync_leaves_the_old_file(tmp_path, monkeypatch):
    """What may not be on the disk does not take the name of what is."""
    path = tmp_path / "seal"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "gone")))
    with pytest.raises(OSError, match="gone"), new_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["seal"]


def test_no_room_is_the_users_to_mend(tmp_path, small_files):
    """A write beyond what may be is an InputError that names file and limit; none is left."""
    with (
        pytest.raises(InputError, match=r"no room to write .*big.*ulimit -f.* raise that limit"),
        new_file(tmp_path / "big") as file,
    ):
        file.write(bytes(1 << 17))
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_whole(tmp_path):
    """The folder has its name only when all is in it."""
    with new_folder(tmp_path / "made") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "a").read_text() == "a"
    assert os.listdir(tmp_path) == ["made"]


def test_the_first_folder_wins(tmp_path):
    """A folder that is there already is left alone, and the later writer is told."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "first").touch()
    with pytest.raises(FileExistsError), new_folder(tmp_path / "made") as folder:
        (folder / "second").touch()
    assert os.listdir(tmp_path / "made") == ["first"]
    assert os.listdir(tmp_path) == ["made"]


@pytest.fixture
def steps(monkeypatch):
    """The syncs, by name, and the renames, in the order in which they happen."""
    seen = []
    real_sync, real_rename, real_replace = os.fsync, os.rename, os.replace

    def fsync(descriptor):
        seen.append(os.fstat(descriptor).st_ino)
        real_sync(descriptor)

    def renaming(real):
        def rename(source, target):
            seen.append("rename")
            real(source, target)

        return rename

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", renaming(real_rename))
    monkeypatch.setattr(os, "replace", renaming(real_replace))

    def named(*paths):
        by_inode = {path.stat().st_ino: path.name for path in paths}
        return [by_inode.get(step, step) for step in seen]

    return named


def test_a_file_is_synced_before_the_rename(tmp_path, steps):
    """File, rename, folder: in this order, or a power cut may leave an empty file."""
    with new_file(tmp_path / "made") as file:
        file.write(b"x")
    assert steps(tmp_path / "made", tmp_path) == ["made", "rename", tmp_path.name]


def test_files_are_synced_before_a_folder_is_renamed(tmp_path, steps):
    """Files, folder, rename, parent: in this order, or a power cut may leave an empty folder."""
    with new_folder(tmp_path / "made") as folder:
        (folder / "a").touch()
    named = steps(tmp_path / "made" / "a", tmp_path / "made", tmp_path)
    assert named == ["a", "made", "rename", tmp_path.name]


def age(path, seconds=3600.0):
    """Make a path look old."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_sweep_removes_what_a_killed_process_left(tmp_path):
    """The temporary folder of a killed process goes; foreign names and young ones stay."""
    code = (
        "import os, sys; from pathlib import Path; from flows.disk.atomic import new_folder\n"
        f"with new_folder(Path({str(tmp_path)!r}) / 'made') as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (tmp_path / "mine").mkdir()
    (leftover,) = tmp_path.glob(".tmp-*")
    assert sweep(tmp_path) == []
    age(leftover)
    assert sweep(tmp_path) == [leftover.name]
    assert os.listdir(tmp_path) == ["mine"]


def test_sweep_spares_a_living_writer(tmp_path):
    """A temporary folder that a living process is writing is never swept, however old."""
    with new_folder(tmp_path / "made") as folder:
        age(folder)
        assert sweep(tmp_path) == []
    assert (tmp_path / "made").is_dir()


def test_file_sha256_is_sha256(tmp_path):
    """The digest of "abc" is the one of FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == expected
