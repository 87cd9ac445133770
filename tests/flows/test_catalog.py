"""The five stages as requests: what is read of the world, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.catalog import STAGES, settled_model, tell_times_seen
from flows.config import RunConfig
from flows.progress.events import Event
from flows.runs_folder import STAGE_NAMES
from flows.store.key import make_key
from flows.store.record import Artifact
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig

TOKENIZER = Artifact("tokenizer", "k", Path(), "0" * 64, {"facts": {"vocab_size": 300}})


def test_stages_are_in_order() -> None:
    """Every stage takes artifacts of earlier stages only, and is known by one name everywhere."""
    assert tuple(STAGES) == STAGE_NAMES
    order = list(STAGES)
    for name, stage in STAGES.items():
        assert all(order.index(before) < order.index(name) for before in stage.inputs)


@pytest.mark.parametrize("wanted", [0, 300, 512])
def test_model_takes_the_tokenizers_vocabulary(wanted: int) -> None:
    """Left open the model's vocabulary is the tokenizer's; a larger one, for a GPU, is kept."""
    config = replace(RunConfig(), model=replace(RunConfig().model, vocab_size=wanted))
    assert settled_model(config, {"tokenizer": TOKENIZER}).vocab_size == max(wanted, 300)


def test_model_smaller_than_its_tokenizer_is_refused() -> None:
    """A vocabulary that lacks some of the tokenizer's tokens is refused with both numbers."""
    config = replace(RunConfig(), model=replace(RunConfig().model, vocab_size=299))
    with pytest.raises(InputError, match=r"--model.vocab-size is 299: the tokenizer has 300"):
        settled_model(config, {"tokenizer": TOKENIZER})


def test_local_file_is_keyed_by_its_bytes(tmp_path: Path) -> None:
    """The same bytes at the same place are the same key; one changed byte is another."""
    text = tmp_path / "ünï text.txt"
    text.write_text("abc")
    source = replace(
        RunConfig().source, kind="url", train_url=text.as_uri(), valid_url=text.as_uri()
    )
    config = replace(RunConfig(), source=source)
    before = make_key(STAGES["download"].request(config, {}))
    assert set(before.inputs) == {"train file", "valid file"}
    text.write_text("abc")
    assert make_key(STAGES["download"].request(config, {})).digest == before.digest
    text.write_text("abd")
    assert make_key(STAGES["download"].request(config, {})).digest != before.digest


def test_absent_local_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is told with its URL."""
    url = (tmp_path / "none.txt").as_uri()
    source = replace(RunConfig().source, kind="url", train_url=url, valid_url=url)
    with pytest.raises(InputError, match=r"none\.txt"):
        STAGES["download"].request(replace(RunConfig(), source=source), {})


def test_remote_text_needs_no_answer_for_its_key() -> None:
    """The key of a remote text is made without asking for it."""
    source = replace(
        RunConfig().source, kind="url", train_url="https://a.test/x", valid_url="https://a.test/y"
    )
    request = STAGES["download"].request(replace(RunConfig(), source=source), {})
    assert make_key(request).inputs == {}


def test_how_often_the_text_will_be_seen_is_told() -> None:
    """Of whole steps, over the text's tokens and the end-of-text token of each document."""
    events: list[Event] = []
    facts = {"train": {"tokens": 990, "documents": 10}}
    model = ModelConfig(vocab_size=300, context_length=16)
    training = TrainingConfig(tokens=2_500, batch_size=8)
    tell_times_seen(model, training, facts, events.append)
    assert [event.text for event in events] == ["the training text will be seen 2.56 times"]
