"""Corpora that cannot be read: which one, where, and the way out."""

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.damage import contents

TRAIN = "".join(f"The {n}th cat sat on the mat.\n<|endoftext|>\n" for n in range(300))
VALID = "".join(f"A dog of {n} years ran home.\n<|endoftext|>\n" for n in range(40))
FILES_AND_FOUR_STEPS = ("--corpus.kind", "url", "--training.tokens", "512")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with a sound corpus, train.txt and valid.txt."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "train.txt").write_text(TRAIN)
    (folder / "valid.txt").write_text(VALID)
    return folder


@pytest.fixture
def run(small: Callable, texts: Path, tmp_path: Path) -> Callable:
    """The small run on files; each can be put in the place of the sound one."""

    def call(*words: object, train: Path | str = "train.txt", valid: Path | str = "valid.txt"):
        urls = [
            str(name) if "://" in str(name) else (texts / name).as_uri() for name in (train, valid)
        ]
        given = ("--corpus.train-url", urls[0], "--corpus.valid-url", urls[1])
        return small(tmp_path / "artifacts", *FILES_AND_FOUR_STEPS, *given, *words)

    return call


def stages_made(tmp_path: Path) -> list[str]:
    """The stages that have an artifact."""
    store = tmp_path / "artifacts" / "store"
    return sorted(path.name for path in store.iterdir() if any(path.iterdir()))


def left_behind(tmp_path: Path) -> list[str]:
    """Files that no finished artifact, run, lock or first notice accounts for."""
    kept = ("store/", "runs/", "README.txt", "maps/")
    return [name for name in contents(tmp_path / "artifacts") if not name.startswith(kept)]


def test_a_text_that_fits_is_learned_from(run):
    """The corpus that the other tests spoil is sound itself."""
    ended = run()
    assert ended.status == 0, ended


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("data", [b"<|endoftext|>\n" * 9, gzip.compress(b"")])
def test_a_text_without_a_character_is_refused(data, split, run, texts, tmp_path):
    """Nothing but separators, or nothing packed, is named; no stage is made of it."""
    (texts / "empty.txt").write_bytes(data)
    run(**{split: "empty.txt"}).refused(f"the {split} text file://", "no text", "--corpus.format")
    assert "pretokenize" not in stages_made(tmp_path)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_file_is_refused_before_any_work(split, run, texts, tmp_path):
    """It cannot fill a window."""
    (texts / "empty.txt").write_bytes(b"")
    run(**{split: "empty.txt"}).refused(f"the {split} text has 0 bytes", "give more text")
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_bytes_that_are_not_utf8_are_placed_and_can_be_replaced(split, run, texts, tmp_path):
    """The error names the byte; `--corpus.errors replace` is the way out that it says it is."""
    text = {"train": TRAIN, "valid": VALID}[split].encode()
    (texts / "latin.txt").write_bytes(text[:700] + b"caf\xe9 " + text[700:])
    ended = run(**{split: "latin.txt"})
    ended.refused(f"the {split} text file://", "not UTF-8 at byte 703 (e9", "--corpus.errors repl")
    assert left_behind(tmp_path) == []
    ended = run("--corpus.errors", "replace", **{split: "latin.txt"})
    assert ended.status == 0, ended


def test_a_byte_that_is_not_utf8_is_placed_in_what_was_packed(run, texts):
    """In a gzip file the byte is counted in the plain text."""
    (texts / "latin.gz").write_bytes(gzip.compress(TRAIN.encode()[:700] + b"\xff" + TRAIN.encode()))
    run(train="latin.gz").refused("not UTF-8 at byte 700 (ff", "--corpus.errors replace")


@pytest.mark.parametrize("cut", [8, 200, -4])
def test_gzip_that_ends_too_early_is_refused(cut, run, texts, tmp_path):
    """Whether the header, the data or the checksum is cut."""
    (texts / "cut.gz").write_bytes(gzip.compress(TRAIN.encode())[:cut])
    run(train="cut.gz").refused("gzip that ends too early", "download it again")
    assert stages_made(tmp_path) == ["download"]
    assert left_behind(tmp_path) == []


