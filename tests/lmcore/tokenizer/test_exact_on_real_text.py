"""Training and encoding on files of real text, against versions that share no code with ours.

`test_interop_peers.py` compares the same files with tiktoken and Hugging Face tokenizers.
"""

import warnings
from collections import Counter
from functools import cache

import numpy as np
import pytest
import regex

from lmcore.tokenizer.bpe import VocabularyNotFilled, merge_word, single_bytes
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.pretokenize import PATTERNS
from lmcore.tokenizer.tokenizer import Tokenizer
from tests.oracles import known_alike
from tests.real_text import SEPARATOR, every_file, real_text
from tests.tokenizer_oracles import merges_by_heap

# As many tokens as the file can be wanted for; the smallest file until no pair is left.
VOCAB_SIZE = {
    "tinystories_valid_100kb.txt": 10_000,
    "novels_valid_1mb.txt": 5_000,
    "tinystories_train_2mb.txt": 5_000,
    "udhr_multilingual_6mb.txt": 10_000,
    "novels_train_70mb.txt.gz": 32_000,
}


@cache
def trained_on(name: str) -> Tokenizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VocabularyNotFilled)
        vocab, merges = train_bpe([real_text(name)], VOCAB_SIZE[name], (SEPARATOR,))
    return Tokenizer(vocab, merges, (SEPARATOR,))


def words_by_regex(text: str):
    """The pre-tokens of each document, as the `regex` package finds them."""
    assert known_alike("".join(set(text))), "regex has another Unicode version: compare by hand"
    pattern = regex.compile(PATTERNS["gpt2"])
    for document in text.split(SEPARATOR):
        yield [match[0] for match in pattern.finditer(document)]


@every_file
def test_merges_are_those_of_an_independent_trainer(name):
    """Every merge, in order, ties included, is that of a heap trainer fed by `regex`."""
    text = real_text(name)
    counts: Counter[str] = Counter()
    for words in words_by_regex(text):
        counts.update(words)
    expected = merges_by_heap(
        {word.encode(): count for word, count in counts.items()}, VOCAB_SIZE[name] - 257
    )
    ours = trained_on(name)
    assert list(ours.merges) == expected
    filled = ours.vocab_size == VOCAB_SIZE[name]
    assert filled == (name != "tinystories_valid_100kb.txt")


@every_file
def test_ids_are_those_of_the_lowest_rank_first_rule(name):
    """The whole file: each word that `regex` finds, merged by the definition."""
    text, tokenizer = real_text(name), trained_on(name)
    ids = {token: token_id for token_id, token in enumerate(tokenizer.vocab)}
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}

    @cache
    def ids_of(word: str) -> list[int]:
        return [ids[token] for token in merge_word(single_bytes(word), ranks)]

    expected = []
    for number, words in enumerate(words_by_regex(text)):
        found = [token_id for word in words for token_id in ids_of(word)]
        expected.append(np.array([ids[SEPARATOR.encode()], *found][number == 0 :], np.uint16))
    assert np.array_equal(tokenizer.encode_batch([text])[0], np.concatenate(expected))


@pytest.mark.parametrize("name", ["tinystories_valid_100kb.txt", "novels_valid_1mb.txt"])
@pytest.mark.parametrize("size", [1, 13, 4_096, 1 << 20])
def test_ids_do_not_depend_on_the_chunks(name, size):
    """One character at a time or all at once: the ids of a stream are those of the file."""
    text, tokenizer = real_text(name), trained_on(name)
    chunks = (text[start : start + size] for start in range(0, len(text), size))
    streamed = np.fromiter(tokenizer.encode_iterable(chunks), np.uint16)
    assert np.array_equal(streamed, tokenizer.encode_batch([text])[0])


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_pattern_brings_the_text_back(pattern):
    """Hundreds of scripts, by each pattern: trained, encoded as one text or many, decoded."""
    text = real_text("udhr_multilingual_6mb.txt")[:200_000]
    tokenizer = Tokenizer(*train_bpe([text], 1_000, (), pattern=pattern), (), pattern)
    ids, _ = tokenizer.encode_batch([text])
    assert tokenizer.decode_bytes(ids.tolist()) == text.encode()
    assert tokenizer.encode(text) == ids.tolist()
