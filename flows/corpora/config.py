"""Which text a run learns from: where it lies, how it is split into documents."""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

CorpusKind = Literal["stories", "url"]
CorpusFormat = Literal["text", "jsonl", "parquet"]
Utf8Errors = Literal["strict", "replace"]
SCHEMES = ("https", "http", "file")


@dataclass(frozen=True)
class SourceConfig:
    """Which bytes a run learns from: the embedded stories, or two files by URL.

    Example:
      >>> SourceConfig(kind="url", train_url="file:///data/a.txt", valid_url="file:///b.txt").kind
      'url'
    """

    kind: CorpusKind = "stories"
    """The embedded corpus (stories), or files by URL (url)."""
    train_url: str = ""
    """Where the training text lies: https, http or file, plain or gzip."""
    valid_url: str = ""
    """Where the validation text lies: https, http or file, plain or gzip."""
    train_sha256: str = ""
    """SHA-256 of the training file as downloaded, in lower-case hexadecimal; empty is unknown."""
    valid_sha256: str = ""
    """SHA-256 of the validation file as downloaded; empty is unknown."""
    train_bytes: int = 0
    """Size of the training file as downloaded, in bytes; 0 is unknown."""
    valid_bytes: int = 0
    """Size of the validation file as downloaded, in bytes; 0 is unknown."""
    n_train_stories: int = 20_000
    """How many embedded stories to train on."""
    n_valid_stories: int = 1_000
    """How many embedded stories, all different draws, to validate on."""
    seed: int = 0
    """Which embedded stories are drawn."""


@dataclass(frozen=True)
class ReadingConfig:
    """How the bytes of a corpus are read as documents.

    Example:
      >>> ReadingConfig(format="jsonl").text_field
      'text'
    """

    format: CorpusFormat = "text"
    """Plain text with separators, one JSON object a line, or a Parquet table."""
    text_field: str = "text"
    """The field (jsonl) or column (parquet) that holds a document's text."""
    separator: str = "<|endoftext|>"
    """What stands between two documents of plain text; empty makes the file one document."""
    errors: Utf8Errors = "strict"
    """What bytes that are not UTF-8 do: stop the run (strict), or become U+FFFD (replace)."""
    max_train_bytes: int = 0
    """Take only so many bytes of training text, cut at a document's border; 0 takes all."""


def faults(source: SourceConfig, reading: ReadingConfig) -> list[str]:
    """Everything that is wrong with the two, one message each; empty when they are sound.

    Each message says what was expected, what came, and which flag to change. Nothing is opened
    or asked for: whether a URL answers is ``flows.corpora.fetch.preflight``'s question.

    Args:
      source: which bytes.
      reading: how they are read.

    Returns:
      The messages.

    Example:
      >>> faults(SourceConfig(n_train_stories=0), ReadingConfig())
      ['n_train_stories is 0: it must be at least 1; raise --corpus.n-train-stories']
    """
    return [
        *choice_faults(source, {"kind": CorpusKind}),
        *choice_faults(reading, {"format": CorpusFormat, "errors": Utf8Errors}),
        *url_faults(source),
        *digest_faults(source),
        *field_faults(source, reading),
        *least_faults(source, SOURCE_LEAST),
        *least_faults(reading, {"max_train_bytes": 0}),
    ]


SOURCE_LEAST = {
    "train_bytes": 0,
    "valid_bytes": 0,
    "seed": 0,
    "n_train_stories": 1,
    "n_valid_stories": 1,
}


def choice_faults(config: SourceConfig | ReadingConfig, choices: dict[str, Any]) -> list[str]:
    """Faults of the fields that are one of a few words."""
    return [
        f"{name} is {getattr(config, name)!r}: it must be one of {', '.join(get_args(choice))}; "
        f"change {flag(name)}"
        for name, choice in choices.items()
        if getattr(config, name) not in get_args(choice)
    ]


def url_faults(config: SourceConfig) -> list[str]:
    """Faults of the two URLs, given the kind of corpus."""
    found = []
    for name in ("train_url", "valid_url"):
        url = getattr(config, name)
        if config.kind == "url" and not url:
            found.append(f"{name} is empty: --corpus.kind url needs one; give {flag(name)} URL")
        elif config.kind == "stories" and url:
            found.append(
                f"{name} is {url!r}, but kind is 'stories', which reads no URL; "
                f"add --corpus.kind url or drop {flag(name)}"
            )
        elif url:
            found += [f"{name} is {url!r}: {fault}" for fault in one_url_faults(url, flag(name))]
    return found


def one_url_faults(url: str, option: str) -> list[str]:
    """What keeps a string from being a URL that can be fetched."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what checks it)
    except ValueError as error:
        return [f"it is no URL ({error}); correct {option}"]
    if not parts.scheme:
        return [f"it has no scheme; for a file give {option} file:///ABSOLUTE/PATH"]
    if parts.scheme not in SCHEMES:
        return [f"the scheme {parts.scheme} is not one of {', '.join(SCHEMES)}; change {option}"]
    if parts.scheme == "file":
        local = parts.netloc in ("", "localhost") and parts.path.startswith("/")
        wanted = "a file URL has three slashes and an absolute path, file:///ABSOLUTE/PATH"
        return [] if local and parts.path != "/" else [f"{wanted}; correct {option}"]
    return [] if parts.hostname else [f"it names no host; correct {option}"]


def digest_faults(config: SourceConfig) -> list[str]:
    """Faults of the digests."""
    return [
        f"{name} is {getattr(config, name)!r}: it must be 64 lower-case hexadecimal digits, or "
        f"empty when unknown; correct {flag(name)}"
        for name in ("train_sha256", "valid_sha256")
        if not re.fullmatch(r"(?:[0-9a-f]{64})?", getattr(config, name))
    ]


def field_faults(source: SourceConfig, reading: ReadingConfig) -> list[str]:
    """Faults of the format, given the kind of corpus."""
    if source.kind == "stories":
        fixed = ReadingConfig()
        return [
            f"{name} is {getattr(reading, name)!r}, but the embedded stories are text with "
            f"separators; drop {flag(name)} or add --corpus.kind url"
            for name in ("format", "separator")
            if getattr(reading, name) != getattr(fixed, name)
        ]
    if reading.format != "text" and not reading.text_field:
        return [
            f"text_field is empty: {reading.format} needs the name of the field that holds the "
            "text; give --corpus.text-field NAME"
        ]
    return []


def least_faults(config: SourceConfig | ReadingConfig, least: dict[str, int]) -> list[str]:
    """Faults of the numbers."""
    return [
        f"{name} is {getattr(config, name)}: it must be at least {low}; raise {flag(name)}"
        for name, low in least.items()
        if getattr(config, name) < low
    ]


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return f"--corpus.{field.replace('_', '-')}"
