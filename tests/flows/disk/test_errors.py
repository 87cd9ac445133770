"""What the disk's errors mean, and what a user is told to do about them."""

import errno
import os
from pathlib import Path

import pytest

from flows.disk.errors import DAMAGE, NO_ROOM, NOT_WRITABLE, disk_errors, free_bytes, lack_of_room
from lmcore.errors import InputError


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"the disk is full; [\d.]+ .?B are free there: free some space"),
        (errno.EDQUOT, r"share of the disk is full; [\d.]+ .?B are free there: free some space"),
        (errno.EFBIG, r"ulimit -f.*; raise that limit"),
    ],
)
def test_no_room_is_the_users_to_mend(number, said):
    """Each lack of room is said with its own remedy, and with what there is no room for."""
    with pytest.raises(InputError, match=f"no room to write there, .*{said}"):
        raise_in(disk_errors(Path("there")), number)
    with pytest.raises(InputError, match=f"no room for the text, .*{said}"):
        raise_in(disk_errors(Path("there"), "for the text"), number)


def raise_in(guard, number):
    """Meet an error of the system inside ``guard``."""
    with guard:
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_an_unwritable_place_is_the_users_to_mend(number):
    """Errors of rights become InputError; the message names the place."""
    with pytest.raises(InputError, match="cannot write there"), disk_errors(Path("there")):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_through():
    """An error that no user can mend stays what it is."""
    with pytest.raises(OSError, match="I/O") as caught, disk_errors(Path("there")):
        raise OSError(errno.EIO, "I/O")
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("number", sorted(NO_ROOM))
def test_lack_of_room_is_known_by_number_and_by_words(number):
    """The system's own error, one behind another, a library's words or its number alone."""
    own = OSError(number, "anything")
    behind = RuntimeError("shard 3")
    behind.__cause__ = own
    words = RuntimeError(f"cannot write: {os.strerror(number).upper()}")
    for error in (
        own,
        behind,
        words,
        ValueError(f"[errno {number}]"),
        ValueError(f"os error {number}"),
    ):
        assert lack_of_room(error) == number
    assert lack_of_room(ValueError(f"os error {number}0")) is None
    assert lack_of_room(OSError(errno.EIO, "I/O")) is None


def test_an_error_has_one_meaning():
    """No number is in two of the lists."""
    lists = (set(NO_ROOM), NOT_WRITABLE, DAMAGE)
    assert sum(map(len, lists)) == len(set().union(*lists))


def test_room_of_a_place_that_is_not_there(tmp_path):
    """The room is that of the nearest folder that exists."""
    assert free_bytes(tmp_path / "a" / "b") > 0
    assert free_bytes(Path("no") / "such") > 0
