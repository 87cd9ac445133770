"""The fast trainer, against the definition."""

import heapq
import warnings
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.synthetic.stories import stories
from lmcore.tokenizer import fast_training, pair_table
from lmcore.tokenizer.bpe import (
    VocabularyNotFilled,
    first_vocab,
    merge_pair,
    train_by_definition,
)
from lmcore.tokenizer.fast_training import merge_words, train_bpe
from lmcore.tokenizer.word_counts import WordCounts, count_words
from tests.strategies import patterns, small_corpora, special_token_sets

DATA = Path(__file__).parents[4] / "shared" / "data"


def quietly(train, *args, **kwargs):
    """The result, in the order of the merges, and whether training stopped early."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vocab, merges = train(*args, **kwargs)
    assert all(issubclass(warning.category, VocabularyNotFilled) for warning in said)
    return vocab, list(merges.items()), len(said)


@settings(deadline=None, max_examples=200)
@given(
    small_corpora,
    st.integers(0, 60),
    special_token_sets,
    patterns,
    st.sampled_from([1, 2, 9, 2000]),
    st.sampled_from([1, 64]),
)
@example(["aaaaaaa", "aaaa aaa"], 9, (), "none", 2000, 64)
@example(["abcbc" * 3, "bcabc", "abc" * 4], 20, (), "none", 2000, 64)
def test_merges_equal_those_of_the_definition(texts, n_merges, special, pattern, batch, share):
    """On any corpus, vocabulary, merges and their order are the oracle's, in batches of any length.

    Every count, tie and overlap is decided by the oracle; batches of one pair merge as the
    definition does, long ones take all that they may.
    """
    vocab_size = 256 + len(special) + n_merges
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_training, "SMALLEST_BATCH", batch)
        patch.setattr(fast_training, "LARGEST_BATCH", batch)
        patch.setattr(pair_table, "WATCHED_SHARE", share)
        fast = quietly(train_bpe, texts, vocab_size, special, pattern=pattern)
    assert fast == quietly(train_by_definition, texts, vocab_size, special, pattern=pattern)


def merges_by_heap(words: dict[bytes, int], n_merges: int) -> list[tuple[bytes, bytes]]:
    """An independent trainer: counts kept up to date word by word, a heap with stale entries."""

    class Greatest(tuple):
        def __lt__(self, other):
            return tuple.__gt__(self, other)

    parts = [[word[i : i + 1] for i in range(len(word))] for word in words]
    times = list(words.values())
    counts: Counter = Counter()
    homes = defaultdict(set)
    for place, word in enumerate(parts):
        for pair in pairwise(word):
            counts[pair] += times[place]
            homes[pair].add(place)
    heap = [Greatest((count, pair)) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[tuple[bytes, bytes]] = []
    while heap and len(merges) < n_merges:
        count, pair = heapq.heappop(heap)
        if counts[pair] != count or not count:
            continue
        merges.append(pair)
        changed = set()
        for place in homes.pop(pair):
            for old in pairwise(parts[place]):
                counts[old] -= times[place]
                changed.add(old)
            parts[place] = list(merge_pair(tuple(parts[place]), pair))
            for new in pairwise(parts[place]):
                counts[new] += times[place]
                homes[new].add(place)
                changed.add(new)
        for other in changed:
            heapq.heappush(heap, Greatest((counts[other], other)))
    return merges


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.text("abcd", min_size=1, max_size=12).map(str.encode),
        st.integers(1, 3) | st.integers(1 << 32, 1 << 40),
        max_size=60,
    )
)
def test_merges_equal_those_of_a_heap(words):
    """Another algorithm makes the same merges, with counts past 2**32 as with small ones."""
    vocab = list(first_vocab(()))
    merges = merge_words(WordCounts.of(words), vocab, 10_000, lambda size: None)
    assert list(merges) == merges_by_heap(words, 10_000)
    assert vocab[256:] == list(merges.values())


@pytest.mark.parametrize(
    "text",
    [
        "a" * 3_001,
        "ab" * 1_500,
        "aab" * 700 + "aba" * 700,
        " \n\t" * 700,
        "abc" * 300 + "bcbc" * 200 + "cab" * 100,
        " ".join(chr(c) * 2 for c in range(0x20, 0x800)),
    ],
    ids=["one letter", "abab", "aab", "white space", "same bytes", "code points"],
)
@pytest.mark.parametrize("pattern", ["gpt2", "none"])
def test_adversarial_texts_merge_as_by_heap(text, pattern):
    """Runs, overlaps, ambiguous bytes and rare code points are merged as another algorithm does."""
    words = count_words([text], pattern)
    vocab = list(first_vocab(()))
    merges = merge_words(words, vocab, 600, lambda size: None)
    assert list(merges) == merges_by_heap(words.as_dict(), len(merges))


def test_stories_merge_as_by_heap():
    """On text with a word's frequencies, where batches are long, the merges are the same."""
    words = count_words(stories(seed=1, start=0, count=150))
    merges = merge_words(words, list(first_vocab(())), 1_056, lambda size: None)
    assert len(merges) == 800
    assert list(merges) == merges_by_heap(words.as_dict(), 800)


