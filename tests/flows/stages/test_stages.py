"""The stages as plain functions: what each writes, and what its digest stands for."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from flows.conductor.shards import map_shards
from flows.corpora.config import ReadingConfig, SourceConfig
from flows.corpora.documents import read_documents
from flows.formats.token_parquet import read_shard, write_shards
from flows.formats.tokenizer_json import load_tokenizer
from flows.progress.events import Event, silent
from flows.stages import download, evaluate, pretokenize, pretrain, tokenizer
from flows.stages.product import Product
from flows.trainer.job import Job
from flows.trainer.numerics import Numerics, Resolved
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.synthetic.stories import story
from lmcore.tokenizer.bpe import train_by_definition
from lmcore.tokenizer.config import TokenizerConfig
from lmcore.training.config import TrainingConfig
from tests.flows.tiny_run import map_here

STORIES = SourceConfig(n_train_stories=5, n_valid_stories=3, seed=7)
TEXTS = ["low lower lowest, newer newest wider", "é ☃ <eos> low", "x"]


# --- download -----------------------------------------------------------------------------------


def test_embedded_stories_are_written_as_documents(tmp_path: Path) -> None:
    """The training text holds the first stories of the seed, read back one a document."""
    product = download.run(STORIES, tmp_path, tmp_path, silent)
    documents = [d.text for d in read_documents(tmp_path / "train", ReadingConfig())]
    assert documents == [story(7, n) for n in range(5)]
    assert product.facts["train_bytes"] == (tmp_path / "train").stat().st_size


def test_validation_stories_are_others(tmp_path: Path) -> None:
    """No index of a validation story is one of the training text, however large that is."""
    download.run(STORIES, tmp_path, tmp_path, silent)
    documents = [d.text for d in read_documents(tmp_path / "valid", ReadingConfig())]
    first = download.FIRST_VALID_STORY
    assert documents == [story(7, first + n) for n in range(3)]
    assert first > 10**12


def test_local_texts_are_taken_as_they_are(tmp_path: Path) -> None:
    """A packed file stays packed: what is stored has the digest that the user knows."""
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"one\ntwo"))
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    source = SourceConfig(kind="url", train_url=packed.as_uri(), valid_url=packed.as_uri())
    product = download.run(source, out, work, silent)
    assert (out / "train").read_bytes() == (out / "valid").read_bytes() == packed.read_bytes()
    assert product.facts["train"] == product.facts["valid"]


# --- tokenizer and pretokenize ------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three documents in a file, the separator between them."""
    path = tmp_path / "train"
    path.write_text("\n<|endoftext|>\n".join(TEXTS))
    return path


def trained(corpus: Path, out: Path, notify: Callable = silent, **settings: object) -> Product:
    out.mkdir(exist_ok=True)
    config = TokenizerConfig(**{"vocab_size": 270} | settings)  # type: ignore[arg-type]
    return tokenizer.run(config, ReadingConfig(), corpus, out, notify)


def test_tokenizer_is_the_librarys(corpus: Path, tmp_path: Path) -> None:
    """The saved tokenizer is what the definition gives on the documents."""
    product = trained(corpus, tmp_path / "out")
    loaded = load_tokenizer(tmp_path / "out" / tokenizer.FILE)
    vocab, merges = train_by_definition(TEXTS, 270)
    assert list(loaded.vocab) == vocab
    assert list(loaded.merges.items()) == list(merges.items())
    assert product.facts["vocab_size"] == 270


def test_digest_is_of_what_a_tokenizer_does(corpus: Path, tmp_path: Path) -> None:
    """Equal tokenizers have equal digests; another pattern or special token another one."""
    first = trained(corpus, tmp_path / "a").digest
    assert trained(corpus, tmp_path / "b").digest == first
    others = [
        trained(corpus, tmp_path / "c", vocab_size=265).digest,
        trained(corpus, tmp_path / "d", pattern="whitespace").digest,
        trained(corpus, tmp_path / "e", special_tokens=("<eos>", "<pad>", "<bos>")).digest,
    ]
    assert len({first, *others}) == 4


def test_vocabulary_that_cannot_be_filled_is_told(corpus: Path, tmp_path: Path) -> None:
    """A text too small for the vocabulary is a warning with what was reached, not an error."""
    events: list[Event] = []
    product = trained(corpus, tmp_path / "out", events.append, vocab_size=5000)
    (warning,) = [event for event in events if event.kind == "warning"]
    assert str(product.facts["vocab_size"]) in warning.text.replace(",", "")
    assert product.facts["vocab_size"] < 5000


def tokenized(corpus: Path, tmp_path: Path, name: str, **settings: object) -> Product:
    """Both splits of the corpus as shards, in a folder of that name."""
    if not (tmp_path / "tokenizer" / tokenizer.FILE).exists():
        trained(corpus, tmp_path / "tokenizer")
    out, work = tmp_path / name, tmp_path / f"{name}-work"
    out.mkdir()
    work.mkdir()
    options = {"map_in_order": map_here} | settings
    config = options.pop("config", pretokenize.PretokenizeConfig())
    return pretokenize.run(
        config,  # type: ignore[arg-type]
        ReadingConfig(),
        {"train": corpus, "valid": corpus},
        tmp_path / "tokenizer" / tokenizer.FILE,
        "ab" * 32,
        out,
        work,
        silent,
        **options,  # type: ignore[arg-type]
    )


