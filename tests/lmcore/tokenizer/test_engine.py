"""Choosing between numpy and numba."""

import subprocess
import sys

import pytest

from lmcore.errors import InputError
from lmcore.tokenizer import engine as engines
from lmcore.tokenizer.engine import compiled
from lmcore.tokenizer.fast_pretokenize import cut_gpt2
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.tokenizer import Tokenizer
from lmcore.tokenizer.word_table import WordTable

BYTES = [bytes([byte]) for byte in range(256)]


def test_a_short_job_never_imports_numba():
    """Training on little text and encoding it load numpy alone."""
    code = (
        "import sys; from lmcore import Tokenizer, train_bpe;"
        "vocab, merges = train_bpe(['low lower ' * 1000], 259);"
        "Tokenizer(vocab, merges).encode_batch(['low ' * 1000]);"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_long_job_turns_to_numba(engine, monkeypatch):
    """With the text that was read past the bound, auto takes numba where it is installed."""
    assert compiled("auto", engines.AUTO_CHARACTERS - 1) is None
    assert compiled("numpy", 1 << 60) is None
    if engine == "numba":
        assert compiled("auto", engines.AUTO_CHARACTERS) is compiled("numba")
        monkeypatch.setattr(engines, "AUTO_CHARACTERS", 1_000_000)
        asked = []
        monkeypatch.setattr(
            "lmcore.tokenizer.batch_encoding.compiled", lambda *a: asked.append(a) or compiled(*a)
        )
        tokenizer = Tokenizer(BYTES, {})
        texts = ["a b c, " * 100_000] * 4
        ids, _ = tokenizer.encode_batch(texts)
        assert ids.tolist() == list("".join(texts).encode())
        chosen = [bool(compiled(*call)) for call in asked]
        assert not chosen[0]
        assert chosen[-1]
        assert chosen == sorted(chosen)


def test_an_engine_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    """An unknown engine, and numba where it cannot be imported, are errors that say what to do."""
    with pytest.raises(InputError, match="engine is 'rust'"):
        train_bpe(["a"], 300, engine="rust")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="engine is 'rust'"):
        Tokenizer(BYTES, {}).encode_batch([], engine="rust")  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "lmcore.tokenizer.compiled", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled("auto", 1 << 60) is None
    with pytest.raises(InputError, match=r"numba.* cannot be imported .*lmcore\[fast\]"):
        compiled("numba")


def test_every_code_point_is_numbered_alike(engine):
    """In every place between others, the engines cut a character alike, and number the words."""
    places = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"a{chr(c)} {chr(c)}\n!{chr(c)}'s  b" for c in places[i::4]) for i in range(4)]
    texts += ["", "  ", "'", "'l", "a  ", ""]
    cut, table = cut_gpt2(texts), WordTable()
    expected = table.find(cut)
    if kernels := compiled(engine):
        other = WordTable()
        number = other.find_compiled(cut, kernels)
        renamed = dict(zip(number.tolist(), expected.tolist(), strict=True))
        assert [renamed[n] for n in number.tolist()] == expected.tolist()
        assert len(set(renamed.values())) == len(renamed) == table.n == other.n
