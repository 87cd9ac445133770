"""Downloads: resumed, retried, bounded, and published only when they are the right bytes."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.corpora import http_download
from flows.corpora.fetch import fetch, preflight
from lmcore.errors import InputError

DATA = bytes(range(256)) * 1200  # 307,200 bytes: more than one chunk of the client
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Site:
    """A web site of one file, and the faults that it shows."""

    data: bytes = DATA
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True
    heeds_if_range: bool = True
    says_length: bool = True
    head_status: int = 200
    # What each answer does, in turn; afterwards the site is sound. A number below 200 is how many
    # percent of the body are sent before the connection is cut, a greater one is a status.
    script: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    stall: bool = False
    requests: list[dict] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Serves the site; HTTP/1.1, so that a body without a length is chunked."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format, *args):
        """Be quiet."""

    def do_HEAD(self):
        """Answer a question for the headers."""
        self.site.requests.append({"method": "HEAD"})
        self.send_response(self.site.head_status)
        self.send_header("Content-Length", str(len(self.site.data)))
        self.end_headers()

    def do_GET(self):
        """Answer with the file, a part of it, or what the script says."""
        site = self.site
        site.requests.append({"method": "GET", **{k.lower(): v for k, v in self.headers.items()}})
        act = site.script.pop(0) if site.script else 100
        if self.path == "/moved":
            return self.refuse(302, {"Location": "/file"})
        if act >= 200:
            return self.refuse(act, site.headers)
        asked = self.headers.get("Range") if site.ranges else None
        if site.heeds_if_range and self.headers.get("If-Range") not in (site.etag, site.modified):
            asked = None if self.headers.get("If-Range") else asked
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if start >= len(site.data):
            return self.refuse(416, {"Content-Range": f"bytes */{len(site.data)}"})
        return self.send_body(site, asked is not None, start, act)

    def refuse(self, status, headers):
        """An answer without a body."""
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, site, partial, start, percent):
        """The file from ``start``, or so many percent of that."""
        body = site.data[start:]
        self.send_response(206 if partial else 200)
        if partial:
            end = len(site.data) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(site.data)}")
        for name, value in {"ETag": site.etag, "Last-Modified": site.modified}.items():
            if value:
                self.send_header(name, value)
        if site.says_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = body[: len(body) * percent // 100]
        with suppress(OSError):
            self.wfile.write(sent if site.says_length else b"%x\r\n%s\r\n" % (len(sent), sent))
            self.wfile.flush()
            if site.stall:
                time.sleep(20)
            if not site.says_length and percent == 100:
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = percent < 100


@pytest.fixture
def site(monkeypatch):
    """A running site on this machine; no proxy stands in between."""
    monkeypatch.setenv("NO_PROXY", "*")
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # clients that hang up are part of it
    site.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits():
    """The waits between attempts, which are not really waited."""
    return []


@pytest.fixture
def get(tmp_path, waits):
    """Fetch into this test's folder."""

    def call(url, **options):
        partial = tmp_path / "work" / "part"
        out = tmp_path / "out.txt"
        return fetch(url, out, partial=partial, sleep=waits.append, **options)

    return call


def ranges(site):
    """The Range of each request for the file, None where there was none."""
    return [request.get("range") for request in site.requests if request["method"] == "GET"]


def left(tmp_path):
    """What lies in the test's folder, by name."""
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


# Files ------------------------------------------------------------------------------------------


def test_a_file_is_copied(tmp_path, get):
    """A local file comes whole, with its digest, and the source stays; spaces and é too."""
    source = tmp_path / "a é #.txt"
    source.write_bytes(DATA)
    seen = []
    fetched = get(source.as_uri(), progress=lambda done, total: seen.append((done, total)))
    assert (fetched.n_bytes, fetched.sha256) == (len(DATA), SHA256)
    assert (tmp_path / "out.txt").read_bytes() == source.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert left(tmp_path) == ["a é #.txt", "out.txt"]


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}"])
def test_a_file_url_may_be_plain(tmp_path, get, form):
    """A path that is not percent-encoded works, and so does the host localhost."""
    (tmp_path / "a b.txt").write_bytes(DATA)
    assert get(form.format(tmp_path / "a b.txt")).sha256 == SHA256


