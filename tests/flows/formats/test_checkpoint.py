"""Checkpoints: whole or absent, checked when loaded, the same state the same bytes."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings, strategies as st

from flows.formats.checkpoint import (
    best_first,
    discard_after,
    list_records,
    load,
    load_latest,
    prune,
    save,
    step_folders,
)
from flows.formats.tensor_digest import tensors_digest
from lmcore.errors import InputError


def state(seed=0):
    """A small state with the dtypes that a training state has."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "params.w": torch.randn(3, 5, generator=generator),
        "params.h": torch.randn(4, generator=generator).bfloat16(),
        "optimizer.step": torch.tensor(7),
        "empty": torch.zeros(0, 2),
        "flag": torch.tensor(True),
    }


def names(folder):
    """The checkpoints' names in a folder; nothing else may lie there."""
    return sorted(os.listdir(folder))


def refuse(message):
    """A callback that must not be called."""
    raise AssertionError(message)


def test_round_trip(tmp_path):
    """Tensors come back bit for bit with their dtypes, the JSON values to the last bit."""
    meta = {"tokens": 2**53 + 1, "loss": 0.1 + 0.2, "names": ["a", None, True], "deep": {"x": 1e-9}}
    record = save(tmp_path, 42, state(), meta, score=1.25)
    loaded = load(record.path)
    assert loaded.record == record
    assert (record.step, record.meta, record.score) == (42, meta, 1.25)
    assert tensors_digest(loaded.tensors) == tensors_digest(state())


def test_the_same_state_gives_the_same_bytes(tmp_path):
    """Two processes that save one state write the same files, whatever the order of names."""
    first = save(tmp_path / "one", 3, state(), {"b": 1, "a": 2}).path
    code = (
        "from pathlib import Path; import torch; from flows.formats.checkpoint import save\n"
        "g = torch.Generator().manual_seed(0)\n"
        "s = {'params.w': torch.randn(3, 5, generator=g),"
        " 'params.h': torch.randn(4, generator=g).bfloat16()}\n"
        "s = {'flag': torch.tensor(True), 'empty': torch.zeros(0, 2),"
        " 'optimizer.step': torch.tensor(7)} | s\n"
        f"save(Path({str(tmp_path / 'two')!r}), 3, s, {{'a': 2, 'b': 1}})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    second = tmp_path / "two" / first.name
    for file in ("tensors.safetensors", "manifest.json"):
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_tied_and_strided_tensors_are_written_out(tmp_path):
    """Tensors that share memory, or are windows on it, are stored as the numbers they show."""
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"embedding": whole, "head": whole, "row": whole[1], "turned": whole.T}
    loaded = load(save(tmp_path, 0, tensors, {}).path).tensors
    assert tensors_digest(loaded) == tensors_digest(tensors)


def test_saving_again_replaces(tmp_path):
    """A second checkpoint of the same step replaces the first, whole."""
    save(tmp_path, 5, state(0), {"try": 1})
    record = save(tmp_path, 5, state(1), {"try": 2})
    assert record.meta == {"try": 2}
    assert tensors_digest(load(record.path).tensors) == tensors_digest(state(1))
    assert names(tmp_path) == ["step-000000005"]


def test_the_latest_is_by_number(tmp_path):
    """The latest checkpoint is that of the greatest step, even when it has a digit more."""
    for step in (999_999_999, 1_000_000_000, 5):
        save(tmp_path, step, state(), {})
    assert load_latest(tmp_path, refuse).record.step == 1_000_000_000


def test_nothing_to_load(tmp_path):
    """No folder, or one without checkpoints, gives None and no complaint."""
    assert load_latest(tmp_path / "absent", refuse) is None
    (tmp_path / "notes").mkdir()
    assert load_latest(tmp_path, refuse) is None


def flip(path, at=-1):
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a changed number": lambda path: flip(path / "tensors.safetensors"),
    "a changed header": lambda path: flip(path / "tensors.safetensors", 0),
    "a lost end": lambda path: os.truncate(path / "tensors.safetensors", 20),
    "no tensors": lambda path: (path / "tensors.safetensors").unlink(),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "an empty manifest": lambda path: (path / "manifest.json").write_text(""),
    "half a manifest": lambda path: os.truncate(path / "manifest.json", 30),
    "another's manifest": lambda path: (path / "manifest.json").write_text("{}"),
    "a manifest of no object": lambda path: (path / "manifest.json").write_text("[1]"),
    "binary in the manifest": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_loading_falls_back_loudly(tmp_path, damage):
    """Whatever happened to the last checkpoint, it is named, and the one before is loaded."""
    save(tmp_path, 1, state(1), {})
    save(tmp_path, 2, state(2), {})
    damage(tmp_path / "step-000000002")
    said = []
    loaded = load_latest(tmp_path, said.append)
    assert loaded.record.step == 1
    assert tensors_digest(loaded.tensors) == tensors_digest(state(1))
    assert len(said) == 1
    assert "step-000000002" in said[0]
    assert "an older one is tried" in said[0]


