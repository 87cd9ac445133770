r"""Our tokenizers for other libraries: values in, values out.

Two formats, and what each of them takes for granted:

- ``tokenizer.json`` of Hugging Face tokenizers (`to_huggingface`) has a token as text, a character
  for each byte (`gpt2_files.byte_alphabet`), and names the merges.
- tiktoken (`to_tiktoken`) has no merges: it joins the two neighbours whose bytes have the lowest
  id. This is the same where every token, cut into the tokens before it, is the very pair that
  makes it (`usable_merges`). After training from bytes it is; in a vocabulary from elsewhere it may
  not be, and then the export is refused.

Both libraries join one pair at a time, where we join a pair everywhere before we look for the next.
Again this is the same as long as a merge uses what earlier merges made.

The patterns are written with the ranges of the project's own character classes. In tiktoken 0.14
and tokenizers 0.23 ``\p{L}`` means the same, for they have our Unicode version; in older and newer
releases it does not.
"""

import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, TypedDict

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import Merges, Pair, merge_word
from lmcore.tokenizer.gpt2_files import written
from lmcore.tokenizer.pretokenize import PATTERNS, Pattern, known_pattern
from lmcore.tokenizer.tokenizer import Tokenizer
from lmcore.tokenizer.unicode_classes import CharacterClass, ranges


class TiktokenArguments(TypedDict):
    """What ``tiktoken.Encoding`` is made of; the names are its own."""

    name: str
    pat_str: str
    mergeable_ranks: dict[bytes, int]
    special_tokens: dict[str, int]


def to_huggingface(tokenizer: Tokenizer) -> dict[str, Any]:
    r"""The content of a ``tokenizer.json`` that Hugging Face tokenizers reads.

    ``tokenizers.Tokenizer.from_str(json.dumps(...))`` gives the ids of `Tokenizer.encode` for
    every text. It decodes to the same text too, but for special tokens, which it leaves out unless
    told otherwise, and of which it can decode only ASCII ones.

    Args:
      tokenizer: any that can encode every byte.

    Returns:
      dicts, lists, strings and numbers, ready for `json.dumps`.

    Raises:
      InputError: a byte has no token, a merge uses what only a later one makes, or a special token
        is written like another token: the file has one id for each writing.

    Example:
      >>> from lmcore.tokenizer.fast_training import train_bpe
      >>> tokenizer = Tokenizer(*train_bpe(["a low low"], 259, ("<eos>",)), ("<eos>",))
      >>> value = to_huggingface(tokenizer)
      >>> value["model"]["merges"], value["model"]["vocab"]["Ġ"], value["added_tokens"][0]["id"]
      (['o w', 'l ow'], 33, 0)

    References:
      The format of tokenizers 0.23; versions below 0.20 read it as well.
    """
    refuse_missing_bytes(tokenizer)
    usable_merges(tokenizer.merges)  # raises
    by_id = {token_id: text for text, token_id in tokenizer.special_ids.items()}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(token_id, by_id[token_id]) for token_id in sorted(by_id)],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(tokenizer.pattern),
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": _written_vocab(tokenizer),
            "merges": [f"{written(left)} {written(right)}" for left, right in tokenizer.merges],
        },
    }


def to_tiktoken(tokenizer: Tokenizer, name: str = "lmcore") -> TiktokenArguments:
    """The arguments of ``tiktoken.Encoding``, whose ids are then those of `Tokenizer.encode`.

    ``tiktoken.Encoding(**to_tiktoken(tokenizer)).encode(text, allowed_special="all")``. Tokens
    that no text is encoded to, as a special token that ``tokenizer`` was not given, are left out.

    Args:
      tokenizer: any that can encode every byte, its ids rising in the order of its merges.
      name: what the encoding is to be called.

    Returns:
      ``name``, ``pat_str``, ``mergeable_ranks`` and ``special_tokens``; a rank is the id.

    Raises:
      InputError: tiktoken would encode differently: a byte has no token, the ids do not rise with
        the merges, a merge uses what only a later one makes, or a special token begins with
        another one (tiktoken takes either, by chance).

    Example:
      >>> from lmcore.tokenizer.fast_training import train_bpe
      >>> tokenizer = Tokenizer(*train_bpe(["a low low"], 259, ("<eos>",)), ("<eos>",))
      >>> arguments = to_tiktoken(tokenizer)
      >>> arguments["mergeable_ranks"][b"low"], arguments["special_tokens"]
      (258, {'<eos>': 0})
    """
    refuse_missing_bytes(tokenizer)
    _refuse_special_prefixes(tokenizer.special_tokens)
    ids = {token: token_id for token_id, token in enumerate(tokenizer.vocab)}  # of equals, the last
    ranks = {bytes([byte]): ids[bytes([byte])] for byte in range(256)}
    made = [(token, ids[token]) for token in usable_merges(tokenizer.merges).values()]
    for (before, low), (token, high) in pairwise(made):
        if low > high:
            raise InputError(
                f"{token!r} (id {high}) is merged after {before!r} (id {low}): tiktoken merges the "
                "lowest id first, so the ids must rise in the order of the merges; order the "
                "vocabulary as train_bpe does, or export tokenizer.json"
            )
    return {
        "name": name,
        "pat_str": pinned_pattern(tokenizer.pattern),
        "mergeable_ranks": ranks | dict(made),
        "special_tokens": dict(tokenizer.special_ids),
    }


# --- what the merges of a vocabulary can do ------------------------------------------------------


