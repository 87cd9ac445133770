"""Every engine behind the same two calls: train, and build an encoder.

Each is used as its own documentation says, on one thread, with the pattern of GPT-2 and one special
token. An engine imports its package only when it is asked for.
"""

import json
from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

Engine = Literal["lmcore", "lmcore+numba", "gigatoken", "rustbpe", "huggingface", "tiktoken"]
TRAINERS: tuple[Engine, ...] = ("lmcore", "lmcore+numba", "gigatoken", "rustbpe", "huggingface")
ENCODERS: tuple[Engine, ...] = ("lmcore", "lmcore+numba", "tiktoken", "gigatoken", "huggingface")
PACKAGES: dict[Engine, str] = {
    "lmcore": "numpy",
    "lmcore+numba": "numba",
    "gigatoken": "gigatoken",
    "rustbpe": "rustbpe",
    "huggingface": "tokenizers",
    "tiktoken": "tiktoken",
}
SPECIAL = "<|endoftext|>"
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# What keeps the engines to one thread, each by its own name.
ONE_THREAD = {
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}

Pair = tuple[bytes, bytes]


class Vocabulary(NamedTuple):
    """Tokens by id, the special token first, then the bytes; and the merges in order."""

    tokens: list[bytes]
    merges: list[Pair]


def trainer(engine: Engine) -> Callable[[str, int], Callable[[], list[Pair]]]:
    """The engine's training: given text and vocabulary size, does the work.

    Returns:
      a function that returns another one, which reads the merges off the result. The first is
      what is measured. The package is imported before this returns.
    """
    return _TRAINERS[engine]()


def encoder(engine: Engine, vocabulary: Vocabulary, folder: Path) -> "Encoder":
    """The engine's encoder of a vocabulary; files that it must read are put into ``folder``."""
    return _ENCODERS[engine](vocabulary, folder)


class Encoder(NamedTuple):
    """Three ways to encode.

    arrays: documents to the engine's own flat or per-document arrays.
    lists: documents to a list of ids for each.
    one: one short text to a list of ids.
    flat: what ``arrays`` gave, as one list of ids; not measured.
    """

    arrays: Callable[[Sequence[str]], Any]
    lists: Callable[[Sequence[str]], list[list[int]]]
    one: Callable[[str], list[int]]
    flat: Callable[[Any], list[int]]


def _lmcore_trainer(engine: Literal["numpy", "numba"]):
    from lmcore import train_bpe

    if engine == "numba":  # import it, and load what it has compiled
        train_bpe(["a b"], 257, ("<eos>",), engine=engine)

    def train(text: str, vocab_size: int):
        _, merges = train_bpe([text], vocab_size, (SPECIAL,), engine=engine)
        return lambda: list(merges)

    return train


def _gigatoken_trainer():
    from gigatoken import train_bpe  # pyright: ignore[reportMissingImports]

    def train(text: str, vocab_size: int):
        _, merges = train_bpe(text.encode(), vocab_size, [SPECIAL])
        return lambda: [(bytes(left), bytes(right)) for left, right in merges]

    return train


def _rustbpe_trainer():
    from rustbpe import Tokenizer  # pyright: ignore[reportMissingImports]

    def train(text: str, vocab_size: int):
        tokenizer = Tokenizer()
        # It has no special tokens: one fewer in all makes as many merges.
        # nor are they cut out of the text, so it is given without them.
        texts = iter(text.split(SPECIAL))
        tokenizer.train_from_iterator(texts, vocab_size - 1, pattern=GPT2)
        return lambda: merges_of_ranks(dict(map(_token_rank, tokenizer.get_mergeable_ranks())))

    return train


def _token_rank(item: tuple[Sequence[int], int]) -> tuple[bytes, int]:
    return bytes(item[0]), item[1]