@pytest.mark.parametrize("ask", ["fetch", "preflight"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///no/such/file", "there is no such file"),
        ("file:///", "something else than a file"),
        ("file:///dev/null", "something else than a file"),
        ("file:///a%00b", "cannot read|no such file"),
        ("file:///a?b", "written %3F and %23"),
        ("file://host/a", "must be file:///ABSOLUTE/PATH"),
        ("ftp://host/a", "its scheme must be one of https, http, file"),
        ("/data/a.txt", "file:///ABSOLUTE/PATH"),
    ],
)
def test_a_url_that_leads_nowhere(get, ask, url, message):
    """What cannot be fetched is an InputError that names the flag, asked before or while."""
    with pytest.raises(InputError, match=f"({message}).*correct --corpus.valid-url"):
        preflight(url, "--corpus.valid") if ask == "preflight" else get(
            url, option="--corpus.valid"
        )


def test_a_pipe_is_no_file(tmp_path, get):
    """A named pipe is refused at once, rather than waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="something else than a file"):
        get((tmp_path / "pipe").as_uri())


def test_the_wrong_file(tmp_path, get):
    """A file of another digest or size is refused, expected and found are said, none is left."""
    (tmp_path / "a").write_bytes(DATA)
    url = (tmp_path / "a").as_uri()
    with pytest.raises(InputError, match=f"{SHA256}, expected {'0' * 64}"):
        get(url, sha256="0" * 64)
    with pytest.raises(InputError, match=r"307,200 bytes, expected 9.*--corpus.train-bytes"):
        get(url, bytes_expected=9)
    assert "out.txt" not in left(tmp_path)
    assert get(url, sha256=SHA256, bytes_expected=len(DATA)).sha256 == SHA256


def test_a_file_that_may_not_grow(tmp_path, get):
    """A limit that is met on the way is an InputError, and no file is published."""
    (tmp_path / "a").write_bytes(DATA)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"no room for .*ulimit -f.* raise that limit"):
            get((tmp_path / "a").as_uri())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out.txt").exists()


def test_from_one_disk_to_another(tmp_path, get, monkeypatch):
    """The work folder may lie on another disk than the place of the file."""
    (tmp_path / "a").write_bytes(DATA)
    real = os.replace

    def replace(source, target):
        if source.parent != target.parent:
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert get((tmp_path / "a").as_uri()).sha256 == SHA256
    assert left(tmp_path) == ["a", "out.txt"]


# HTTP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("says_length", [True, False])
def test_a_download_comes_whole(tmp_path, site, get, says_length):
    """The bytes, the digest and the progress are right, whether a length is announced or not."""
    site.says_length, seen = says_length, []
    fetched = get(site.url, sha256=SHA256, progress=lambda done, total: seen.append((done, total)))
    assert (fetched.n_bytes, fetched.sha256) == (len(DATA), SHA256)
    assert (tmp_path / "out.txt").read_bytes() == DATA
    assert seen == sorted(seen)
    assert seen[-1] == (len(DATA), len(DATA) if says_length else 0)
    assert left(tmp_path) == ["out.txt"]
    assert site.requests[0]["accept-encoding"] == "identity"


def test_a_cut_connection_is_resumed(site, get, waits):
    """After a cut, only the rest is asked for, on condition of the same version."""
    site.script = [50, 50]
    assert get(site.url).sha256 == SHA256
    assert ranges(site) == [None, "bytes=153600-", "bytes=230400-"]
    assert [request.get("if-range") for request in site.requests] == [None, '"one"', '"one"']
    assert waits == [0.5, 0.5]


def test_resuming_by_date(site, get):
    """Without a strong ETag, the date of the last change is the condition."""
    site.etag, site.modified = 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT"
    site.script = [50]
    assert get(site.url).sha256 == SHA256
    assert site.requests[1]["if-range"] == site.modified


@pytest.mark.parametrize("lack", ["ranges", "version"])
def test_a_server_that_cannot_resume(site, get, lack):
    """A server without ranges, or without a version, sends the whole again; nothing is mixed."""
    site.ranges = lack != "ranges"
    site.etag = '"one"' if lack == "ranges" else ""
    site.script = [50, 60]
    assert get(site.url).sha256 == SHA256
    assert len(site.requests) == 3


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("new", [DATA[::-1], b"short"], ids=["as long", "shorter"])
def test_another_version_is_never_mixed_in(site, get, heeds_if_range, new):
    """When the file changes between two attempts, the new one comes whole, from its beginning."""
    site.script, site.heeds_if_range = [50], heeds_if_range

    def change(done, total):
        site.data, site.etag = new, '"two"'

    assert get(site.url, progress=change).sha256 == hashlib.sha256(new).hexdigest()


def test_a_later_run_goes_on(tmp_path, site, get):
    """What a failed run brought is kept, and the next run asks for the rest only."""
    site.script = [50, 404]
    with pytest.raises(InputError, match="404"):
        get(site.url)
    assert left(tmp_path) == ["work/part", "work/part.json"]
    assert get(site.url).sha256 == SHA256
    assert ranges(site)[-1] == "bytes=153600-"


def test_a_partial_file_of_another_url_is_not_used(site, get):
    """What was brought from one URL is no beginning of another."""
    site.script = [50, 404]
    with pytest.raises(InputError, match="404"):
        get(site.url)
    assert get(site.url + "?other").sha256 == SHA256
    assert ranges(site)[-1] is None


def test_a_complete_partial_file_is_not_fetched_again(tmp_path, site, get):
    """A run killed between the last byte and the publishing needs no byte more."""
    site.script = [50, 404]
    with pytest.raises(InputError, match="404"):
        get(site.url)
    part = tmp_path / "work" / "part"
    part.write_bytes(DATA)
    http_download.note(part, site.url, '"one"', len(DATA))
    assert get(site.url).sha256 == SHA256
    assert ranges(site)[-1] == f"bytes={len(DATA)}-"


def test_bytes_that_were_not_synced_are_not_trusted(tmp_path, site, get):
    """After a crash of the machine, only what is known to be on the disk is built on."""
    part = tmp_path / "work" / "part"
    part.parent.mkdir()
    part.write_bytes(DATA[:1000] + bytes(5000))  # the file system had made room, not written
    http_download.note(part, site.url, '"one"', 1000)
    assert get(site.url, sha256=SHA256).sha256 == SHA256
    assert ranges(site) == ["bytes=1000-"]


def test_killed_and_started_again(tmp_path, site, get):
    """A process killed in the middle of a download leaves what it had synced to the next one."""
    site.stall, site.script = True, [50]
    part = tmp_path / "work" / "part"
    code = (
        "from pathlib import Path; from flows.corpora import http_download, fetch\n"
        "http_download.SYNC_BYTES = 1 << 16\n"
        f"fetch.fetch({site.url!r}, Path({str(tmp_path / 'x')!r}), partial=Path({str(part)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    site.stall = False
    assert get(site.url).sha256 == SHA256
    assert int(ranges(site)[1].removeprefix("bytes=").removesuffix("-")) >= 1 << 16


def test_a_file_that_is_always_cut_short(tmp_path, site, get, waits):
    """A server that never sends the end is given up, with what came and what to do."""
    site.ranges, site.script = False, [50] * 9
    with pytest.raises(InputError, match=r"did not come.*4 times in a row.*153,600 bytes are kept"):
        get(site.url, retries=3)
    assert len(site.requests) == 5
    assert waits == [0.5, 1, 2, 4]
    assert not (tmp_path / "out.txt").exists()


def test_a_cut_body_without_a_length(site, get):
    """A chunked body that breaks off is noticed and fetched again."""
    site.says_length, site.script = False, [50]
    assert get(site.url).sha256 == SHA256


def test_a_short_file_of_known_size(site, get):
    """Where the size is known but not announced, a shorter body is a fault, not a file."""
    site.says_length, site.data = False, DATA[:1000]
    site.ranges = False
    with pytest.raises(InputError, match="ended after 1,000 of 307,200 bytes"):
        get(site.url, bytes_expected=len(DATA), retries=1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_refusal_is_final(site, get, status):
    """A refusal ends at once, with the status and the flag."""
    site.script = [status]
    with pytest.raises(InputError, match=f"{status} .*correct --corpus.valid-url"):
        get(site.url, option="--corpus.valid")
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_may_pass(site, get, waits, status):
    """A busy or broken server is asked again, after the wait it asks for, a minute at most."""
    site.script, site.headers = [status], {"Retry-After": "7"}
    assert get(site.url).sha256 == SHA256
    site.script, site.headers = [status], {"Retry-After": "9999"}
    assert get(site.url).sha256 == SHA256
    assert waits == [7, 60]


def test_trouble_that_does_not_pass(site, get, waits):
    """A server that stays broken is given up after the retries."""
    site.script = [503] * 9
    with pytest.raises(InputError, match="503 Service Unavailable, 3 times in a row"):
        get(site.url, retries=2)
    assert waits == [1, 2]


def test_nobody_there(get, monkeypatch):
    """A refused connection is retried, then an InputError."""
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(InputError, match="did not come: ConnectError"):
        get("http://127.0.0.1:9/a", retries=1)


def test_a_wrong_digest_is_thrown_away(tmp_path, site, get):
    """A download of another digest is refused, said in full, and not kept to be resumed."""
    with pytest.raises(InputError, match=f"{SHA256}, expected {'0' * 64}.*--corpus.train-sha256"):
        get(site.url, sha256="0" * 64)
    assert left(tmp_path) == []


def test_a_wrong_size_is_known_before_the_bytes(tmp_path, site, get):
    """An announced size other than the one expected is refused before a byte is taken."""
    seen = []
    with pytest.raises(InputError, match=r"307,200 bytes, expected 5.*--corpus.train-bytes"):
        get(site.url, bytes_expected=5, progress=lambda *at: seen.append(at))
    assert (seen, left(tmp_path)) == ([], [])


@pytest.mark.parametrize("says_length", [True, False])
def test_a_download_is_bounded(tmp_path, site, get, says_length):
    """More bytes than allowed are not taken, announced or not."""
    site.says_length = says_length
    with pytest.raises(InputError, match="at most 1,000 may come"):
        get(site.url, max_bytes=1000)
    assert not (tmp_path / "out.txt").exists()


def test_no_room_is_known_before_the_bytes(tmp_path, site, get, monkeypatch):
    """A file larger than the free space is refused before a byte is taken."""
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="307,200 bytes are to come, 1,000 are free"):
        get(site.url)


def test_a_redirect_is_followed(site, get):
    """A URL that has moved is followed to where it leads."""
    assert get(site.url.replace("/file", "/moved")).sha256 == SHA256


def test_https_never_leads_to_http():
    """A redirect from https to plain http is refused, on any hop."""
    hops = ["https://a/x", "http://b/x", "https://c/x"]
    with pytest.raises(InputError, match="not https"):
        http_download.check_redirects("https://a/x", hops, "--corpus.train")
    http_download.check_redirects("http://a/x", hops, "--corpus.train")


def test_messages_hold_no_secrets(site, get):
    """User, password and query of a URL are never in a message."""
    site.script = [404]
    with pytest.raises(InputError) as caught:
        get(site.url.replace("://", "://me:secret@") + "?token=secret")
    assert "secret" not in str(caught.value)


# Preflight --------------------------------------------------------------------------------------


def test_preflight_tells_the_size(tmp_path, site):
    """A URL that leads to something gives its size, and no byte of it is fetched."""
    (tmp_path / "a").write_bytes(DATA)
    assert preflight((tmp_path / "a").as_uri()) == len(DATA)
    assert preflight(site.url) == len(DATA)
    assert [request["method"] for request in site.requests] == ["HEAD"]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_preflight_of_a_server_that_refuses_to_be_asked(site, status):
    """Where HEAD is not allowed, the first byte is asked for instead."""
    site.head_status = status
    assert preflight(site.url) == len(DATA)
    assert ranges(site) == ["bytes=0-0"]


@pytest.mark.parametrize("status", [404, 410, 500])
def test_preflight_of_what_is_not_there(site, status):
    """A URL without a file is an InputError with the status and the flag."""
    site.head_status = status
    with pytest.raises(InputError, match=f"{status} .*correct --corpus.train-url"):
        preflight(site.url)


def test_preflight_when_nobody_is_there(monkeypatch):
    """No answer is an InputError that speaks of the network."""
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(InputError, match=r"does not answer.*check the network"):
        preflight("http://127.0.0.1:9/a")
