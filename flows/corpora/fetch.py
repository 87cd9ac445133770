"""Bring a file here by its URL (https, http or file), and publish it only when it is the right one.

The bytes go to a partial file that the caller names, in a folder that outlives a kill, so that
the next run goes on from there. When the size and the SHA-256 are as expected, the file is synced
and renamed to its place.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from flows.corpora.config import SCHEMES
from flows.corpora.http_download import Terms, download, forget, shown, size_at, wrong_size
from flows.disk.atomic import file_sha256
from flows.disk.durable import sync_file, sync_folder
from flows.disk.errors import disk_errors
from lmcore.errors import InputError

CHUNK_BYTES = 1 << 20
# When the size is not known: four times the largest corpus named in the presets.
MAX_BYTES = 64 << 30


@dataclass(frozen=True)
class Fetched:
    """A file that was brought here.

    Attributes:
      path: where it lies now.
      n_bytes: its size.
      sha256: of its bytes, as downloaded.
    """

    path: Path
    n_bytes: int
    sha256: str


def fetch(
    url: str,
    out_path: Path,
    *,
    partial: Path,
    sha256: str = "",
    bytes_expected: int = 0,
    max_bytes: int = MAX_BYTES,
    option: str = "--corpus.train",
    progress: Callable[[int, int], None] = lambda done, total: None,
    retries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Bring a file here; it appears at ``out_path`` whole and checked, or not at all.

    Args:
      url: https, http, or file with an absolute path (percent-encoded or not).
      out_path: where it is to lie; its folder exists.
      partial: where the bytes gather; a later call with the same URL goes on from there.
      sha256: the digest that it must have, in lower-case hexadecimal; empty is unknown.
      bytes_expected: the size that it must have; 0 is unknown.
      max_bytes: a download that proves longer is stopped.
      option: how the flags begin that the messages name: ``--corpus.train`` stands for
        ``--corpus.train-url``, ``-sha256`` and ``-bytes``.
      progress: called with (bytes there, bytes in all; 0 when unknown) as they come.
      retries: how many attempts in a row may bring nothing new, after the first. They wait 0.5 s,
        1 s, 2 s ... between them, or as long as the server asks, a minute at most.
      sleep: how to wait so many seconds.

    Returns:
      Path, size and digest of the file.

    Raises:
      InputError: the scheme is unknown; the file does not exist, is cut short, or is not the one
        expected; no room; nobody answers.

    Example:
      >>> _ = Path("a.txt").write_text("abc")
      >>> url = Path("a.txt").absolute().as_uri()
      >>> fetch(url, Path("b.txt"), partial=Path("b.part")).sha256[:8]
      'ba7816bf'
    """
    with disk_errors(partial, f"for {shown(url)} at {partial.parent}"):
        partial.parent.mkdir(parents=True, exist_ok=True)
        if scheme_of(url, option) == "file":
            copy_file(local_path(url, option), partial, bytes_expected, option, progress)
        else:
            terms = Terms(bytes_expected, max(max_bytes, bytes_expected), retries, option)
            download(url, partial, terms, progress, sleep)
        fetched = checked(partial, url, sha256, bytes_expected, option)
        publish(partial, out_path)
        forget(partial)
    return Fetched(out_path, *fetched)


def preflight(url: str, option: str = "--corpus.train") -> int:
    """Ask, before any work, whether a URL leads to something.

    Args:
      url: https, http or file.
      option: how the flags begin that the messages name.

    Returns:
      Its size in bytes; 0 when the server does not say.

    Raises:
      InputError: an unknown scheme, no such file, no right to read it, an error of the server, or
        no answer within ten seconds.

    Example:
      >>> preflight(Path("a.txt").absolute().as_uri())
      3
    """
    if scheme_of(url, option) != "file":
        return size_at(url, option)
    path = local_path(url, option)
    with open_local(path, option) as file:
        return os.fstat(file.fileno()).st_size


def scheme_of(url: str, option: str) -> str:
    """The scheme, one of those that can be fetched."""
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise InputError(
            f"{shown(url)!r} cannot be fetched: its scheme must be one of {', '.join(SCHEMES)} "
            f"(a file: file:///ABSOLUTE/PATH); correct {option}-url"
        )
    return scheme


def local_path(url: str, option: str) -> Path:
    """The path that a file URL means."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InputError(f"{url} must be file:///ABSOLUTE/PATH; correct {option}-url")
    if parts.query or parts.fragment:
        raise InputError(
            f"{url} has a ? or # in it: in a file URL they are written %3F and %23; "
            f"correct {option}-url"
        )
    return Path(unquote(parts.path))


def open_local(path: Path, option: str) -> BinaryIO:
    """Open an ordinary file for reading."""
    try:
        if path.is_file():  # asked first: opening a pipe would wait for its writer
            return path.open("rb")
        reason = "there is something else than a file" if path.exists() else "there is no such file"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
    raise InputError(f"cannot read {path}: {reason}; correct {option}-url")


def copy_file(
    source: Path, partial: Path, expected: int, option: str, progress: Callable[[int, int], None]
) -> None:
    """Copy a local file, in bounded memory."""
    with open_local(source, option) as read, partial.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        if expected and size != expected:
            raise wrong_size(str(source), size, expected, option)
        while chunk := read.read(CHUNK_BYTES):
            write.write(chunk)
            progress(write.tell(), size)


def checked(partial: Path, url: str, sha256: str, n_bytes: int, option: str) -> tuple[int, str]:
    """Size and digest of what came; what is not as expected is removed."""
    size, found = partial.stat().st_size, file_sha256(partial)
    if n_bytes and size != n_bytes:
        forget(partial)
        raise wrong_size(shown(url), size, n_bytes, option)
    if sha256 and found != sha256:
        forget(partial)
        raise InputError(
            f"{shown(url)} has the SHA-256 {found}, expected {sha256}: the bytes are not those "
            f"meant, and were thrown away; correct {option}-url or {option}-sha256"
        )
    return size, found


def publish(partial: Path, out_path: Path) -> None:
    """Move the file to its place, synced, also from one disk to another."""
    try:
        os.replace(partial, out_path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = out_path.with_name(f".{out_path.name}.part")
        shutil.copyfile(partial, beside)
        os.replace(beside, out_path)
    sync_file(out_path)
    sync_folder(out_path.parent)
