"""One changed bit anywhere in what was made: found, put aside, made again, and said."""

import json

import pytest

from tests.faults.conftest import record_of
from tests.faults.damage import contents, flip

FILES = {
    "download": ["train", "valid"],
    "tokenizer": ["tokenizer.json"],
    "pretokenize": ["train-00000.parquet", "valid-00000.parquet"],
    "pretrain": [
        *("model.safetensors", "model.json", "metrics.jsonl", "numerics.json", "result.json"),
    ],
    "evaluate": ["evaluation.json", "samples.json"],
}
FIRST = [(stage, names[0]) for stage, names in FILES.items()] + [("pretrain", "record.json")]
EVERY_FILE = [(stage, name) for stage, names in FILES.items() for name in [*names, "record.json"]]
# One file a stage by default, the others where time is no object.
FILE_BY_FILE = [
    pytest.param(*file, marks=[] if file in FIRST else pytest.mark.slow) for file in EVERY_FILE
]
AFTER = {stage: list(FILES)[n + 1 :] for n, stage in enumerate(FILES)}


def test_every_file_of_every_stage_is_in_the_list(artifacts):
    """The tests below would not notice a file that they do not know."""
    made = {
        path.parent.parent.name: sorted(file.name for file in path.parent.iterdir())
        for path in artifacts.glob("store/*/*/record.json")
    }
    assert made == {stage: sorted([*names, "record.json"]) for stage, names in FILES.items()}


@pytest.mark.parametrize(("stage", "name"), FILE_BY_FILE)
def test_a_changed_bit_is_found_put_aside_and_made_again(stage, name, small, artifacts):
    """The rebuilt artifact is the one that was lost, and later stages are reused as they are."""
    before, untouched = record_of(artifacts, stage), contents(artifacts)
    (damaged,) = (artifacts / "store" / stage).iterdir()
    flip(damaged / name)

    ended = small(artifacts)

    assert ended.status == 0, ended
    assert f"! {stage}" in ended.out
    assert "building it again" in ended.out
    after = record_of(artifacts, stage)
    assert (after["digest"], after["key"]) == (before["digest"], before["key"])
    assert same_outputs(before, after) > 0
    (aside,) = (artifacts / "quarantine").iterdir()
    assert str(aside) in ended.out
    assert (aside / name).exists()
    for later in AFTER[stage]:
        assert f"✓ {later:<12} " in ended.out
    assert ended.out.count(" verified\n") == len(FILES) - 1
    others = {
        k: v for k, v in untouched.items() if k.startswith("store/") and damaged.name not in k
    }
    assert others.items() <= contents(artifacts).items()
    assert small(artifacts).out.count(" verified\n") == len(FILES)


def same_outputs(before: dict, after: dict) -> int:
    """How many files are equal; those that hold no times must be."""
    timed = {"metrics.jsonl", "result.json"}
    old, new = before["outputs"], after["outputs"]
    assert old.keys() == new.keys()
    equal = {name for name in old if old[name] == new[name]}
    assert old.keys() - equal <= timed
    return len(equal)


@pytest.mark.parametrize("where", [0.0, 1.0])
def test_the_first_and_the_last_bit_count(where, small, artifacts):
    """Of the weights: a file whose header or whose end changed."""
    (damaged,) = artifacts.glob("store/pretrain/*")
    flip(damaged / "model.safetensors", where)
    ended = small(artifacts)
    assert ended.status == 0, ended
    assert "model.safetensors changed" in ended.out


def test_a_missing_and_an_extra_file_are_damage_too(small, artifacts):
    """An artifact is exactly what its record says."""
    (tokenizer,) = artifacts.glob("store/tokenizer/*")
    (evaluated,) = artifacts.glob("store/evaluate/*")
    for folder in (tokenizer, evaluated):
        folder.chmod(0o755)
    (tokenizer / "tokenizer.json").unlink()
    (evaluated / "extra.txt").write_text("")
    ended = small(artifacts)
    assert ended.status == 0, ended
    assert "tokenizer.json is missing" in ended.out
    assert "extra.txt is extra" in ended.out


def test_every_stage_damaged_at_once_is_mended_in_one_run(small, artifacts):
    """Five quarantines, five builds, the same digests."""
    before = {stage: record_of(artifacts, stage)["digest"] for stage in FILES}
    for stage, names in FILES.items():
        flip(next(artifacts.glob(f"store/{stage}/*")) / names[0])
    ended = small(artifacts)
    assert ended.status == 0, ended
    assert ended.out.count("building it again") == len(FILES)
    assert {stage: record_of(artifacts, stage)["digest"] for stage in FILES} == before


@pytest.mark.parametrize("name", ["tokens.bin", "document_offsets.npy"])
def test_a_changed_bit_in_a_token_map_is_found_before_training(name, small, artifacts):
    """The map is a cache: it is decoded again from the shards, and said so."""
    wanted = record_of(artifacts, "pretrain")["digest"]
    for folder in (artifacts / "maps").iterdir():
        flip(folder / name)
    flip(next(artifacts.glob("store/pretrain/*")) / "model.safetensors")
    ended = small(artifacts)
    assert ended.status == 0, ended
    assert ended.out.count("the token map is rebuilt") == 2
    assert record_of(artifacts, "pretrain")["digest"] == wanted


@pytest.mark.parametrize("text", ["", "[]", '{"preset": 3}'])
def test_a_damaged_description_of_a_run_is_written_again(text, small, lmcore, artifacts):
    """run.json is made of the settings at each run; without it the run is not listed."""
    path = artifacts / "runs" / "small" / "run.json"
    path.write_text(text)
    assert lmcore("show", "--artifacts", artifacts).status == 0
    assert lmcore("verify", "--artifacts", artifacts).status == 0
    assert small(artifacts).status == 0
    assert json.loads(path.read_text())["name"] == "small"


def test_verify_names_each_damaged_file_and_changes_nothing(lmcore, artifacts):
    """`lmcore verify` exits 1, and leaves the mending to the next run."""
    flip(next(artifacts.glob("store/pretrain/*")) / "model.safetensors")
    flip(next(artifacts.glob("store/download/*")) / "train")
    before = contents(artifacts)
    ended = lmcore("verify", "--artifacts", artifacts)
    assert ended.status == 1
    assert "model.safetensors changed" in ended.out
    assert "train changed" in ended.out
    assert "5 artifacts, 2 damaged: the next run rebuilds them" in ended.out
    assert contents(artifacts) == before
