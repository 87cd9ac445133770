"""Our tokenizers for other libraries, and GPT-2's for ours, against those libraries' rules.

The rules are written out in `tests.tokenizer_oracles`; with the libraries themselves the same is
tested in `test_interop_peers.py`.
"""

import json
import re

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import Pair
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.gpt2_files import byte_alphabet, from_gpt2, unwritten, written
from lmcore.tokenizer.interop import pinned_pattern, to_huggingface, to_tiktoken, usable_merges
from lmcore.tokenizer.pretokenize import PATTERNS, Pattern, pre_tokens
from lmcore.tokenizer.tokenizer import Tokenizer
from tests.strategies import any_text, few_letters, patterns, small_corpora, tricky_text
from tests.tokenizer_oracles import (
    GPT2_ALPHABET,
    encode_by_ranks,
    encode_by_tokenizer_json,
    for_re,
)

BYTES = [bytes([byte]) for byte in range(256)]
SPECIAL = ("<pad>", "<eos>", " a b ")
ENGLISH = "the cat sat on the mat, and then the other cats sat there: whether, hither, thither"
EVERY_CODE_POINT = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def with_merges(*pairs: Pair, special: tuple[str, ...] = ()) -> Tokenizer:
    """A tokenizer with these merges, in this order; special tokens first, as train_bpe has them."""
    made = dict.fromkeys(left + right for left, right in pairs)
    vocab = [*(token.encode() for token in special), *BYTES]
    vocab += [token for token in made if token not in vocab]
    return Tokenizer(vocab, {pair: pair[0] + pair[1] for pair in pairs}, special)


def trained(texts: list[str], pattern: Pattern) -> Tokenizer:
    return Tokenizer(
        *train_bpe(texts, 256 + len(SPECIAL) + 40, SPECIAL, pattern=pattern), SPECIAL, pattern
    )