def test_damaged_gzip_is_refused(run, texts):
    """A byte in the middle of the packed data."""
    data = bytearray(gzip.compress(TRAIN.encode()))
    data[len(data) // 2] ^= 0xFF
    (texts / "bad.gz").write_bytes(data)
    run(train="bad.gz").refused("damaged gzip", "download it again")


BROKEN_LINES = [
    ('{"text": "whole"', "no JSON", "--corpus.format"),
    ('["whole"]', "is a list", "--corpus.text-field"),
    ('{"body": "whole"}', "no field 'text', but 'body'", "--corpus.text-field"),
    ('{"text": 5}', "has a int in 'text'", "--corpus.text-field"),
    ('{"text": "\\ud800"}', "lone surrogate", "--corpus.errors replace"),
]


@pytest.mark.parametrize(("line", "fault", "way_out"), BROKEN_LINES)
def test_a_broken_json_line_is_named(line, fault, way_out, run, texts, tmp_path):
    """File and line, what is wrong with it, and the flag."""
    lines = [json.dumps({"text": f"A line {n}."}) for n in range(300)]
    (texts / "valid.jsonl").write_text("\n".join(lines))
    lines[41] = line
    (texts / "train.jsonl").write_text("\n".join(lines))
    ended = run("--corpus.format", "jsonl", train="train.jsonl", valid="valid.jsonl")
    ended.refused("train.jsonl, line 42", fault, way_out)
    assert stages_made(tmp_path) == ["download"]
    assert left_behind(tmp_path) == []


PARQUETS = [
    (pa.table({"body": ["a"], "id": [1]}), "no single column 'text', but 'body', 'id'"),
    (pa.table({"text": [1, 2]}), "'text' holds int64"),
    (pa.table({"text": pa.array(["a", None, b"\xff"], pa.binary())}), "row 2 is not UTF-8"),
    (pa.table({"text": pa.array([], pa.string())}), "holds no text"),
]


@pytest.mark.parametrize(("table", "fault"), PARQUETS, ids=lambda value: str(value)[:20])
def test_a_table_without_text_is_refused(table, fault, run, texts, tmp_path):
    """No such column, no text in it, or bytes that are none: said with the flag to change."""
    pq.write_table(table, texts / "train.parquet")
    ended = run("--corpus.format", "parquet", train="train.parquet", valid="train.parquet")
    ended.refused(fault, "--corpus.")
    assert stages_made(tmp_path) == ["download"]
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("cut", [40, 100, -9])
def test_a_table_cut_short_is_refused(cut, run, texts):
    """pyarrow's own words, and ours."""
    pq.write_table(pa.table({"text": ["a text"] * 500}), texts / "whole.parquet")
    (texts / "cut.parquet").write_bytes((texts / "whole.parquet").read_bytes()[:cut])
    ended = run("--corpus.format", "parquet", train="cut.parquet", valid="whole.parquet")
    ended.refused("cut.parquet as Parquet", "--corpus.format")


@pytest.mark.parametrize(
    ("format", "suffix", "fault"),
    [("text", "parquet", "--corpus.format parquet"), ("parquet", "txt", "as Parquet")],
)
def test_a_file_of_another_format_is_told_from_damage(format, suffix, fault, run, texts):
    """A table read as text is known by its first bytes."""
    pq.write_table(pa.table({"text": ["a"]}), texts / "train.parquet")
    run("--corpus.format", format, train=f"train.{suffix}").refused(fault)


def test_a_validation_text_shorter_than_the_context_is_refused(run, texts, tmp_path):
    """By its bytes, before any work."""
    (texts / "short.txt").write_text("Too short.")
    run(valid="short.txt").refused("valid text has 10 bytes", "--model.context-length")
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("name", ["short.txt", "short.gz"])
def test_a_validation_text_of_too_few_tokens_is_refused(name, run, texts, tmp_path):
    """By its tokens, once they are counted: nothing is trained, what was made stays."""
    data = b"The 1th cat sat on the mat.\n" * 2
    (texts / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    ended = run(valid=name)
    ended.refused("the validation text has", "33", "--model.context-length")
    assert stages_made(tmp_path) == ["download", "pretokenize", "tokenizer"]
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_file_that_is_not_there_is_refused_before_any_work(split, run, tmp_path):
    """With its path, and the flag that named it."""
    run(**{split: "gone.txt"}).refused("gone.txt", "no such file", f"--corpus.{split}-url")
    assert not (tmp_path / "artifacts").exists()


def test_two_files_that_are_not_there_are_said_at_once(run):
    """Both paths and both flags in one list."""
    ended = run(train="gone.txt", valid="lost.txt")
    ended.refused("gone.txt", "--corpus.train-url", "lost.txt", "--corpus.valid-url")
    assert ended.err.startswith("error: 2 things to mend:")


def test_what_is_packed_may_have_fewer_bytes_than_the_context_has_tokens(run, texts):
    """Only a plain text's bytes say that it is too short: gzip is known by its bytes too."""
    (texts / "packed").write_bytes(gzip.compress(b"mat " * 5_000))
    ended = run("--model.context-length", "128", "--training.tokens", "2048", valid="packed")
    assert ended.status == 0, ended


def test_a_folder_is_no_text(run, texts, tmp_path):
    """A URL of a folder is refused as such."""
    (texts / "folder").mkdir()
    run(train="folder").refused("folder", "something else than a file", "--corpus.train-url")
    assert not (tmp_path / "artifacts").exists()


URLS = [
    ("ftp://example.org/a.txt", "scheme ftp is not one of https, http, file"),
    ("s3://bucket/a.txt", "scheme s3"),
    ("javascript://alert", "scheme javascript"),
    ("file://host/a.txt", "three slashes"),
    ("file://a.txt", "three slashes"),
    ("https://", "names no host"),
    ("http://host:99999/a", "no URL"),
]


@pytest.mark.parametrize(("url", "fault"), URLS)
def test_a_url_that_nobody_can_fetch_is_refused_before_any_work(url, fault, run, tmp_path):
    """Unsupported schemes and broken URLs, with the flag."""
    run(train=url).refused(url, fault, "--corpus.train-url")
    assert not (tmp_path / "artifacts").exists()


def test_two_bad_urls_are_said_at_once(run):
    """Both flags in one list."""
    ended = run(train="ftp://a/b", valid="s3://c/d")
    ended.refused("2 things to mend", "--corpus.train-url", "--corpus.valid-url")


def test_a_path_is_no_url_and_the_error_says_how_to_write_it(small, tmp_path):
    """`--corpus.train-url a.txt` is the mistake that everyone makes first."""
    urls = ("--corpus.train-url", "/data/a.txt", "--corpus.valid-url", "b.txt")
    small(tmp_path / "a", *FILES_AND_FOUR_STEPS, *urls).refused(
        "no scheme", "file:///ABSOLUTE/PATH"
    )


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_file_of_another_digest_is_refused(split, run, tmp_path):
    """What came is named beside what was expected, and thrown away."""
    ended = run(f"--corpus.{split}-sha256", "0" * 64)
    ended.refused("SHA-256", "0" * 64, f"--corpus.{split}-sha256")
    assert stages_made(tmp_path) == []
    assert left_behind(tmp_path) == []


def test_a_digest_that_is_none_is_refused_before_any_work(run, tmp_path):
    """64 hexadecimal digits."""
    run("--corpus.train-sha256", "ABC").refused("64 lower-case", "--corpus.train-sha256")
    assert not (tmp_path / "artifacts").exists()


def test_a_file_of_another_size_is_refused(run):
    """`--corpus.train-bytes` is checked before the bytes are copied."""
    run("--corpus.train-bytes", "5").refused("expected 5", "--corpus.train-bytes")


# --- over HTTP ------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Serves the two texts; what is asked of it is kept, and how it misbehaves is told."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, behaviour: dict, **kwargs: object) -> None:
        self.behaviour = behaviour
        super().__init__(*args, **kwargs)  # pyright: ignore[reportArgumentType]

    def do_HEAD(self) -> None:
        self.answer(send=False)

    def do_GET(self) -> None:
        self.answer(send=True)

    def answer(self, send: bool) -> None:
        self.behaviour["asked"].append((self.command, self.path, self.headers.get("Range")))
        body = {"/train.txt": TRAIN.encode(), "/valid.txt": VALID.encode()}.get(self.path)
        if body is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if span := self.headers.get("Range"):
            start = int(span.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if span else 200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if send:
            end = self.behaviour.get("breaks_off_at", len(body))
            self.wfile.write(body[start:end])
            if end < len(body):
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serving(**behaviour: int) -> Iterator[tuple[str, dict]]:
    """A server on this machine: its address and what it was asked."""
    kept: dict = {"asked": [], **behaviour}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, behaviour=kept))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    from flows.corpora import fetch

    defaults = fetch.fetch.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sleep", lambda seconds: None)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_url_that_answers_404_is_refused_before_any_work(split, run, tmp_path):
    """With its status, and the flag that named it; nothing is fetched."""
    with serving() as (host, kept):
        urls = {"train": f"{host}/train.txt", "valid": f"{host}/valid.txt"}
        ended = run(**(urls | {split: f"{host}/gone.txt"}))
    ended.refused("gone.txt", "404", f"--corpus.{split}-url")
    assert {command for command, *_ in kept["asked"]} == {"HEAD"}
    assert not (tmp_path / "artifacts" / "store").exists()


def test_a_server_that_is_not_there_is_refused_before_any_work(run, tmp_path):
    """Nobody listens at the port."""
    with serving() as (host, _):
        pass
    run(train=f"{host}/train.txt").refused("does not answer", "--corpus.train-url")
    assert not (tmp_path / "artifacts" / "store").exists()


def test_a_download_that_breaks_off_is_refused_and_goes_on_at_the_next_run(
    run, tmp_path, no_waiting
):
    """What came is kept, no artifact is made of it, and only the rest is asked for."""
    with serving(breaks_off_at=1000) as (host, kept):
        ended = run(train=f"{host}/train.txt")
        ended.refused("did not come", "1,000 bytes are kept", "run again")
        assert stages_made(tmp_path) == []
        assert {Path(name).name for name in left_behind(tmp_path)} == {"train", "train.json"}
        kept["asked"].clear()
        del kept["breaks_off_at"]
        ended = run(train=f"{host}/train.txt")
        assert ended.status == 0, ended
    assert ("GET", "/train.txt", "bytes=1000-") in kept["asked"]
    (made,) = (tmp_path / "artifacts" / "store" / "download").iterdir()
    assert (made / "train").read_text() == TRAIN
    assert left_behind(tmp_path) == []


def test_a_download_of_another_digest_is_refused(run, tmp_path, no_waiting):
    """The bytes are thrown away; with the right digest the run goes through."""
    with serving() as (host, _):
        ended = run("--corpus.train-sha256", "0" * 64, train=f"{host}/train.txt")
        ended.refused("SHA-256", "0" * 64, "--corpus.train-sha256")
        assert stages_made(tmp_path) == []
        assert left_behind(tmp_path) == []
        right = hashlib.sha256(TRAIN.encode()).hexdigest()
        ended = run("--corpus.train-sha256", right, train=f"{host}/train.txt")
        assert ended.status == 0, ended
