"""Train by merging many pairs at once on arrays: the twin of `bpe.train_by_definition`.

What is faster, and what makes it exact:

- Only distinct words are merged, each weighted by its count. They lie in one row of symbols, a
  linked list, so that a merge touches the places of its pair and nothing else. Every pair has its
  count, kept exact, and the list of the places where it was made (`pair_table`).
- A batch of pairs is merged in one go (some hundred at a time, where a call of numpy for each
  would cost more than the work). The definition merges one, then looks again; the batch is the
  longest run of the most frequent pairs for which looking again would change nothing
  (`pair_batches`):

  - Pairs whose places do not touch can be merged in any order. Where two touch, the less frequent
    one waits: it loses places to the other, and its new count is known.
  - No pair that waits, and none that a merge of the batch brings about, may come before the last
    pair of the batch. The count that a new pair has when it is made is the greatest it ever has,
    so it is enough to end the batch before the first pair that falls behind one of these.
  - A pair of two equal tokens (a, a) is merged alone: in a run its places overlap.

- How many pairs a batch looks at follows from how far the last ones came, so little is looked at in
  vain.
- Only the pairs above a level are looked through for the most frequent ones; when none is left, the
  level falls.
- A merge always makes a new token, so none is looked up. Two pairs can make the same bytes (ab+c,
  a+bc), but never in one training from bytes: between two places that no token crosses, the
  tokens at any time depend on the bytes between them alone, because merging goes from left to
  right and a merge from outside would cross. So all the abc that stand alone are split alike, and
  become one token together. The oracle looks up every token; the tests compare the two.

Novels, 70 MB to 32,000 tokens: some 400 batches make the 31,743 merges. The benchmark
(``python -m benchmarks.tokenizer``) has the times.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from lmcore.tokenizer.bpe import Merges, first_vocab, warn_if_not_filled
from lmcore.tokenizer.config import DEFAULT_SPECIAL_TOKENS, checked_config
from lmcore.tokenizer.engine import Engine, known_engine
from lmcore.tokenizer.pair_batches import merge_batch
from lmcore.tokenizer.pair_table import PairTable, words_in_a_row
from lmcore.tokenizer.pretokenize import Pattern
from lmcore.tokenizer.word_counts import MapInOrder, WordCounts, count_words

SMALLEST_BATCH, LARGEST_BATCH = 4, 2_048
REPORT_EVERY = 100  # tokens


class TrainingProgress(NamedTuple):
    """What `train_bpe` tells its ``progress`` callback.

    phase: "count" while the text is read, then "merge".
    done: how much is done, in ``unit``: of the text, or of the vocabulary.
    total: the vocabulary size that is aimed at; 0 while counting, since the length of the text is
      not known.
    unit: what is counted.
    """

    phase: Literal["count", "merge"]
    done: int
    total: int
    unit: Literal["characters", "tokens"]


def train_bpe(
    training_data: Iterable[str],
    vocab_size: int = 32_000,
    special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
    *,
    pattern: Pattern = "gpt2",
    progress: Callable[[TrainingProgress], None] | None = None,
    engine: Engine = "auto",
    map_in_order: MapInOrder | None = None,
) -> tuple[list[bytes], Merges]:
    r"""Learn a byte-level BPE vocabulary from text.

    The text is cut into pre-tokens, each a sequence of bytes. Then, until the vocabulary is full,
    the most frequent pair of neighbouring tokens becomes one token everywhere:

    .. math:: (l, r) = \arg\max_{(x, y)} \big(\mathrm{count}(x, y),\; (x, y)\big)

    so of equally frequent pairs the greatest pair of byte strings wins. A pair whose bytes are
    already a token (``ab`` + ``c`` after ``a`` + ``bc``) merges into that token: it is in
    ``merges``, and takes no new id.

    Args:
      training_data: an iterable of str, read once, one text in memory at a time. No merge crosses
        from one text to the next.
      vocab_size: number of tokens to end with, the special tokens and the 256 bytes included.
      special_tokens: strings that are one token each. They split the text, are counted in
        ``vocab_size``, and are never merged.
      pattern: how text is cut into pre-tokens, a name from `pretokenize.PATTERNS`.
      progress: called now and then with a `TrainingProgress`.
      engine: what counts the words: numpy; numba, an optional extra; or auto, which takes numba
        where it is installed and the text is long enough to pay for loading it. The result is the
        same.
      map_in_order: shares the counting out over workers: called like `map`, for example
        ``ProcessPoolExecutor(2).map``. The result is the same; None counts here.

    Returns:
      ``(vocab, merges)``. ``vocab`` is a list of bytes, the place of each its id: the special
      tokens, the 256 bytes, then the tokens as they were made. ``merges`` maps each pair merged
      to the token it makes; its order is the order of the merges.

    Raises:
      InputError: ``vocab_size`` is too small, a special token is empty or repeated, the pattern is
        unknown, or an item of ``training_data`` is not a str or holds a lone surrogate.

    Warns:
      VocabularyNotFilled: no pair was left before the vocabulary was full; the result is shorter,
        and whole.

    Example:
      >>> vocab, merges = train_bpe(["low low lower"], vocab_size=258, special_tokens=())
      >>> vocab[256:], list(merges)
      ([b'ow', b'low'], [(b'o', b'w'), (b'l', b'ow')])

    References:
      Sennrich, Haddow and Birch, 2016, Neural Machine Translation of Rare Words with Subword
      Units, algorithm 1; bytes as in Radford et al., 2019, section 2.2.
    """
    special_tokens = checked_config(vocab_size, special_tokens, pattern).special_tokens
    known_engine(engine)
    tell = progress or (lambda event: None)
    words = count_words(
        training_data,
        pattern,
        special_tokens,
        lambda n: tell(TrainingProgress("count", n, 0, "characters")),
        engine=engine,
        map_in_order=map_in_order,
    )
    vocab = list(first_vocab(special_tokens))
    merges = merge_words(
        words, vocab, vocab_size, lambda n: tell(TrainingProgress("merge", n, vocab_size, "tokens"))
    )
    warn_if_not_filled(len(vocab), vocab_size)
    return vocab, merges


def merge_words(
    words: WordCounts | dict[bytes, int],
    vocab: list[bytes],
    vocab_size: int,
    on_token: Callable[[int], None],
) -> Merges:
    """Add tokens to ``vocab``, which the caller gives up, until it is full or no pair is left.

    Args:
      words: distinct words, each seen at least once.
      vocab: ends with the 256 bytes.
      vocab_size: number of tokens to end with.
      on_token: called now and then with the size of the vocabulary.

    Returns:
      the merges, in order.
    """
    counted = WordCounts.of(words) if isinstance(words, dict) else words
    row = words_in_a_row(counted, len(vocab) - 256)
    pairs = PairTable(row, len(vocab) - 256)
    merges: Merges = {}
    size, reported = SMALLEST_BATCH, len(vocab)
    while len(vocab) < vocab_size:
        batch = pairs.most_frequent(min(size, vocab_size - len(vocab)), vocab)
        if not batch:
            break
        before = len(vocab)
        merge_batch(row, pairs, batch, vocab, merges)
        n_merged = len(vocab) - before
        size = size * 2 if n_merged + 1 >= len(batch) else size // 3 + n_merged + SMALLEST_BATCH
        size = min(size, LARGEST_BATCH)
        if len(vocab) - reported >= REPORT_EVERY:
            reported = len(vocab)
            on_token(reported)
    if len(vocab) > reported:
        on_token(len(vocab))
    return merges