@st.composite
def merge_orders(draw) -> list[Pair]:
    """Merges over three letters in any order, so that pairs often make the same bytes."""
    tokens = [b"a", b"b", b"c"]
    pairs: list[Pair] = []
    for _ in range(draw(st.integers(0, 12))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if len(pair[0] + pair[1]) < 6 and pair not in pairs:
            pairs.append(pair)
            tokens.append(pair[0] + pair[1])
    return draw(st.one_of(st.just(pairs), st.permutations(pairs)))


# --- how tokens are written ---


def test_the_alphabet_is_gpt_2_s():
    """Every byte has the character that GPT-2's own function gives it, and each has another."""
    assert dict(enumerate(byte_alphabet())) == GPT2_ALPHABET
    assert len(set(byte_alphabet())) == 256
    assert not any(character.isspace() for character in byte_alphabet())


@given(st.binary(max_size=20))
def test_what_is_written_reads_back(token):
    """unwritten undoes written, whatever the bytes."""
    assert unwritten(written(token)) == token
    assert len(written(token)) == len(token)


def test_a_character_of_no_byte_is_refused():
    """A space stands for no byte: a space is written Ġ."""
    with pytest.raises(InputError, match="'the cat' holds ' ', which stands for no byte"):
        unwritten("the cat")


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_a_pinned_pattern_has_no_class_that_a_library_could_read_otherwise(pattern):
    r"""No ``\p`` and no ``\s`` is left, and every code point, among others, is cut as by ours."""
    pinned = pinned_pattern(pattern)
    assert not re.search(r"\\[pPsSwWdD]", pinned)
    find = re.compile(for_re(pinned)).findall
    for text in (EVERY_CODE_POINT, "".join(f"{c}a {c}1" for c in EVERY_CODE_POINT[:0x3100])):
        assert find(text) == pre_tokens(text, pattern)


# --- Hugging Face ---


def test_a_tokenizer_json_as_worked_out_by_hand():
    """Special tokens as their text, bytes in GPT-2's alphabet, merges in order, nothing added."""
    value = to_huggingface(with_merges((b"\n", b" "), (b" ", b"a"), special=("<eos>", "<pad>")))
    assert list(value["model"]["vocab"].items())[:3] == [("<eos>", 0), ("<pad>", 1), ("Ā", 2)]
    assert list(value["model"]["vocab"].items())[-2:] == [("ĊĠ", 258), ("Ġa", 259)]
    assert value["model"]["merges"] == ["Ċ Ġ", "Ġ a"]
    assert [(t["id"], t["content"], t["special"]) for t in value["added_tokens"]] == [
        (0, "<eos>", True),
        (1, "<pad>", True),
    ]
    split, byte_level = value["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"]["Regex"].startswith(r"'(?:[sdmt]|ll|ve|re)| ?[\x{41}-\x{5a}\x{61}")
    assert (split["behavior"], split["invert"]) == ("Isolated", False)
    assert byte_level == value["decoder"]
    assert (byte_level["add_prefix_space"], byte_level["use_regex"]) == (False, False)
    assert json.loads(json.dumps(value)) == value


@settings(deadline=None, max_examples=100)
@given(small_corpora, patterns, st.one_of(any_text, tricky_text, few_letters))
@pytest.mark.filterwarnings("ignore::lmcore.tokenizer.bpe.VocabularyNotFilled")
def test_what_was_trained_encodes_alike_by_tokenizer_json(texts, pattern, text):
    """By the other library's rules, every text has our ids, whatever the corpus and the pattern."""
    tokenizer = trained(texts, pattern)
    assert encode_by_tokenizer_json(text, to_huggingface(tokenizer)) == tokenizer.encode(text)


@settings(deadline=None, max_examples=300)
@given(merge_orders(), st.text("abc", max_size=20))
def test_any_merges_encode_alike_by_tokenizer_json_or_are_refused(pairs, text):
    """In an order that no training makes: equal ids, or an error, and never other ids."""
    tokenizer = with_merges(*pairs)
    try:
        value = to_huggingface(tokenizer)
    except InputError:
        return
    assert encode_by_tokenizer_json(text, value) == tokenizer.encode(text)


def test_a_special_token_that_a_merge_makes_too_has_both_writings():
    """As a special token and as bytes it is one token, with one id."""
    tokenizer = with_merges((b" ", b"x"), (b" x", b"y"), special=(" x",))
    value = to_huggingface(tokenizer)
    assert value["model"]["vocab"][" x"] == value["model"]["vocab"]["Ġx"] == 0
    for text in (" x", "a xy", "a x"):
        assert encode_by_tokenizer_json(text, value) == tokenizer.encode(text)


@pytest.mark.parametrize("special", ["s", "Ġ", "é", "Ġt"])
def test_a_special_token_written_like_another_token_is_refused(special):
    """In tokenizer.json a writing has one id; the message says which two tokens share it."""
    with pytest.raises(InputError, match=rf"both written '{special}' in tokenizer.json"):
        to_huggingface(with_merges((b" ", b"t"), special=(special,)))


# --- tiktoken ---


def test_ranks_as_worked_out_by_hand():
    """A rank is the id, wherever the special tokens stand, which are not among the ranks."""
    arguments = to_tiktoken(with_merges((b" ", b"a"), special=("<eos>", "<pad>")), "ours")
    assert arguments["name"] == "ours"
    assert arguments["special_tokens"] == {"<eos>": 0, "<pad>": 1}
    assert arguments["mergeable_ranks"] == {
        **{bytes([byte]): byte + 2 for byte in range(256)},
        b" a": 258,
    }
    assert arguments["pat_str"] == pinned_pattern("gpt2")


def ids_by_ranks(tokenizer: Tokenizer, text: str) -> list[int]:
    arguments = to_tiktoken(tokenizer)
    return encode_by_ranks(
        text,
        arguments["pat_str"],
        arguments["mergeable_ranks"],
        arguments["special_tokens"],
    )


@settings(deadline=None, max_examples=100)
@given(small_corpora, patterns, st.one_of(any_text, tricky_text, few_letters))
@pytest.mark.filterwarnings("ignore::lmcore.tokenizer.bpe.VocabularyNotFilled")
def test_what_was_trained_encodes_alike_by_ranks(texts, pattern, text):
    """By tiktoken's rules, every text has our ids, whatever the corpus and the pattern."""
    tokenizer = trained(texts, pattern)
    assert ids_by_ranks(tokenizer, text) == tokenizer.encode(text)


@settings(deadline=None, max_examples=500)
@given(merge_orders(), st.text("abc", max_size=20))
def test_any_merges_encode_alike_by_ranks_or_are_refused(pairs, text):
    """Pairs that make the same bytes, merges never reached, any order: equal ids, or an error."""
    tokenizer = with_merges(*pairs)
    try:
        found = ids_by_ranks(tokenizer, text)
    except InputError:
        return
    assert found == tokenizer.encode(text)


def test_a_byte_that_is_a_special_token_too_keeps_both_ids():
    """The byte in a text is one token, the special token of the same text another."""
    tokenizer = Tokenizer([b"s", *BYTES], {}, ("s",))
    arguments = to_tiktoken(tokenizer)
    assert (arguments["special_tokens"]["s"], arguments["mergeable_ranks"][b"s"]) == (0, 1 + 0x73)


def test_of_two_pairs_with_the_same_bytes_the_one_that_is_reached_counts():
    """a bc comes before ab c, so the second never happens; the text abc says so in all three."""
    tokenizer = with_merges((b"b", b"c"), (b"a", b"bc"), (b"a", b"b"), (b"ab", b"c"))
    assert list(usable_merges(tokenizer.merges)) == [(b"b", b"c"), (b"a", b"bc"), (b"a", b"b")]
    for text in ("abc", "ab", "abcab", "aabc"):
        assert ids_by_ranks(tokenizer, text) == tokenizer.encode(text)


def test_a_token_that_is_never_reached_is_left_out():
    """Were it a rank, tiktoken would make it of its bytes, as we never do."""
    tokenizer = with_merges((b"a", b"b"), (b"b", b"c"), (b"a", b"bc"))
    assert b"abc" not in to_tiktoken(tokenizer)["mergeable_ranks"]
    assert ids_by_ranks(tokenizer, "abc") == tokenizer.encode("abc")
    unknown = Tokenizer([*BYTES, b"<eos>"], {})
    assert ids_by_ranks(unknown, "<eos>") == tokenizer.encode("<eos>")


@settings(deadline=None, max_examples=30)
@given(small_corpora, patterns)
@pytest.mark.filterwarnings("ignore::lmcore.tokenizer.bpe.VocabularyNotFilled")
def test_after_training_every_merge_is_usable(texts, pattern):
    """What our trainer makes is never refused, and loses nothing."""
    tokenizer = trained(texts, pattern)
    assert usable_merges(tokenizer.merges) == tokenizer.merges


@pytest.mark.parametrize("special", [("<e", "<eos>"), ("<eos>", "x", "<e")])
def test_a_special_token_that_begins_another_is_refused(special):
    """tiktoken finds either of the two; the message names them."""
    with pytest.raises(InputError, match="'<eos>' begins with the special token '<e'"):
        to_tiktoken(with_merges(special=special))


def test_ids_that_do_not_rise_with_the_merges_are_refused():
    """The ids are the ranks there; the message names the two tokens."""
    pairs: dict[Pair, bytes] = {(b"a", b"b"): b"ab", (b"b", b"c"): b"bc"}
    with pytest.raises(InputError, match=r"b'bc' \(id 256\) is merged after b'ab' \(id 257\)"):
        to_tiktoken(Tokenizer([*BYTES, b"bc", b"ab"], pairs))


@pytest.mark.parametrize("export", [to_huggingface, to_tiktoken])
def test_a_merge_before_those_that_it_needs_is_refused(export):
    """The message names the merge."""
    with pytest.raises(InputError, match=r"merges\[0\] joins b'ab' and b'c'"):
        export(with_merges((b"ab", b"c"), (b"a", b"b")))


@pytest.mark.parametrize("export", [to_huggingface, to_tiktoken])
def test_a_vocabulary_without_all_bytes_is_refused(export):
    """Where we say that a text cannot be encoded, the others would drop it or break off."""
    with pytest.raises(InputError, match="lacks 1 of the 256 bytes, 0xff first"):
        export(Tokenizer(BYTES[:255], {}))


# --- GPT-2's files ---


def gpt2_order(texts: list[str], n_merges: int = 20) -> Tokenizer:
    """Trained, and put into GPT-2's order: bytes by its alphabet, merges, the special token."""
    special = ("<|endoftext|>",)
    _, merges = train_bpe(texts, 257 + n_merges, special)
    in_alphabet = sorted(BYTES, key=lambda byte: GPT2_ALPHABET[byte[0]])
    return Tokenizer([*in_alphabet, *merges.values(), special[0].encode()], merges, special)


def gpt2_files(tokenizer: Tokenizer) -> tuple[str, str]:
    """The texts of encoder.json and vocab.bpe, as GPT-2's are written: ASCII, escaped."""
    model = to_huggingface(tokenizer)["model"]
    return json.dumps(model["vocab"]), "\n".join(["#version: 0.2", *model["merges"], ""])


@settings(deadline=None, max_examples=50)
@given(small_corpora)
@pytest.mark.filterwarnings("ignore::lmcore.tokenizer.bpe.VocabularyNotFilled")
def test_gpt_2_s_files_read_back(texts):
    """What was written in GPT-2's format is the same tokenizer again."""
    tokenizer = gpt2_order(texts)
    assert from_gpt2(*gpt2_files(tokenizer)) == tokenizer


def test_gpt_2_s_special_token_has_the_last_id():
    """The ids are those of the file: <|endoftext|> last, and the first of all is the byte ``!``."""
    tokenizer = from_gpt2(*gpt2_files(gpt2_order([ENGLISH])))
    assert tokenizer.encode("!<|endoftext|>") == [0, tokenizer.vocab_size - 1]
    assert tokenizer.pattern == "gpt2"


def test_lines_may_end_as_on_windows():
    """A carriage return at the end of a line belongs to no token."""
    encoder, merges = gpt2_files(gpt2_order([ENGLISH]))
    assert from_gpt2(encoder, merges.replace("\n", "\r\n")) == from_gpt2(encoder, merges)


ENCODER, VOCAB = gpt2_files(with_merges((b"a", b"b"), special=("<|endoftext|>",)))


@pytest.mark.parametrize(
    ("encoder", "vocab", "message"),
    [
        ("{", VOCAB, "encoder.json is no JSON at line 1, column 2"),
        ("[]", VOCAB, "encoder.json is a list: it must be an object"),
        ('{"a": 1}', VOCAB, "encoder.json has 1 tokens: their ids must be 0 to 0, each once"),
        ('{"a": 0, "b": 0}', VOCAB, "their ids must be 0 to 1, each once"),
        ('{"a": "0"}', VOCAB, "their ids must be 0 to 0"),
        ('{"a": 0}', VOCAB, r"encoder.json has no special token '<\|endoftext\|>'"),
        (ENCODER.replace('"ab"', '"a b"'), VOCAB, "'a b' holds ' ', which stands for no byte"),
        (ENCODER, VOCAB + "a b c\n", "line 3 of vocab.bpe is 'a b c': it must be two parts"),
        (ENCODER, VOCAB + "a b\n", "line 3 of vocab.bpe is 'a b': that pair was merged before"),
        (ENCODER, VOCAB + "a c\n", r"merges\[1\] names b'ac', which is not in the vocabulary"),
        (ENCODER, VOCAB + "a \n", "line 3 of vocab.bpe is 'a ': it must be two parts"),
    ],
)
def test_files_that_are_not_gpt_2_s_are_refused(encoder, vocab, message):
    """The message says which file, and where in it."""
    with pytest.raises(InputError, match=message):
        from_gpt2(encoder, vocab)
