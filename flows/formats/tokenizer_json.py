"""A tokenizer as a JSON file that a person can read: one token, one merge a line."""

import hashlib
import json
from pathlib import Path
from typing import Any

from flows.disk.atomic import new_file
from lmcore.errors import InputError
from lmcore.tokenizer.serial import from_json_value, to_json_value
from lmcore.tokenizer.tokenizer import Tokenizer


def save_tokenizer(path: Path, tokenizer: Tokenizer) -> None:
    """Write a tokenizer; the same tokenizer gives the same bytes.

    Args:
      path: the file, replaced whole.
      tokenizer: what to write.

    Raises:
      InputError: no room, or not writable.

    Example:
      >>> save_tokenizer(Path("tokenizer.json"), tokenizer)
    """
    with new_file(path) as file:
        file.write(file_bytes(tokenizer))


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of the file that :func:`save_tokenizer` writes: which tokenizer it is.

    Example:
      >>> data = Path("tokenizer.json").read_bytes()
      >>> tokenizer_digest(tokenizer) == hashlib.sha256(data).hexdigest()
      True
    """
    return hashlib.sha256(file_bytes(tokenizer)).hexdigest()


def file_bytes(tokenizer: Tokenizer) -> bytes:
    """What the file holds."""
    return readable_json(to_json_value(tokenizer)).encode("utf-8")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read back exactly the tokenizer that was written.

    Args:
      path: a file that :func:`save_tokenizer` wrote.

    Raises:
      InputError: the file cannot be read, is no JSON (the message says where), or no tokenizer.

    Example:
      >>> load_tokenizer(Path("tokenizer.json")) == tokenizer
      True
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read the tokenizer {path} ({error.strerror}); correct its path"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"the tokenizer {path} is not UTF-8 at byte {error.start:,}; restore the file, or "
            "train it again"
        ) from error
    except RecursionError as error:
        raise InputError(f"the tokenizer {path} is nested too deeply to be one") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"the tokenizer {path} is no JSON at line {error.lineno:,}, column {error.colno} "
            f"({error.msg}); restore the file, or train it again"
        ) from error
    try:
        return from_json_value(value)
    except InputError as error:
        raise InputError(f"the tokenizer {path} is damaged: {error}") from error


def readable_json(value: dict[str, Any]) -> str:
    """JSON in which every entry of a top-level list or object has a line of its own.

    Example:
      >>> print(readable_json({"version": 1, "merges": [["a", "b"], ["ab", "c"]]}), end="")
      {
        "version": 1,
        "merges": [
          ["a", "b"],
          ["ab", "c"]
        ]
      }
    """
    fields = ",\n".join(f"  {json.dumps(name)}: {entries(item)}" for name, item in value.items())
    return f"{{\n{fields}\n}}\n"


def entries(item: Any) -> str:
    """A field's value: its entries one a line, each on one line."""
    if isinstance(item, list) and item:
        return "[\n" + ",\n".join(f"    {one_line(entry)}" for entry in item) + "\n  ]"
    if isinstance(item, dict) and item:
        pairs = (f"    {one_line(name)}: {one_line(entry)}" for name, entry in item.items())
        return "{\n" + ",\n".join(pairs) + "\n  }"
    return one_line(item)


def one_line(value: Any) -> str:
    """JSON on one line, letters as they are."""
    return json.dumps(value, ensure_ascii=False)