def _huggingface_trainer():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # pyright: ignore[reportMissingImports]

    def train(text: str, vocab_size: int):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.train_from_iterator(
            text.split(SPECIAL),  # training does not cut special tokens out
            trainers.BpeTrainer(
                vocab_size=vocab_size,
                special_tokens=[SPECIAL],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
        return lambda: _merges_of_json(tokenizer.to_str())

    return train


def _merges_of_json(text: str) -> list[Pair]:
    byte_of = {character: byte for byte, character in byte_characters().items()}
    return [
        (bytes(byte_of[c] for c in left), bytes(byte_of[c] for c in right))
        for left, right in json.loads(text)["model"]["merges"]
    ]


def merges_of_ranks(ranks: dict[bytes, int]) -> list[Pair]:
    """The pair that made each token: what is left when its bytes are merged by the earlier ones."""
    pairs = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            found = [ranks.get(a + b, rank) for a, b in pairwise(parts)]
            best = min(found)
            place = found.index(best)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        pairs.append((parts[0], parts[1]))
    return pairs


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in GPT-2's files."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    return {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(others)}


_TRAINERS: dict[str, Callable[[], Callable]] = {
    "lmcore": lambda: _lmcore_trainer("numpy"),
    "lmcore+numba": lambda: _lmcore_trainer("numba"),
    "gigatoken": _gigatoken_trainer,
    "rustbpe": _rustbpe_trainer,
    "huggingface": _huggingface_trainer,
}


def _lmcore_encoder(engine: Literal["numpy", "numba"]):
    def build(vocabulary: Vocabulary, folder: Path) -> Encoder:
        from lmcore import Tokenizer

        if engine == "numba":  # import it, and load what it has compiled
            Tokenizer([bytes([byte]) for byte in range(256)], {}).encode_batch(["a"], engine=engine)
        tokens, merges = vocabulary
        made = {pair: pair[0] + pair[1] for pair in merges}
        tokenizer = Tokenizer(tokens, made, (SPECIAL,))

        def arrays(texts: Sequence[str]):
            return tokenizer.encode_batch(texts, engine=engine)

        def lists(texts: Sequence[str]) -> list[list[int]]:
            ids, offsets = arrays(texts)
            ends = offsets.tolist()
            return [ids[a:b].tolist() for a, b in pairwise(ends)]

        return Encoder(arrays, lists, tokenizer.encode, lambda found: found[0].tolist())

    return build


def _tiktoken_encoder(vocabulary: Vocabulary, folder: Path) -> Encoder:
    from tiktoken import Encoding  # pyright: ignore[reportMissingImports]

    ranks = {token: index for index, token in enumerate(vocabulary.tokens) if index}
    encoding = Encoding("ours", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={SPECIAL: 0})

    def encode(text: str) -> list[int]:
        return encoding.encode(text, allowed_special="all")

    def arrays(texts: Sequence[str]):
        return [encoding.encode_to_numpy(text, allowed_special="all") for text in texts]

    return Encoder(
        arrays,
        lambda texts: [encode(text) for text in texts],
        encode,
        lambda found: [i for ids in found for i in ids.tolist()],
    )


def _huggingface_tokenizer(vocabulary: Vocabulary):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers  # pyright: ignore[reportMissingImports]

    written = byte_characters()

    def name(token: bytes) -> str:
        return "".join(written[byte] for byte in token)

    ids = {name(token): index for index, token in enumerate(vocabulary.tokens) if index}
    ids[SPECIAL] = 0
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=[(name(a), name(b)) for a, b in vocabulary.merges])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(SPECIAL, special=True, normalized=False)])
    return tokenizer


def _huggingface_encoder(vocabulary: Vocabulary, folder: Path) -> Encoder:
    tokenizer = _huggingface_tokenizer(vocabulary)

    def lists(texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in tokenizer.encode_batch_fast(list(texts))]

    return Encoder(
        lambda texts: [array("I", ids) for ids in lists(texts)],
        lists,
        lambda text: tokenizer.encode(text).ids,
        lambda found: [i for ids in found for i in ids],
    )


def _gigatoken_encoder(vocabulary: Vocabulary, folder: Path) -> Encoder:
    from gigatoken import Tokenizer  # pyright: ignore[reportMissingImports]

    path = folder / "tokenizer.json"
    if not path.exists():
        _huggingface_tokenizer(vocabulary).save(str(path))
    tokenizer = Tokenizer(path)
    return Encoder(
        lambda texts: tokenizer.encode_batch(list(texts), parallel=False),
        lambda texts: tokenizer.encode_batch_list(list(texts), parallel=False),
        lambda text: tokenizer.encode(text).tolist(),
        lambda found: [i for ids in found.to_list() for i in ids],
    )


_ENCODERS: dict[str, Callable[[Vocabulary, Path], Encoder]] = {
    "lmcore": _lmcore_encoder("numpy"),
    "lmcore+numba": _lmcore_encoder("numba"),
    "tiktoken": _tiktoken_encoder,
    "gigatoken": _gigatoken_encoder,
    "huggingface": _huggingface_encoder,
}
