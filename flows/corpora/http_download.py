"""Downloads over HTTP that resume: the one file that knows the HTTP client (httpx).

What has come lies in a partial file that outlives the process; beside it a JSON file says of
which URL it is, which version of it (ETag or Last-Modified), and how many bytes are surely on the
disk. A new attempt asks for the rest with Range, on condition (If-Range) that the version is the
same; a server that has another version, or knows no ranges, sends the whole again.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.disk.atomic import new_file
from lmcore.errors import InputError

if TYPE_CHECKING:
    import httpx

# A kill costs at most this much of a download; a sync of it takes well under a second.
SYNC_BYTES = 64 << 20
TIMEOUT_SECONDS = 30.0
PREFLIGHT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0
# The server is busy, or in trouble that may pass; every other refusal is final.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Terms:
    """What a download must keep to.

    Attributes:
      n_bytes: the size it must have; 0 is unknown.
      max_bytes: never take more than this.
      retries: attempts in a row that may bring nothing new.
      option: how the flags that concern it begin, for the messages: ``--corpus.train``.
    """

    n_bytes: int
    max_bytes: int
    retries: int
    option: str


class Passing(Exception):
    """An attempt failed in a way that the next may not; ``wait`` is what the server asks for."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def download(
    url: str,
    partial: Path,
    terms: Terms,
    progress: Callable[[int, int], None],
    sleep: Callable[[float], None],
) -> None:
    """Bring the whole of ``url`` into ``partial``, going on from what lies there.

    Args:
      url: http or https.
      partial: the file; complete when this returns, kept when it raises.
      terms: size, bounds, retries.
      progress: called with (bytes there, bytes in all; 0 when unknown).
      sleep: waits between attempts.

    Raises:
      InputError: the server refuses, the size is not the one expected, the attempts are used up.
    """
    most, fruitless = 0, 0
    with client(TIMEOUT_SECONDS) as session:
        while True:
            try:
                return attempt(session, url, partial, terms, progress)
            except Passing as error:
                here = partial.stat().st_size if partial.exists() else 0
                fruitless = 0 if here > most else fruitless + 1
                most = max(most, here)
                if fruitless > terms.retries:
                    raise InputError(
                        f"{shown(url)} did not come: {error}, {fruitless} times in a row; "
                        f"{here:,} bytes are kept: run again to go on, or check "
                        f"{terms.option}-url"
                    ) from error
                sleep(min(max(error.wait, 0.5 * 2**fruitless), LONGEST_WAIT_SECONDS))


@contextmanager
def client(timeout: float) -> "Iterator[httpx.Client]":
    """An HTTP session that follows redirects and asks for plain bytes."""
    import httpx

    headers = {"User-Agent": "lmcore", "Accept-Encoding": "identity"}  # the file's own bytes
    with httpx.Client(follow_redirects=True, timeout=timeout, headers=headers) as session:
        yield session


@contextmanager
def http_errors(url: str, option: str) -> Iterator[None]:
    """Sort the client's errors into those that may pass and those that will not."""
    import httpx

    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise InputError(
            f"{shown(url)} cannot be fetched ({error}); correct {option}-url"
        ) from error
    except httpx.TransportError as error:
        raise Passing(f"{type(error).__name__}: {error}") from error


def attempt(
    session: "httpx.Client",
    url: str,
    partial: Path,
    terms: Terms,
    progress: Callable[[int, int], None],
) -> None:
    """One request for what is missing; returns when the partial file is complete."""
    have, version = resumable(partial, url)
    asked = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    with http_errors(url, terms.option), session.stream("GET", url, headers=asked) as response:
        check_redirects(url, [str(hop.url) for hop in (*response.history, response)], terms.option)
        if response.status_code == 416 and total_of(response) == have:
            check_total(url, partial, have, have, terms)
            return
        start, total = place(response, url, have, version, partial, terms)
        check_total(url, partial, start, total, terms)
        receive(response, url, partial, start, total, terms, progress)
    check_end(url, partial, total or terms.n_bytes, terms)


def place(
    response: "httpx.Response", url: str, have: int, version: str, partial: Path, terms: Terms
) -> tuple[int, int]:
    """Where in the file the answer's bytes begin, and how long the file is (0: unknown)."""
    status = response.status_code
    if status == 200:
        return 0, int(response.headers.get("Content-Length", 0))
    if status == 206 and have and version_of(response) in ("", version):
        span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if span and int(span[1]) == have:
            return have, total_of(response)
    if status in (206, 416):
        forget(partial)
        raise Passing("the server sent another part of the file than the one asked for")
    message = f"{status} {response.reason_phrase}".strip()
    if status in PASSING:
        raise Passing(f"the server answered {message}", wait_of(response))
    raise InputError(f"{shown(url)} cannot be fetched: {message}; correct {terms.option}-url")


def receive(
    response: "httpx.Response",
    url: str,
    partial: Path,
    start: int,
    total: int,
    terms: Terms,
    progress: Callable[[int, int], None],
) -> None:
    """Write the answer's bytes behind what is there; whatever happens, what came is kept."""
    version, done, synced = version_of(response), start, start
    note(partial, url, version, start)
    with partial.open("r+b" if partial.exists() else "xb") as file:
        file.truncate(start)
        file.seek(start)
        try:
            # Without a chunk size: chunks of one size are gathered, and lost when the line breaks.
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                if done > (total or terms.n_bytes or terms.max_bytes):
                    raise too_long(url, done, terms)
                progress(done, total or terms.n_bytes)
                if done - synced >= SYNC_BYTES:
                    synced = settle(file, partial, url, version)
        finally:
            settle(file, partial, url, version)


