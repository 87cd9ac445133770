r"""GPT-2's vocabulary files, ``encoder.json`` and ``vocab.bpe``, and how they write a token.

A token is text there, a character for each byte: the alphabet in which Hugging Face's
``tokenizer.json`` writes tokens to this day.
"""

import json
from functools import cache

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import Merges
from lmcore.tokenizer.tokenizer import Tokenizer

GPT2_SPECIAL_TOKENS = ("<|endoftext|>",)


def from_gpt2(
    encoder_json: str, vocab_bpe: str, special_tokens: tuple[str, ...] = GPT2_SPECIAL_TOKENS
) -> Tokenizer:
    r"""The tokenizer of GPT-2's published files, or of others in their format.

    Args:
      encoder_json: the text of ``encoder.json``: an object from written token to id.
      vocab_bpe: the text of ``vocab.bpe``: a line ``#version: …``, then the two written parts of a
        merge on each line, in order.
      special_tokens: the tokens of ``encoder_json`` that no merge makes and a text may name;
        GPT-2 has one, ``<|endoftext|>``, with the id 50256.

    Returns:
      a `Tokenizer` with the pattern gpt2 and the ids of the files.

    Raises:
      InputError: a text is not in its format, or the two do not fit together; the message names
        the entry or the line.

    Example:
      >>> encoder = {character: byte for byte, character in enumerate(byte_alphabet())}
      >>> encoder |= {"Ġt": 256, "<|endoftext|>": 257}
      >>> tokenizer = from_gpt2(json.dumps(encoder), "#version: 0.2\nĠ t\n")
      >>> tokenizer.encode("a tea<|endoftext|>")
      [97, 256, 101, 97, 257]

    References:
      Radford et al., 2019, section 2.2; the files of the repository openai/gpt-2.
    """
    vocab = _gpt2_vocab(encoder_json, special_tokens)
    return Tokenizer(vocab, _gpt2_merges(vocab_bpe), special_tokens, "gpt2")


@cache
def byte_alphabet() -> tuple[str, ...]:
    """The character that stands for each byte in GPT-2's files.

    What Latin-1 prints stands for itself; the other 68 bytes, in order, are U+0100 and on. So
    nothing that is written has white space or control characters in it.

    Example:
      >>> byte_alphabet()[ord("A")], byte_alphabet()[ord(" ")], byte_alphabet()[0xE9]
      ('A', 'Ġ', 'é')

    References:
      ``bytes_to_unicode`` in ``encoder.py`` of openai/gpt-2.
    """
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printed else next(others)) for byte in range(256))


def written(token: bytes) -> str:
    r"""A token in `byte_alphabet`.

    Example:
      >>> written(b" caf\xc3\xa9")
      'ĠcafÃ©'
    """
    return token.decode("latin-1").translate(_alphabet_table())


def unwritten(text: str) -> bytes:
    """The token that was written as ``text``.

    Raises:
      InputError: a character stands for no byte.

    Example:
      >>> unwritten("Ġthe")
      b' the'
    """
    try:
        return bytes([_bytes_by_character()[character] for character in text])
    except KeyError as error:
        raise InputError(
            f"{text!r} holds {error.args[0]!r}, which stands for no byte in GPT-2's alphabet"
        ) from None


@cache
def _alphabet_table() -> dict[int, str]:
    return dict(enumerate(byte_alphabet()))


@cache
def _bytes_by_character() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_alphabet())}


def _gpt2_vocab(encoder_json: str, special_tokens: tuple[str, ...]) -> list[bytes]:
    """The tokens of ``encoder.json`` in the order of their ids."""
    try:
        ids = json.loads(encoder_json)
    except json.JSONDecodeError as error:
        raise InputError(
            f"encoder.json is no JSON at line {error.lineno:,}, column {error.colno} ({error.msg})"
        ) from None
    if not isinstance(ids, dict):
        raise InputError(f"encoder.json is a {type(ids).__name__}: it must be an object")
    by_id = {token_id: text for text, token_id in ids.items() if type(token_id) is int}
    if by_id.keys() != set(range(len(ids))):
        raise InputError(
            f"encoder.json has {len(ids)} tokens: their ids must be 0 to {len(ids) - 1}, each once"
        )
    texts = [by_id[token_id] for token_id in range(len(ids))]
    if missing := [token for token in special_tokens if token not in ids]:
        raise InputError(f"encoder.json has no special token {missing[0]!r}; do not ask for it")
    return [text.encode() if text in special_tokens else unwritten(text) for text in texts]


def _gpt2_merges(vocab_bpe: str) -> Merges:
    """The merges of ``vocab.bpe``, in the order of its lines."""
    merges: Merges = {}
    for number, line in enumerate(vocab_bpe.split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.removesuffix("\r").split(" ")
        if len(parts) != 2 or not all(parts):
            raise InputError(
                f"line {number} of vocab.bpe is {line!r}: it must be two parts with a space between"
            )
        left, right = map(unwritten, parts)
        if (left, right) in merges:
            raise InputError(f"line {number} of vocab.bpe is {line!r}: that pair was merged before")
        merges[left, right] = left + right
    return merges
