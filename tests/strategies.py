"""Hypothesis strategies that more than one test file uses, a section for each part."""

from itertools import pairwise

from hypothesis import strategies as st

# --- tokenizer ------------------------------------------------------------------------------

any_text = st.text()
"""Any str that has UTF-8 bytes (hypothesis leaves surrogates out of text by default)."""

# Letters of one to four bytes, digits, signs, contractions, spaces of every kind, unassigned code
# points, and the control characters that Python alone takes for white space.
_TRICKY = (
    *"aabbcstdmrevl  ''\n\r\t.,!1230",
    *("\u00a0", "\u3000", "\u2028", "\u0085", "\x1c", "\x00", "\u0301", "\u00e9", "\u017f"),
    *("\u6f22", "\u0e01", "\u0663", "\u00bd", "\U0001f600", "\U00010400", "\U0001d7d8", "\ufffd"),
    *("'s", "'LL", "  ", "\r\n", "\n\n ", "<eos>", "<pad>", "<"),
)

tricky_text = st.lists(st.sampled_from(_TRICKY), max_size=60).map("".join)
"""Text dense in the places where pre-tokenization has something to decide."""

few_letters = st.text("abc ", max_size=40)
"""Text over so few letters that pairs repeat, tie and overlap."""

small_corpora = st.lists(st.one_of(few_letters, tricky_text), max_size=6)

special_token_sets = st.sampled_from(
    [(), ("<pad>", "<eos>", "<bos>"), ("<eos>", "<eos><eos>"), ("ab", "b"), ("a",), ("s", "'", " ")]
)

patterns = st.sampled_from(["gpt2", "gpt4", "whitespace", "none"])


@st.composite
def chunked(draw, texts=tricky_text) -> tuple[str, list[str]]:
    """A text, and the same text cut into chunks at any places, empty chunks included."""
    text = draw(texts)
    places = st.lists(st.integers(0, len(text)), max_size=8).map(sorted)
    cuts = [0, *draw(places), len(text)]
    return text, [text[start:end] for start, end in pairwise(cuts)]


@st.composite
def merge_orders(draw) -> dict[tuple[bytes, bytes], bytes]:
    """Merges over three letters in any order, so that pairs often make the same bytes."""
    tokens = [b"a", b"b", b"c"]
    pairs: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, 14))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if len(pair[0] + pair[1]) < 6 and pair not in pairs:
            pairs.append(pair)
            tokens.append(pair[0] + pair[1])
    return {(left, right): left + right for left, right in draw(st.permutations(pairs))}