@pytest.mark.parametrize(
    "name",
    [
        "tinystories_valid_100kb.txt",
        pytest.param("tinystories_train_2mb.txt", marks=pytest.mark.slow),
        pytest.param("udhr_multilingual_6mb.txt", marks=pytest.mark.slow),
    ],
)
def test_real_text_merges_as_by_heap(name):
    """On stories, and on hundreds of languages, another algorithm makes the same merges."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here: it is real text that the project does not carry")
    words = count_words([path.read_text()], "gpt2", ("<|endoftext|>",))
    merges = merge_words(words, list(first_vocab(())), 1_256, lambda size: None)
    assert list(merges) == merges_by_heap(words.as_dict(), 1_000)


@settings(deadline=None, max_examples=50)
@given(small_corpora, st.integers(1, 5))
def test_repeating_the_corpus_changes_no_merge(texts, times):
    """Counts multiplied by one number keep their order, so the same merges are made."""
    once = quietly(train_bpe, texts, 280, ())
    assert quietly(train_bpe, texts * times, 280, ()) == once


def test_words_of_every_length_are_merged():
    """A word of 100,000 letters, which no space cuts, is merged like the others."""
    vocab, _ = train_bpe(["ab" * 50_000], 260, (), pattern="none")
    assert vocab[256:] == [b"ab", b"ab" * 2, b"ab" * 4, b"ab" * 8]


def test_progress_tells_both_phases():
    """The callback hears the characters read, then the growing vocabulary, up to its full size."""
    heard = []
    text = "".join(f"{a}{b} " for a in "abcdefghijklm" for b in "nopqrstuvwxyz0123456789")
    vocab, _ = train_bpe([text], 406, (), progress=heard.append)
    counted = [event for event in heard if event.phase == "count"]
    merged = [event for event in heard if event.phase == "merge"]
    assert heard == counted + merged
    assert (counted[-1].done, counted[-1].total, counted[-1].unit) == (len(text), 0, "characters")
    assert (merged[-1].done, merged[-1].total, merged[-1].unit) == (len(vocab), 406, "tokens")
    assert all(before.done < after.done for before, after in pairwise(merged))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], 258), r"vocab_size is 258: it must be at least 259 \(256 bytes \+ 3 special"),
        ((["a"], 300, ("<eos>", "<eos>")), "it already is special_tokens"),
        ((["a"], 300, ("",)), "must not be empty"),
        ((["a"], 300, "<eos>"), "special_tokens is the str"),
        (("text", 300), "training_data is one str"),
        (([1], 300), "item 0 of training_data is a int"),
        ((["\ud800"], 300), "lone surrogate"),
    ],
)
@pytest.mark.parametrize("train", [train_bpe, train_by_definition])
def test_what_cannot_be_trained_on_is_refused(train, arguments, message):
    """Both trainers refuse the same arguments, with the same words."""
    with pytest.raises(InputError, match=message):
        train(*arguments)


def test_an_unknown_pattern_is_refused():
    """The pattern is checked before any text is read."""
    with pytest.raises(InputError, match="pattern is 'gpt3'"):
        train_bpe(iter([]), 300, (), pattern="gpt3")  # type: ignore[arg-type]
