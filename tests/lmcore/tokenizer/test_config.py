"""The settings of the tokenizer and their faults."""

import pytest

from lmcore.errors import InputError
from lmcore.tokenizer.config import TokenizerConfig, checked_config, faults


@pytest.mark.parametrize(
    "config",
    [TokenizerConfig(), TokenizerConfig(256, ()), TokenizerConfig(257, ("<eos>",), "none")],
)
def test_usable_settings_have_no_faults(config):
    """The defaults, and the smallest vocabulary that holds everything, can be used."""
    assert faults(config) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TokenizerConfig(258), "vocab_size is 258: it must be at least 259 (256 bytes + 3 special"),
        (TokenizerConfig(-1, ()), "vocab_size is -1: it must be at least 256 (256 bytes + 0"),
        (TokenizerConfig(300.0), "vocab_size is 300.0, a float: it must be an int"),  # type: ignore
        (TokenizerConfig(True), "vocab_size is True, a bool: it must be an int"),
        (TokenizerConfig(300, ("<a>", "")), "special_tokens[1] is '': it must not be empty"),
        (
            TokenizerConfig(300, ("<a>", "b", "<a>")),
            "[2] is '<a>': it already is special_tokens[0]",
        ),
        (TokenizerConfig(300, ("\ud800",)), "special_tokens[0] is '\\ud800': it holds a lone surr"),
        (TokenizerConfig(300, "<eos>"), "special_tokens is the str '<eos>'"),  # type: ignore
        (TokenizerConfig(300, (b"<eos>",)), "special_tokens holds b'<eos>'"),  # type: ignore
        (TokenizerConfig(300, (), "gpt3"), "pattern is 'gpt3': it must be one of gpt2"),  # type: ignore
    ],
)
def test_each_fault_is_named_with_its_remedy(config, message):
    """A fault says what came, and which flag to change where there is one."""
    (fault,) = faults(config)
    assert message in fault


def test_all_faults_are_told_at_once():
    """One error lists everything there is to mend."""
    with pytest.raises(InputError) as caught:
        checked_config(1, ("", ""), "x")  # type: ignore[arg-type]
    assert str(caught.value).count("\n") == 2
