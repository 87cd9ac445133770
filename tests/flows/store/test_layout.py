"""The artifacts folder: where it cannot be, and what a full disk is called."""

import errno
import os

import pytest

from flows.store.layout import Layout
from lmcore.errors import InputError


def test_prepare_makes_every_folder_and_says_what_they_are(root):
    """The folders are there, can be made twice, and the README names each of them."""
    for _ in range(2):
        Layout(root).prepare()
    text = (root / "README.txt").read_text()
    made = {path.name for path in root.iterdir() if path.is_dir()}
    assert made == {"store", "seals", "work", "tmp", "locks", "quarantine"}
    assert all(f"{name}/" in text for name in made)
    assert not list((root / "tmp").iterdir())


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_a_root_that_cannot_be_a_folder_names_the_flag(tmp_path, below):
    """A file in the way is said, with the flag that mends it."""
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot be written .*give a folder .*--some\.flag FOLDER"
    ):
        Layout(tmp_path / "file" / below, "--some.flag").prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_root_without_permission_names_the_flag(tmp_path):
    """A folder that others own is said so."""
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match=r"--execution\.artifacts"):
        Layout(tmp_path / "artifacts").prepare()


def test_a_read_only_disk_names_the_flag(root, monkeypatch):
    """A read-only file system is told in the same words."""

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(root))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(InputError, match=r"Read-only file system.*--execution\.artifacts"):
        Layout(root).prepare()


def _raise_io(text: str, number: int) -> None:
    raise OSError(number, text)


def _chained() -> None:
    try:
        _raise_io("full", errno.ENOSPC)
    except OSError as error:
        raise RuntimeError("shard 3") from error


@pytest.mark.parametrize(
    "fail",
    [
        lambda: _raise_io("No space left on device", errno.ENOSPC),
        lambda: _raise_io("quota", errno.EDQUOT),
        lambda: (_ for _ in ()).throw(RuntimeError("io: No space left on device (os error 28)")),
        _chained,
    ],
    ids=["ENOSPC", "quota", "only in the text", "behind another error"],
)
def test_a_full_disk_is_said_however_it_was_met(root, fail):
    """Whatever a library makes of it, the user reads that the disk is full and nothing is lost."""
    Layout(root).prepare()
    says = r"the disk is full: stage demo .* has [\d.]+ .?B left\. Nothing already made was lost"
    with pytest.raises(InputError, match=says), Layout(root).explaining_full_disk("demo"):
        fail()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
        OSError("Error writing bytes to file. Detail: [errno 27] File too large"),
        RuntimeError(f"write failed [Errno {errno.EFBIG}]"),
    ],
    ids=["EFBIG", "safetensors", "pyarrow", "only the number"],
)
def test_a_limit_on_the_size_of_files_is_said(root, error):
    """A disk with room whose files may not grow (ulimit -f) is not called full."""
    Layout(root).prepare()
    says = r"files may not be larger here \(ulimit -f.*: stage demo .* raise it, or name another"
    with pytest.raises(InputError, match=says), Layout(root).explaining_full_disk("demo"):
        raise error


def test_an_array_cut_short_is_a_full_disk(root):
    """numpy says only how much it could write."""
    Layout(root).prepare()
    with pytest.raises(InputError, match="disk is full"), Layout(root).explaining_full_disk("demo"):
        raise OSError("100000 requested and 2048 written")


def test_other_errors_pass_as_they_are(root):
    """Only disk space is explained as disk space, only bad folders as bad folders."""
    with pytest.raises(ZeroDivisionError), Layout(root).explaining_full_disk("demo"):
        _ = 1 / 0
    with pytest.raises(OSError, match="odd"), Layout(root).explaining_errors():
        _raise_io("odd", errno.EIO)


def test_room_is_asked_for_before_work(root):
    """More than the disk has is refused with both numbers; what fits passes."""
    Layout(root).prepare()
    Layout(root).require_bytes(1, "demo")
    with pytest.raises(InputError, match=r"free and the stage demo needs 1\.0 EB"):
        Layout(root).require_bytes(10**18, "demo")


def test_quarantine_names_are_never_taken(root):
    """Each faulty copy of one artifact gets the next number."""
    layout = Layout(root)
    layout.prepare()
    for n in (1, 2):
        target = layout.free_quarantine("demo", "0" * 64)
        assert target.name == f"demo-{'0' * 16}-{n}"
        target.mkdir()