def settle(file: Any, partial: Path, url: str, version: str) -> int:
    """Force the file to the disk, then say how far it reaches: these bytes can be built on."""
    file.flush()
    os.fsync(file.fileno())
    reached = file.tell()
    note(partial, url, version, reached)
    return reached


def note(partial: Path, url: str, version: str, synced: int) -> None:
    """Write what the partial file is, beside it."""
    facts = {"url": hashlib.sha256(url.encode()).hexdigest(), "version": version, "synced": synced}
    with new_file(notes(partial)) as file:
        file.write(json.dumps(facts).encode())


def notes(partial: Path) -> Path:
    """The file that says what the partial file is."""
    return partial.with_name(partial.name + ".json")


def resumable(partial: Path, url: str) -> tuple[int, str]:
    """How many bytes can be built on, and of which version; (0, "") means start afresh."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads(notes(partial).read_text())
        same_url = facts["url"] == hashlib.sha256(url.encode()).hexdigest()
        have = min(partial.stat().st_size, int(facts["synced"]))
        if same_url and facts["version"] and have > 0:
            return have, str(facts["version"])
    return 0, ""


def forget(partial: Path) -> None:
    """Remove the partial file and what was said of it."""
    partial.unlink(missing_ok=True)
    notes(partial).unlink(missing_ok=True)


def check_total(url: str, partial: Path, have: int, total: int, terms: Terms) -> None:
    """Refuse, before the bytes come, a file of another size, or one that has no room."""
    if terms.n_bytes and total and total != terms.n_bytes:
        forget(partial)
        raise wrong_size(shown(url), total, terms.n_bytes, terms.option)
    if total > terms.max_bytes:
        raise too_long(url, total, terms)
    free = shutil.disk_usage(partial.parent).free
    if total - have > free:
        raise InputError(
            f"no room for {shown(url)}: {total - have:,} bytes are to come, {free:,} are free at "
            f"{partial.parent}; free some space, or put the artifacts folder on another disk"
        )


def check_end(url: str, partial: Path, expected: int, terms: Terms) -> None:
    """A file that is shorter than announced was cut off on the way."""
    size = partial.stat().st_size
    if size < expected:
        raise Passing(f"the download ended after {size:,} of {expected:,} bytes")


def wrong_size(name: str, size: int, expected: int, option: str) -> InputError:
    """The error for a file of another size than the one expected."""
    return InputError(
        f"{name} has {size:,} bytes, expected {expected:,}: it changed, or it is another file; "
        f"correct {option}-url or {option}-bytes"
    )


def too_long(url: str, n_bytes: int, terms: Terms) -> InputError:
    """The error for more bytes than there may be."""
    bound = terms.n_bytes or terms.max_bytes
    return InputError(
        f"{shown(url)} has {n_bytes:,} bytes or more, at most {bound:,} may come; correct "
        f"{terms.option}-url, or say the size with {terms.option}-bytes"
    )


def check_redirects(url: str, hops: list[str], option: str) -> None:
    """Refuse to be led from https to plain http, where anyone could change the bytes."""
    if url.startswith("https:") and not all(hop.startswith("https:") for hop in hops):
        raise InputError(
            f"{shown(url)} leads to {shown(hops[-1])}, which is not https; correct {option}-url"
        )


def version_of(response: "httpx.Response") -> str:
    """What tells this version of the file from others: a strong ETag, else Last-Modified."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def total_of(response: "httpx.Response") -> int:
    """The whole file's length as a partial answer gives it, or 0."""
    total = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(total[1]) if total else 0


def wait_of(response: "httpx.Response") -> float:
    """How many seconds the server asks to wait, or 0."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if re.fullmatch(r"\d{1,6}", asked) else 0.0


def size_at(url: str, option: str) -> int:
    """Ask whether the URL answers, without fetching it; gives its size, 0 when unknown.

    Raises:
      InputError: it does not exist, or nobody answers.
    """
    try:
        with client(PREFLIGHT_SECONDS) as session, http_errors(url, option):
            response = session.head(url)
            if response.status_code in (403, 405, 501):  # a server that refuses to be asked
                with session.stream("GET", url, headers={"Range": "bytes=0-0"}) as response:
                    return judged_size(response, url, option)
            return judged_size(response, url, option)
    except Passing as error:
        raise InputError(
            f"{shown(url)} does not answer ({error}); check the network, or correct {option}-url"
        ) from error


def judged_size(response: "httpx.Response", url: str, option: str) -> int:
    """The size that an answer announces; a refusal is an error."""
    if response.is_error:
        message = f"{response.status_code} {response.reason_phrase}".strip()
        raise InputError(f"{shown(url)} cannot be fetched: {message}; correct {option}-url")
    check_redirects(url, [str(response.url)], option)
    return total_of(response) or int(response.headers.get("Content-Length", 0))


def shown(url: str) -> str:
    """The URL for a message, without the secrets it may carry (user, password, query)."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
