"""Which text a run learns from: where it lies, how it is split into documents."""

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

CorpusKind = Literal["stories", "url"]
CorpusFormat = Literal["text", "jsonl", "parquet"]
Utf8Errors = Literal["strict", "replace"]
SCHEMES = ("https", "http", "file")


@dataclass(frozen=True)
class CorpusConfig:
    """The corpus of a run: the embedded stories, or a training and a validation file by URL.

    Example:
      >>> CorpusConfig(kind="url", train_url="file:///data/a.txt", valid_url="file:///data/b.txt")
      CorpusConfig(kind='url', train_url='file:///data/a.txt', valid_url='file:///data/b.txt', ...)
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
    n_train_stories: int = 20_000
    """How many embedded stories to train on."""
    n_valid_stories: int = 1_000
    """How many embedded stories, all different draws, to validate on."""
    seed: int = 0
    """Which embedded stories are drawn."""


def faults(config: CorpusConfig) -> list[str]:
    """Everything that is wrong with the config, one message each; empty when it is sound.

    Each message says what was expected, what came, and which flag to change. Nothing is opened
    or asked for: whether a URL answers is ``flows.corpora.fetch.preflight``'s question.

    Args:
      config: any ``CorpusConfig``.

    Returns:
      The messages, in the order of the fields.

    Example:
      >>> faults(CorpusConfig(n_train_stories=0))
      ['n_train_stories is 0: it must be at least 1; raise --corpus.n-train-stories']
    """
    return [*choice_faults(config), *url_faults(config), *text_faults(config), *size_faults(config)]


def choice_faults(config: CorpusConfig) -> list[str]:
    """Faults of the fields that are one of a few words."""
    choices = {"kind": CorpusKind, "format": CorpusFormat, "errors": Utf8Errors}
    return [
        f"{name} is {getattr(config, name)!r}: it must be one of {', '.join(get_args(choice))}; "
        f"change {flag(name)}"
        for name, choice in choices.items()
        if getattr(config, name) not in get_args(choice)
    ]


def url_faults(config: CorpusConfig) -> list[str]:
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


def text_faults(config: CorpusConfig) -> list[str]:
    """Faults of the digests and of the field name."""
    found = [
        f"{name} is {getattr(config, name)!r}: it must be 64 lower-case hexadecimal digits, or "
        f"empty when unknown; correct {flag(name)}"
        for name in ("train_sha256", "valid_sha256")
        if not re.fullmatch(r"(?:[0-9a-f]{64})?", getattr(config, name))
    ]
    if config.format != "text" and not config.text_field:
        found.append(
            f"text_field is empty: {config.format} needs the name of the field that holds the "
            "text; give --corpus.text-field NAME"
        )
    return found


def size_faults(config: CorpusConfig) -> list[str]:
    """Faults of the numbers."""
    lowest = dict.fromkeys(("train_bytes", "valid_bytes", "max_train_bytes", "seed"), 0)
    lowest |= dict.fromkeys(("n_train_stories", "n_valid_stories"), 1)
    return [
        f"{name} is {getattr(config, name)}: it must be at least {least}; raise {flag(name)}"
        for name, least in lowest.items()
        if getattr(config, name) < least
    ]


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return f"--corpus.{field.replace('_', '-')}"