def usable_merges(merges: Mapping[Pair, bytes]) -> Merges:
    """The merges that a text can bring about, in order: at most one for each token.

    A merge of l and r into t is reached only if the bytes of t alone, merged by everything before
    it, are l and r: no other token may lie across the ends of t, and between its ends nothing but
    its own bytes decides. So of two pairs that make the same bytes one is never used.

    Args:
      merges: as a `Tokenizer` has them.

    Raises:
      InputError: a merge uses a token that only a later one makes. Then the order in which pairs
        come up is not that of the merges, and libraries that join one pair at a time differ.

    Example:
      >>> pairs = [(b"b", b"c"), (b"a", b"bc"), (b"a", b"b"), (b"ab", b"c")]
      >>> list(usable_merges({(left, right): left + right for left, right in pairs}))
      [(b'b', b'c'), (b'a', b'bc'), (b'a', b'b')]
    """
    ranks: dict[Pair, int] = {}
    made: set[bytes] = set()
    unreached: list[tuple[int, Pair]] = []
    for rank, (pair, token) in enumerate(merges.items()):
        if token in made:
            continue
        if not all(_is_there(part, made) for part in pair):
            unreached.append((rank, pair))
        elif merge_word(tuple(bytes([byte]) for byte in token), ranks) == pair:
            ranks[pair] = rank
            made.add(token)
    for rank, pair in unreached:
        if all(_is_there(part, made) for part in pair):
            raise InputError(
                f"merges[{rank}] joins {pair[0]!r} and {pair[1]!r}, of which one is only made by a "
                "later merge: other libraries would merge in another order; give the merges in the "
                "order in which train_bpe makes them"
            )
    return {pair: merges[pair] for pair in ranks}


def _is_there(part: bytes, made: set[bytes]) -> bool:
    return len(part) == 1 or part in made


def refuse_missing_bytes(tokenizer: Tokenizer) -> None:
    """An InputError if some text cannot be encoded: other libraries would drop it or break off."""
    known = set(tokenizer.vocab)
    if missing := [byte for byte in range(256) if bytes([byte]) not in known]:
        raise InputError(
            f"the vocabulary lacks {len(missing)} of the 256 bytes, 0x{missing[0]:02x} first: "
            "other libraries need all of them; export a vocabulary made by train_bpe"
        )


def _refuse_special_prefixes(special_tokens: tuple[str, ...]) -> None:
    # Of 200 pairs like <s7>, <s7>x tiktoken 0.14 took the shorter one 117 times.
    in_order = sorted(special_tokens)  # what begins with a token comes directly behind it
    for short, long in pairwise(in_order):
        if long.startswith(short):
            raise InputError(
                f"the special token {long!r} begins with the special token {short!r}: tiktoken may "
                "find either of them; give it a tokenizer without one of them, or export "
                "tokenizer.json"
            )


# --- patterns ------------------------------------------------------------------------------------


@cache
def pinned_pattern(pattern: Pattern) -> str:
    r"""A pattern with its character classes written out, for Rust's regex and for Oniguruma.

    Example:
      >>> pinned_pattern("whitespace")[:33]
      ' ?[^\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}'
    """
    names: dict[str, CharacterClass] = {r"\p{L}": "L", r"\p{N}": "N", r"\s": "s"}
    inside = {key: _set_body(name) for key, name in names.items()}
    outside = {key: f"[{body}]" for key, body in inside.items()}
    outside[r"\S"] = f"[^{_set_body('s')}]"
    class_names = re.compile("|".join(map(re.escape, outside)))
    parts = re.split(r"(\[[^\]]*\])", PATTERNS[known_pattern(pattern)])  # sets at odd places
    return "".join(
        class_names.sub(lambda match, table=(inside if i % 2 else outside): table[match[0]], part)
        for i, part in enumerate(parts)
    )


def _set_body(name: CharacterClass) -> str:
    """The ranges of a class, as they stand between brackets."""
    spans = [(f"\\x{{{a:x}}}", f"\\x{{{b:x}}}") for a, b in ranges(name)]
    return "".join(a if a == b else f"{a}-{b}" for a, b in spans)


# --- tokenizer.json ------------------------------------------------------------------------------


def _written_vocab(tokenizer: Tokenizer) -> dict[str, int]:
    """The id of each token as it is written: special tokens as their text, in the order of ids."""
    special = {token_id: text for text, token_id in tokenizer.special_ids.items()}
    merged = set(tokenizer.merges.values())
    ids: dict[str, int] = {}
    for token_id, token in enumerate(tokenizer.vocab):
        texts = {special[token_id]} if token_id in special else {written(token)}
        if token in merged:  # a merge may make a special token's bytes
            texts.add(written(token))
        for text in sorted(texts):
            if ids.setdefault(text, token_id) != token_id:
                raise InputError(
                    f"the tokens {ids[text]} and {token_id} are both written {text!r} in "
                    "tokenizer.json, one as a special token and one as bytes: give the special "
                    "token another text, or export for tiktoken"
                )
    return ids


def _added_token(token_id: int, text: str) -> dict[str, Any]:
    return {
        "id": token_id,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _pre_tokenizer(pattern: Pattern) -> dict[str, Any]:
    if pattern == "none":
        return _byte_level()
    split = {
        "type": "Split",
        "pattern": {"Regex": pinned_pattern(pattern)},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _byte_level()]}


def _byte_level() -> dict[str, Any]:
    """Bytes as characters, and back: the pattern has cut already."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