def test_a_renamed_checkpoint_is_not_another_step(tmp_path):
    """A folder that bears another step's name is refused."""
    save(tmp_path, 1, state(), {}).path.rename(tmp_path / "step-000000009")
    with pytest.raises(InputError, match="of another format or step"):
        load(tmp_path / "step-000000009")


def test_a_killed_save_leaves_the_last_one(tmp_path):
    """A process killed while it saves leaves the checkpoint before it, and no half of its own."""
    save(tmp_path, 1, state(1), {})
    code = (
        "import os; from pathlib import Path; import torch; import flows.formats.checkpoint as c\n"
        "c.file_sha256 = lambda path: os.kill(os.getpid(), 9)\n"
        f"c.save(Path({str(tmp_path)!r}), 2, {{'w': torch.ones(1000)}}, {{}})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [path.name for path in step_folders(tmp_path)] == ["step-000000001"]
    assert load_latest(tmp_path, refuse).record.step == 1
    (leftover,) = tmp_path.glob(".tmp-*")
    os.utime(leftover, (0, 0))
    save(tmp_path, 2, state(2), {})
    assert names(tmp_path) == ["step-000000001", "step-000000002"]


def test_a_pickle_is_never_run(tmp_path):
    """A pickle under the tensors' name is an InputError, its code is not run."""
    record = save(tmp_path, 1, state(), {})
    trap = b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR."
    (record.path / "tensors.safetensors").write_bytes(trap)
    facts = json.loads((record.path / "manifest.json").read_text())
    facts |= {"bytes": len(trap), "sha256": hashlib.sha256(trap).hexdigest()}
    (record.path / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="cannot be read"):
        load(record.path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("meta", [{"loss": float("nan")}, {"x": float("inf")}, {"t": object()}])
def test_what_json_cannot_hold_is_refused_before_work(tmp_path, meta):
    """Values that would not come back are refused, and nothing is written."""
    with pytest.raises((ValueError, TypeError)):
        save(tmp_path, 1, state(), meta)
    assert names(tmp_path) == []


def test_a_score_that_is_no_number_counts_as_none(tmp_path):
    """A validation loss of NaN does not stop a checkpoint, and is never the best."""
    save(tmp_path, 1, state(), {}, score=float("nan"))
    save(tmp_path, 2, state(), {}, score=9.0)
    assert [record.step for record in best_first(list_records(tmp_path))] == [2]


@settings(deadline=None, max_examples=40)
@given(
    scores=st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=7),
    keep_last=st.integers(1, 4),
    keep_best=st.integers(0, 3),
)
def test_pruning_keeps_the_last_and_the_best(tmp_path_factory, scores, keep_last, keep_best):
    """What stays is the union of the last k and the best, ties to the earlier step."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step, score in enumerate(scores):
        path = folder / f"step-{step:09d}"
        path.mkdir()
        facts = {"format": 1, "step": step, "meta": {}, "score": score, "bytes": 0, "sha256": ""}
        (path / "manifest.json").write_text(json.dumps(facts))
    scored = [(score, step) for step, score in enumerate(scores) if score is not None]
    best = {step for _, step in sorted(scored)[:keep_best]}
    kept = best | set(range(len(scores))[-keep_last:])
    assert prune(folder, keep_last, keep_best) == sorted(set(range(len(scores))) - kept)
    assert [record.step for record in list_records(folder)] == sorted(kept)


def test_pruning_never_takes_the_last_sound_one(tmp_path):
    """Damaged manifests do not count among the last k; older ones of them are cleared away."""
    for step in (1, 2, 3):
        save(tmp_path, step, {}, {})
    for step in (1, 3):
        (tmp_path / f"step-00000000{step}" / "manifest.json").write_text("")
    assert prune(tmp_path, keep_last=1, keep_best=0) == [1]
    assert names(tmp_path) == ["step-000000002", "step-000000003"]


def test_pruning_spares_the_steps_that_are_named(tmp_path):
    """A step that must stay does, beside the last ones."""
    for step in (1, 2, 3, 4):
        save(tmp_path, step, {}, {})
    assert prune(tmp_path, keep_last=1, keep_best=0, keep_steps=[2, 9]) == [1, 3]
    assert names(tmp_path) == ["step-000000002", "step-000000004"]


def test_later_checkpoints_are_discarded(tmp_path):
    """What lies beyond a step goes, sound or not; the step itself stays."""
    for step in (1, 2, 3, 12):
        save(tmp_path, step, {}, {})
    (tmp_path / "step-000000003" / "manifest.json").write_text("")
    assert discard_after(tmp_path, 2) == [3, 12]
    assert discard_after(tmp_path / "none", 0) == []
    assert names(tmp_path) == ["step-000000001", "step-000000002"]


def test_pruning_needs_something_to_keep(tmp_path):
    """Keeping no last checkpoint at all is refused."""
    with pytest.raises(ValueError, match="keep_last is 0"):
        prune(tmp_path, 0, 1)


def test_the_module_does_not_import_torch():
    """Who only lists checkpoints does not pay for importing torch."""
    code = "import sys, flows.formats.checkpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