def test_tokens_decode_to_the_documents(corpus: Path, tmp_path: Path) -> None:
    """The shards hold a row a document, whose ids decode to it, and its length in bytes."""
    product = tokenized(corpus, tmp_path, "out")
    loaded = load_tokenizer(tmp_path / "tokenizer" / tokenizer.FILE)
    (name,) = product.facts["train"]["files"]
    texts, lengths = [], []
    for rows in read_shard(tmp_path / "out" / name):
        for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
            texts.append(loaded.decode(rows.ids[start:end].tolist()))
        lengths += rows.byte_lengths.tolist()
    assert texts == TEXTS
    assert lengths == [len(text.encode()) for text in TEXTS]


def test_special_token_in_a_text_is_text(corpus: Path, tmp_path: Path) -> None:
    """A document that holds the letters of the end-of-text token never yields that token."""
    product = tokenized(corpus, tmp_path, "out")
    (name,) = product.facts["train"]["files"]
    for rows in read_shard(tmp_path / "out" / name):
        assert product.facts["eos_id"] not in rows.ids.tolist()


def test_sharing_out_changes_no_digest(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of workers, the size of their batches and of the shards leave the tokens alike."""
    first = tokenized(corpus, tmp_path, "a")
    monkeypatch.setattr(pretokenize, "BATCH_CHARACTERS", 1)
    second = tokenized(corpus, tmp_path, "b", map_in_order=partial(map_shards, workers=3))
    in_small_groups = partial(write_shards, group_tokens=8)
    monkeypatch.setattr(pretokenize, "write_shards", in_small_groups)
    small = pretokenize.PretokenizeConfig(shard_tokens=10)
    third = tokenized(corpus, tmp_path, "c", config=small)
    assert len(third.facts["train"]["files"]) > 1
    assert first.digest == second.digest == third.digest


def test_empty_text_is_refused(corpus: Path, tmp_path: Path) -> None:
    """A text without a token stops the stage, with the setting to look at."""
    trained(corpus, tmp_path / "tokenizer")
    corpus.write_text("")
    with pytest.raises(InputError, match=r"--corpus\."):
        tokenized(corpus, tmp_path, "out")


def test_end_of_text_must_be_a_special_token() -> None:
    """An end-of-text token that the tokenizer does not have is a fault, told with both flags."""
    config = pretokenize.PretokenizeConfig(shard_tokens=0, end_of_text="<end>")
    first, second = pretokenize.faults(config, ("<eos>",))
    assert "--pretokenize.shard-tokens" in first
    assert "'<end>'" in second
    assert "--tokenizer.special-tokens" in second
    assert pretokenize.faults(pretokenize.PretokenizeConfig(), ("<eos>",)) == []


# --- pretrain -----------------------------------------------------------------------------------

NOW = Resolved("cpu", False, 8, 1, 1, "2.11.0", "x86_64", "avx2")


def test_numerics_are_recorded_at_the_start(tmp_path: Path) -> None:
    """The first start records what was chosen; a later one follows it, whatever it would choose."""
    first = pretrain.fixed_numerics(tmp_path, NOW, Numerics(), False, silent)
    assert first == NOW
    later = replace(NOW, micro_batch=2)
    assert pretrain.fixed_numerics(tmp_path, later, Numerics(), False, silent) == NOW
    recorded = json.loads((tmp_path / pretrain.NUMERICS).read_text())
    assert recorded == {"numerics": asdict(NOW), "drift": []}


def test_drift_is_refused_or_recorded(tmp_path: Path) -> None:
    """Other numerics are refused; where they are allowed, each change is said and written down."""
    pretrain.fixed_numerics(tmp_path, NOW, Numerics(), False, silent)
    newer = replace(NOW, torch="2.12.0")
    with pytest.raises(InputError, match="--allow-drift"):
        pretrain.fixed_numerics(tmp_path, newer, Numerics(), False, silent)
    events: list[Event] = []
    assert pretrain.fixed_numerics(tmp_path, newer, Numerics(), True, events.append) == newer
    assert [event.kind for event in events] == ["warning"]
    wider = replace(newer, instruction_set="avx512f")
    pretrain.fixed_numerics(tmp_path, wider, Numerics(), True, silent)
    assert json.loads((tmp_path / pretrain.NUMERICS).read_text()) == {
        "numerics": asdict(wider),
        "drift": [{"torch": ["2.11.0", "2.12.0"]}, {"instruction_set": ["avx2", "avx512f"]}],
    }
    assert not [name for name in os.listdir(tmp_path) if name != pretrain.NUMERICS]


# --- evaluate -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("samples", -1),
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("seed", -1),
    ],
)
def test_settings_of_evaluation_have_ranges(name: str, bad: float) -> None:
    """A setting out of range is told with its flag; the defaults are sound."""
    config = evaluate.EvaluationConfig(**{name: bad})  # type: ignore[arg-type]
    (fault,) = evaluate.faults(config)
    assert fault.startswith(f"{name} is {bad}")
    assert f"--evaluation.{name.replace('_', '-')}" in fault
    assert evaluate.faults(evaluate.EvaluationConfig()) == []


@pytest.mark.parametrize(
    ("wanted", "there", "expected"),
    [
        ("last", ["model", "best"], "model"),
        ("best", ["model", "best"], "best"),
        ("best", ["model"], "model"),  # the last weights are the best ones
    ],
)
def test_weights_are_those_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, there: list[str], expected: str
) -> None:
    """The process is given the last weights, or the best ones where they were kept apart."""
    for name in there:
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / evaluate.RESULT).write_text("{}")
    jobs: list[Job] = []
    monkeypatch.setattr(evaluate, "launch", lambda job, *_: jobs.append(job))
    settings = {"weights": wanted}
    job = Job("evaluate", ModelConfig(), TrainingConfig(), NOW, out_dir=str(tmp_path))
    evaluate.run(replace(job, settings=settings), tmp_path, silent)
    assert [job.weights for job in jobs] == [str(tmp_path / f"{expected}.safetensors")]
