"""Before any work: what a run will be and cost, and why it cannot be."""

import doctest
import gzip
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows import preflight
from flows.config import RunConfig
from flows.corpora.config import ReadingConfig, SourceConfig
from flows.preflight import plan, screen, stage_bytes
from flows.presets import PRESETS
from flows.runs_folder import STAGE_NAMES
from flows.trainer.numerics import Resolved
from lmcore.model.counts import count_params, training_flops
from lmcore.planning.memory import COMPILER_BYTES
from lmcore.training.config import n_steps

NUMERICS = Resolved("cpu", False, 8, 2, 1, "2.11.0", "x86_64", "avx2")
QUICKSTART = PRESETS["quickstart"]


FREE_MEMORY = preflight.free_memory_bytes


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine with room, whose memory and disk a test may set."""
    room = {"memory": 16e9, "disk": 100e9}
    monkeypatch.setattr(preflight, "free_memory_bytes", lambda device: room["memory"])
    monkeypatch.setattr(preflight, "free_disk_bytes", lambda folder: room["disk"])
    return room


def faults_of(config: RunConfig) -> tuple[str, ...]:
    return plan(config, "cpu", Path("/"), 2).faults


@pytest.mark.parametrize("name", PRESETS)
def test_plan_counts_what_will_be_done(name: str) -> None:
    """Parameters, steps, tokens and FLOPs are those of the model and the training themselves."""
    config = PRESETS[name]
    budget = plan(config, "cpu", Path("/"), 2).budget
    model = replace(config.model, vocab_size=config.tokenizer.vocab_size)
    steps = n_steps(config.training, model.context_length)
    assert budget.params.total == count_params(model).total
    assert budget.steps == steps
    assert budget.tokens == steps * config.training.batch_size * model.context_length
    assert budget.flops == training_flops(model, budget.tokens)
    assert config.training.batch_size % budget.micro_batch == 0


def test_batch_is_split_until_it_fits(machine: dict[str, float]) -> None:
    """With less memory fewer sequences are computed at once, down to one."""
    splits = []
    for memory in (16e9, 2e9, 1e9, 0.6e9):
        machine["memory"] = memory
        outline = plan(PRESETS["tinystories"], "cpu", Path("/"), 2)
        splits.append(outline.budget.micro_batch)
    assert splits == sorted(splits, reverse=True)
    assert splits[0] == 64
    assert 1 <= splits[-1] < 8


def test_saved_memory_is_planned_for(machine: dict[str, float]) -> None:
    """Checkpointed blocks and a loss in chunks let more sequences fit, and the plan says so."""
    machine["memory"] = 0.8e9
    plain = PRESETS["tinystories"]
    frugal = replace(
        plain,
        numerics=replace(plain.numerics, activation_checkpointing=True, loss_chunk_tokens=512),
    )
    before, after = (plan(config, "cpu", Path("/"), 2) for config in (plain, frugal))
    assert after.budget.micro_batch > before.budget.micro_batch
    asked = replace(NUMERICS, activation_checkpointing=True, loss_chunk_tokens=512)
    shown = dict(after.rows(asked))["numerics"]
    assert "logits of 512 tokens at once, blocks computed twice" in shown
    assert "twice" not in dict(after.rows(NUMERICS))["numerics"]


def test_the_compiler_is_planned_for() -> None:
    """Where the step will be compiled, as asked or as the run is long, the process is larger."""
    config = PRESETS["tinystories"]
    process = {}
    for switch in ("on", "off"):
        asked = replace(config, numerics=replace(config.numerics, micro_batch=8, compile=switch))
        process[switch] = plan(asked, "cpu", Path("/"), 2).budget.memory.process
    assert process["on"] - process["off"] == COMPILER_BYTES


def test_model_that_cannot_fit_is_refused(machine: dict[str, float]) -> None:
    """Too little memory even for one sequence is refused, with what to lower."""
    machine["memory"] = 100e6
    (fault,) = faults_of(QUICKSTART)
    assert "memory" in fault
    assert "--model." in fault


def test_disk_without_room_is_refused(machine: dict[str, float]) -> None:
    """Artifacts that the disk cannot hold are refused, with the folder to choose."""
    machine["disk"] = 1e6
    (fault,) = faults_of(QUICKSTART)
    assert "disk" in fault
    assert "--artifacts" in fault


@pytest.mark.parametrize("name", PRESETS)
def test_stages_share_the_budget(name: str) -> None:
    """What the stages need is what the whole run needs, but for the maps, half of the tokens."""
    config = PRESETS[name]
    disk = plan(config, "cpu", Path("/"), 2).budget.disk
    needs = {stage: stage_bytes(stage, config, 2) for stage in STAGE_NAMES}
    assert sum(needs.values()) == disk.total - disk.tokens // 2
    assert (needs["tokenizer"], needs["evaluate"]) == (0, 0)
    assert stage_bytes("pretrain", config, 3) > needs["pretrain"]


def test_corpus_that_is_there_is_measured() -> None:
    """Once the corpus was brought its own size counts, as nobody may have known it before."""
    source = SourceConfig(kind="url", train_url="https://a.test/x", valid_url="https://a.test/y")
    config = replace(QUICKSTART, source=source)
    assert stage_bytes("pretokenize", config, 2) == 0
    assert stage_bytes("pretokenize", config, 2, corpus_bytes=3_000_000) == 2_000_000


def test_unknown_memory_refuses_nothing(machine: dict[str, float]) -> None:
    """Where the system does not say how much memory is free, the whole batch is tried."""
    machine["memory"] = 0.0
    outline = plan(QUICKSTART, "cpu", Path("/"), 2)
    assert outline.faults == ()
    assert outline.budget.micro_batch == 8


def urls(train: Path, valid: Path) -> RunConfig:
    source = SourceConfig(kind="url", train_url=train.as_uri(), valid_url=valid.as_uri())
    return replace(QUICKSTART, source=source)


def test_text_shorter_than_the_context_is_refused(tmp_path: Path) -> None:
    """A text with fewer bytes than a window has tokens cannot fill one; a packed one may."""
    long, short, packed = tmp_path / "long", tmp_path / "short", tmp_path / "packed"
    long.write_text("word " * 1000)
    short.write_text("word")
    packed.write_bytes(gzip.compress(b"word " * 1000))
    assert faults_of(urls(long, long)) == ()
    (fault,) = faults_of(urls(long, short))
    assert fault.startswith("the valid text has 4 bytes")
    assert "--model.context-length" in fault
    assert packed.stat().st_size < 256
    assert faults_of(urls(long, packed)) == ()
    table = replace(urls(long, short), reading=ReadingConfig(format="parquet"))
    assert faults_of(table) == ()


def said(config: RunConfig) -> str:
    """The plan as it is shown in a terminal of 80 columns."""
    file = io.StringIO()
    rows = plan(config, "cpu", Path("/"), 2).rows(NUMERICS)
    Console(file=file, width=80, force_terminal=False).print(screen(rows, "the run: x"))
    return file.getvalue()


@pytest.mark.parametrize("name", PRESETS)
def test_plan_is_one_screen(name: str) -> None:
    """The plan of any preset fits on one screen of a small terminal."""
    lines = said(PRESETS[name]).splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)


def test_plan_says_what_a_learner_asks() -> None:
    """Parameters with and without embeddings, tokens, steps, FLOPs, memory, disk, entropy."""
    text = " ".join(said(QUICKSTART).replace("│", " ").split())
    params = count_params(replace(QUICKSTART.model, vocab_size=1024))
    for words in (
        f"{params.total:,}",
        f"{params.non_embedding:,} outside embeddings",
        "steps of 8 x 256",
        "FLOPs (3 x forward); roughly 2.1 minutes at 100GFLOP/s",
        "memory about",
        "of 16.0 GB free",
        "of 100.0 GB free",
        "bits a byte: no honest model goes below",
        "2 threads x 1 processes",
    ):
        assert words in text, words


def test_examples() -> None:
    """The examples in the docstrings give what stands under them."""
    assert doctest.testmod(preflight).failed == 0


def test_entropy_is_told_of_the_embedded_corpus_only() -> None:
    """Nobody knows the entropy of a fetched text, and none is claimed."""
    assert "entropy" not in said(PRESETS["tinystories"])


def test_memory_is_the_least_of_what_limits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit counts where it is below what the machine has; unknown is 0."""
    monkeypatch.setattr(preflight.sys, "platform", "linux")
    for system, container, expected in [
        (8e9, [2e9], 2e9),
        (1e9, [2e9], 1e9),
        (8e9, [float("inf")], 8e9),
        (float("inf"), [float("inf")], 0.0),
    ]:
        monkeypatch.setattr(preflight, "system_memory", lambda system=system: system)
        monkeypatch.setattr(preflight, "cgroup_memory", lambda container=container: container)
        assert FREE_MEMORY() == expected


def test_memory_is_read_of_this_system() -> None:
    """On Linux the figure is a plausible one; elsewhere it is unknown."""
    free = FREE_MEMORY()
    assert (10e6 < free < 1e14) if sys.platform == "linux" else free == 0.0
