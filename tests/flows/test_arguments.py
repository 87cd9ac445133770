"""Settings as words: what they mean, and how a wrong one is told."""

from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from flows.arguments import parse, split_preset
from flows.config import Execution, RunConfig
from flows.presets import PRESETS
from lmcore.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_no_words_leave_the_preset(name: str) -> None:
    """Without words the parsed run is the preset, and the execution the default."""
    assert parse(name, []) == (PRESETS[name], Execution())


def words_of(value: Any) -> list[str]:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return [str(value)]


SETTINGS = [
    ("source", "corpus", "n_train_stories", 77),
    ("source", "corpus", "train_sha256", "ab" * 32),
    ("reading", "corpus", "errors", "replace"),
    ("reading", "corpus", "separator", "<|end|>"),
    ("tokenizer", "tokenizer", "vocab_size", 333),
    ("tokenizer", "tokenizer", "special_tokens", ("<pad>", "<eos>", "<more>")),
    ("pretokenize", "pretokenize", "shard_tokens", 1234),
    ("model", "model", "feed_forward", "swiglu"),
    ("model", "model", "rope_theta", 5e5),
    ("training", "training", "max_lr", 1.25e-3),
    ("evaluation", "evaluation", "prompt", "Once -- upon"),
    ("numerics", "numerics", "compile", "off"),
]


@pytest.mark.parametrize(("part", "group", "field", "value"), SETTINGS)
def test_word_sets_one_field(part: str, group: str, field: str, value: Any) -> None:
    """A flag sets its field and nothing else, written with a space or with an equals sign."""
    flag = f"--{group}.{field.replace('_', '-')}"
    start = PRESETS["quickstart"]
    expected = replace(start, **{part: replace(getattr(start, part), **{field: value})})
    assert parse("quickstart", [flag, *words_of(value)])[0] == expected
    if not isinstance(value, tuple):
        assert parse("quickstart", [f"{flag}={value}"])[0] == expected


def test_switch_has_both_directions() -> None:
    """A yes-or-no setting has a flag for each."""
    assert parse("quickstart", ["--model.tie-embeddings"])[0].model.tie_embeddings
    assert not parse("quickstart", ["--model.no-tie-embeddings"])[0].model.tie_embeddings
    assert parse("quickstart", ["--allow-drift"])[1].allow_drift


def test_last_word_wins() -> None:
    """A setting given twice has its last value: what is added after a preset's words counts."""
    words = ["--training.seed", "1", "--training.seed", "2"]
    assert parse("quickstart", words)[0].training.seed == 2


def test_every_setting_has_a_sentence() -> None:
    """The help shows each flag with a sentence that explains it."""
    import contextlib
    import io

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as stop:
        parse("quickstart", ["--help"])
    assert stop.value.code == 0
    text = shown.getvalue()
    for part in fields(RunConfig):
        slice_ = getattr(RunConfig(), part.name)
        group = "corpus" if part.name in ("source", "reading") else part.name
        for name in asdict(slice_):
            assert f"--{group}.{name.replace('_', '-')}" in text.replace("no-", ""), name
    assert "Where to compute; auto takes CUDA" in " ".join(text.replace("│", "").split())


WRONG = [
    ("--model.d-modle 8", ["--model.d-modle", "--model.d-model"]),
    ("--model.d-model wide", ["--model.d-model", "'wide'", "whole number"]),
    ("--training.max-lr high", ["--training.max-lr", "'high'", "number"]),
    ("--model.norm batch", ["--model.norm", "rms_norm", "layer_norm"]),
    ("--model.d-model", ["--model.d-model", "needs a value"]),
    ("--numerics.device tpu", ["--numerics.device", "cuda"]),
]


@pytest.mark.parametrize(("words", "mentions"), WRONG)
def test_wrong_word_is_one_line(words: str, mentions: list[str]) -> None:
    """A word that cannot be read is one line that names the flag and what it takes."""
    with pytest.raises(InputError) as fault:
        parse("quickstart", words.split())
    message = str(fault.value)
    assert "\n" not in message
    for mention in mentions:
        assert mention in message


def test_all_wrong_words_are_told_at_once() -> None:
    """Three wrong flags are three lines."""
    with pytest.raises(InputError) as fault:
        parse(
            "quickstart", ["--model.d-modle", "8", "--training.seed", "x", "--model.norm", "batch"]
        )
    lines = str(fault.value).split("\n")
    assert [line[:2] for line in lines[1:]] == ["- ", "- ", "- "]
    for mention in ("--model.d-modle", "--training.seed", "--model.norm"):
        assert mention in str(fault.value)


def test_unknown_preset_is_answered_with_the_nearest() -> None:
    """A misspelt preset is told with the one that was meant, and all there are."""
    with pytest.raises(InputError, match="did you mean tinystories") as fault:
        parse("tinystoreis", [])
    assert all(name in str(fault.value) for name in PRESETS)
    with pytest.raises(InputError, match=r"'\.\./x'"):
        parse("../x", [])


def test_preset_comes_first() -> None:
    """The first word is the preset unless it is a flag."""
    assert split_preset(["owt-tiny", "--a", "b"]) == ("owt-tiny", ["--a", "b"])
    assert split_preset(["--a", "b"]) == ("quickstart", ["--a", "b"])
    assert split_preset([]) == ("quickstart", [])
