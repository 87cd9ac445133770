"""Tokenizers in the files of other libraries: Hugging Face's, tiktoken's, GPT-2's."""

import json
from base64 import b64encode
from pathlib import Path

from flows.disk.atomic import new_file
from lmcore.errors import InputError
from lmcore.tokenizer.gpt2_files import from_gpt2
from lmcore.tokenizer.interop import to_huggingface, to_tiktoken
from lmcore.tokenizer.tokenizer import Tokenizer


def save_huggingface(path: Path, tokenizer: Tokenizer) -> None:
    """Write the ``tokenizer.json`` that Hugging Face tokenizers and transformers read.

    ``tokenizers.Tokenizer.from_file(path)`` then gives the ids of ``tokenizer``.

    Args:
      path: the file, replaced whole.
      tokenizer: what to write.

    Raises:
      InputError: the format cannot hold the tokenizer (see `to_huggingface`), no room, or not
        writable.

    Example:
      >>> save_huggingface(Path("for-others.json"), tokenizer)
      >>> json.loads(Path("for-others.json").read_text("utf-8"))["model"]["type"]
      'BPE'
    """
    _write(path, json.dumps(to_huggingface(tokenizer), ensure_ascii=False, indent=1) + "\n")


def save_tiktoken(path: Path, tokenizer: Tokenizer, name: str = "lmcore") -> None:
    """Write a rank file as tiktoken reads it, and beside it the settings that it has no place for.

    In the rank file each line is a token in base 64 and its id; ``path`` with ``.json`` at its end
    holds the other arguments of an encoding::

        ranks = tiktoken.load.load_tiktoken_bpe("ours.tiktoken")
        settings = json.loads(Path("ours.tiktoken.json").read_text("utf-8"))
        encoding = tiktoken.Encoding(mergeable_ranks=ranks, **settings)

    Args:
      path: the rank file, replaced whole.
      tokenizer: what to write.
      name: what the encoding is to be called.

    Raises:
      InputError: tiktoken would encode differently (see `to_tiktoken`), no room, or not writable.

    Example:
      >>> save_tiktoken(Path("ours.tiktoken"), tokenizer)
      >>> Path("ours.tiktoken").read_text().splitlines()[97], tokenizer.vocab[97]
      ('YQ== 97', b'a')
    """
    settings = dict(to_tiktoken(tokenizer, name))
    ranks: dict[bytes, int] = settings.pop("mergeable_ranks")  # type: ignore[assignment]
    in_order = sorted(ranks.items(), key=lambda item: item[1])
    lines = [f"{b64encode(token).decode('ascii')} {rank}\n" for token, rank in in_order]
    _write(settings_path(path), json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
    _write(path, "".join(lines))


def settings_path(path: Path) -> Path:
    """The file beside a rank file.

    Example:
      >>> settings_path(Path("ours.tiktoken")).name
      'ours.tiktoken.json'
    """
    return path.with_name(f"{path.name}.json")


def load_gpt2(
    encoder: Path, vocab: Path, special_tokens: tuple[str, ...] = ("<|endoftext|>",)
) -> Tokenizer:
    r"""Read GPT-2's published files, or others in their format.

    Args:
      encoder: ``encoder.json``, from written token to id.
      vocab: ``vocab.bpe``, the merges.
      special_tokens: the special tokens among those of ``encoder``.

    Raises:
      InputError: a file cannot be read, or is not in its format.

    Example:
      >>> save_huggingface(Path("for-others.json"), tokenizer)
      >>> written = json.loads(Path("for-others.json").read_text("utf-8"))["model"]["vocab"]
      >>> _ = Path("encoder.json").write_text(json.dumps(written | {"<|endoftext|>": 256}))
      >>> _ = Path("vocab.bpe").write_text("#version: 0.2\n")
      >>> load_gpt2(Path("encoder.json"), Path("vocab.bpe")).encode("a<|endoftext|>")
      [97, 256]
    """
    texts = _read(encoder), _read(vocab)
    try:
        return from_gpt2(*texts, special_tokens)
    except InputError as error:
        raise InputError(f"{encoder} and {vocab} are no tokenizer of GPT-2's: {error}") from error


def _write(path: Path, text: str) -> None:
    with new_file(path) as file:
        file.write(text.encode("utf-8"))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); correct its path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 at byte {error.start:,}; fetch it again") from error
