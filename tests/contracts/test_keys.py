"""Keys are complete and no wider than they must be: a field changes the keys of the stages that
mean it, an edit rebuilds the stages that reach it, and nothing else changes a key.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from flows.catalog import STAGES
from flows.config import Execution, RunConfig
from flows.store.key import make_key
from flows.store.record import Artifact

ROOT = Path(__file__).parents[2]
ALL = tuple(STAGES)

# Which stages a slice of the config is given to, and the fields that differ from their slice.
MEANT_BY: dict[str, set[str]] = {
    "source": {"download"},
    "reading": {"tokenizer", "pretokenize"},
    "tokenizer": {"tokenizer"},
    "pretokenize": {"pretokenize"},
    "model": {"pretrain", "evaluate"},
    "training": {"pretrain"},
    "evaluation": {"evaluate"},
    "numerics": set(),
}
EXCEPT: dict[tuple[str, str], set[str]] = {
    ("source", "kind"): {"download", "evaluate"},  # the embedded corpus has a known entropy
    ("training", "precision"): {"pretrain", "evaluate"},  # measured in the same arithmetic
}
# The stages that take a stage's artifact, and so its content digest, directly.
TAKEN_BY = {
    "download": {"tokenizer", "pretokenize", "evaluate"},
    "tokenizer": {"pretokenize", "pretrain", "evaluate"},
    "pretokenize": {"pretrain", "evaluate"},
    "pretrain": {"evaluate"},
    "evaluate": set(),
}
FIELDS = [(slice_.name, field.name) for slice_ in fields(RunConfig) for field in
          fields(type(getattr(RunConfig(), slice_.name)))]  # fmt: skip


def artifact(stage: str, digit: str = "0") -> Artifact:
    """An artifact with nothing but a digest and the facts that requests read."""
    return Artifact(stage, "k" * 64, Path(), digit * 64, {"facts": {"vocab_size": 300}})


UPSTREAM = {stage: artifact(stage) for stage in ALL}


def keys(config: RunConfig, upstream: Mapping[str, Artifact] = UPSTREAM) -> dict[str, str]:
    """The key of every stage, given artifacts with the same digests."""
    return {
        name: make_key(stage.request(config, upstream)).digest for name, stage in STAGES.items()
    }


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """The stages whose keys differ."""
    return {stage for stage in ALL if before[stage] != after[stage]}


def another(hint: Any, value: Any) -> Any:
    """A value of the same type that is not ``value``."""
    if get_origin(hint) is Literal:
        return next(choice for choice in get_args(hint) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1000
    if isinstance(value, float):
        return value / 2 + 1e-9
    if isinstance(value, tuple):
        return (*value, "<more>")
    assert isinstance(value, str)
    return value + "x"


@pytest.fixture(scope="module")
def default_keys() -> dict[str, str]:
    return keys(RunConfig())


@pytest.mark.parametrize(("slice_name", "field_name"), FIELDS)
def test_field_changes_the_keys_that_mean_it(
    default_keys: dict[str, str], slice_name: str, field_name: str
) -> None:
    """Changing one field changes the keys of exactly the stages that mean it, and no other."""
    part = getattr(RunConfig(), slice_name)
    hint = get_type_hints(type(part))[field_name]
    other = replace(part, **{field_name: another(hint, getattr(part, field_name))})
    meant = EXCEPT.get((slice_name, field_name), MEANT_BY[slice_name])
    assert changed(default_keys, keys(replace(RunConfig(), **{slice_name: other}))) == meant


def test_table_knows_every_slice() -> None:
    """A new slice of the config must be placed in the table above."""
    assert set(MEANT_BY) == {field.name for field in fields(RunConfig)}
    assert len(FIELDS) > 50


def test_execution_is_in_no_request() -> None:
    """How a run is carried out cannot reach a key: a request is made of the config alone."""
    names = {field.name for field in fields(Execution)}
    for stage in STAGES.values():
        settings = json.dumps(make_key(stage.request(RunConfig(), UPSTREAM)).settings)
        found = {name for name in names if f'"{name}"' in settings}
        assert found == set()


@pytest.mark.parametrize("stage", ALL)
def test_digest_reaches_the_stages_that_take_it(default_keys: dict[str, str], stage: str) -> None:
    """Another artifact upstream changes the keys of the stages that take it directly."""
    assert (
        changed(default_keys, keys(RunConfig(), UPSTREAM | {stage: artifact(stage, "1")}))
        == (TAKEN_BY[stage])
    )
    assert {name for name, one in STAGES.items() if stage in one.inputs} == TAKEN_BY[stage]


def test_vocabulary_of_the_tokenizer_is_the_models(default_keys: dict[str, str]) -> None:
    """The model's own vocabulary, when it is left open, is the one that the tokenizer came to."""
    facts = {"facts": {"vocab_size": 301}}
    larger = UPSTREAM | {"tokenizer": replace(UPSTREAM["tokenizer"], record=facts)}
    assert changed(default_keys, keys(RunConfig(), larger)) == {"pretrain", "evaluate"}
    said = replace(RunConfig(), model=replace(RunConfig().model, vocab_size=300))
    assert keys(said) == default_keys


def test_local_file_is_an_input(tmp_path: Path) -> None:
    """An edit of a local text is seen: its bytes are in the key, beside its URL."""
    text = tmp_path / "a b.txt"
    text.write_text("one")
    source = replace(
        RunConfig().source, kind="url", train_url=text.as_uri(), valid_url=text.as_uri()
    )
    config = replace(RunConfig(), source=source)
    before = keys(config)
    text.write_text("two")
    assert changed(before, keys(config)) == {"download"}


# --- code: the packages are copied, edited there, and their keys computed in another process -----

EDITS: dict[str, set[str]] = {
    "lmcore/optimizer/adamw.py": {"pretrain"},
    "lmcore/optimizer/muon.py": {"pretrain"},
    "lmcore/data/permutation.py": {"pretrain"},
    "lmcore/training/step.py": {"pretrain"},
    "lmcore/model/transformer.py": {"pretrain", "evaluate"},
    "lmcore/model/block.py": {"pretrain", "evaluate"},
    "lmcore/tokenizer/fast_training.py": {"tokenizer"},
    "lmcore/tokenizer/pair_batches.py": {"tokenizer"},
    "lmcore/tokenizer/fast_encoding.py": {"tokenizer", "pretokenize", "evaluate"},
    "lmcore/synthetic/stories.py": {"download", "evaluate"},  # evaluate knows the entropy
    "lmcore/generation/sampling.py": {"evaluate"},
    "lmcore/evaluation/reference.py": {"evaluate"},
    "lmcore/evaluation/bands.py": {"evaluate"},
    "lmcore/planning/budget.py": set(),
    "lmcore/planning/memory.py": set(),
    "lmcore/errors.py": set(ALL),
    "lmcore/__init__.py": set(ALL),
    "flows/stages/download.py": {"download"},
    "flows/stages/pretokenize.py": {"pretokenize"},
    "flows/stages/evaluate.py": {"evaluate"},
    "flows/corpora/jsonl.py": {"tokenizer", "pretokenize"},
    "flows/corpora/http_download.py": {"download"},
    "flows/formats/token_parquet.py": {"pretokenize", "pretrain", "evaluate"},
    "flows/formats/checkpoint.py": {"pretrain"},
    "flows/disk/errors.py": set(ALL),
    "flows/trainer/loop.py": {"pretrain"},
    "flows/trainer/scoring.py": {"evaluate"},
    "flows/trainer/lifeline.py": {"pretrain", "evaluate"},
    "flows/report/charts.py": set(),
    "flows/report/page.py": set(),
    "flows/progress/terminal.py": set(),
    "flows/store/publish.py": set(),
    "flows/store/key.py": set(),
    "flows/conductor/pages.py": set(),
    "flows/engine.py": set(),
    "flows/pipeline.py": set(),
    "flows/run.py": set(),
    "flows/presets.py": set(),
    "flows/preflight.py": set(),
    "flows/apps/show.py": set(),
}

KEYS = """
import json, sys
from pathlib import Path
from tests.contracts.test_keys import ALL, RunConfig, keys
import flows.catalog, lmcore

root = Path(sys.argv[1])
assert Path(flows.catalog.__file__).is_relative_to(root), flows.catalog.__file__
assert Path(lmcore.__file__).is_relative_to(root), lmcore.__file__
found = {"": keys(RunConfig())}
for name, (path, text) in json.load(sys.stdin).items():
    file = root / path
    before = file.read_text()
    file.write_text(text)
    found[name] = keys(RunConfig())
    file.write_text(before)
print(json.dumps(found))
"""


def keys_after(
    folder: Path, edits: Mapping[str, tuple[str, str]], **environment: str
) -> dict[str, dict[str, str]]:
    """All keys of a copy of the code in ``folder``, as it is ("") and after each edit."""
    for package in ("lmcore", "flows"):
        if not (folder / package).exists():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    (folder / "tests" / "contracts").mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, folder / "tests" / "contracts")
    done = subprocess.run(
        [sys.executable, "-c", KEYS, str(folder)],
        cwd=folder,
        input=json.dumps(edits),
        env=os.environ | {"PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def edited(path: str) -> tuple[str, str]:
    """The module with one more statement at its end."""
    return path, (ROOT / path).read_text() + "\n_ONE_MORE = 1\n"


def commented(path: str) -> tuple[str, str]:
    """The module with another docstring, a comment at both ends, and other spacing."""
    text = (ROOT / path).read_text()
    assert text.startswith(('"""', 'r"""'))
    other = text.replace('"""', '"""Another sentence. ', 1).replace("\n\n\n", "\n\n# Why.\n\n\n")
    return path, other + "\n\n# The end.\n"


def test_edit_rebuilds_the_stages_that_reach_it(tmp_path: Path) -> None:
    """One more statement in a module changes the keys of exactly the stages that reach it."""
    found = keys_after(tmp_path, {path: edited(path) for path in EDITS})
    assert {path: changed(found[""], found[path]) for path in EDITS} == EDITS


def test_choice_of_weights_is_in_the_key(tmp_path: Path) -> None:
    """Wherever last or best weights are chosen between, an edit of the choice evaluates anew."""
    texts = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "flows").rglob("*.py")}
    edits = {path: (path, text.replace('== "best"', '!= "best"')) for path, text in texts.items()
             if '== "best"' in text}  # fmt: skip
    found = keys_after(tmp_path, edits)
    assert {path: changed(found[""], found[path]) for path in edits} == {
        "flows/stages/evaluate.py": {"evaluate"}
    }


def test_comment_rebuilds_nothing(tmp_path: Path) -> None:
    """Comments, docstrings and blank lines change no key, in any module."""
    paths = [str(p.relative_to(ROOT)) for root in ("lmcore", "flows")
             for p in sorted((ROOT / root).rglob("*.py"))]  # fmt: skip
    found = keys_after(tmp_path, {path: commented(path) for path in paths})
    assert len(found) == len(paths) + 1 > 90
    assert [path for path in paths if changed(found[""], found[path])] == []


def test_keys_are_the_same_in_every_process(tmp_path: Path, default_keys: dict[str, str]) -> None:
    """The order of sets and dicts, and where the code lies, leave the keys as they are."""
    for seed in ("0", "1"):
        found = keys_after(tmp_path, {}, PYTHONHASHSEED=seed)
        assert found[""] == default_keys


def test_torch_version_is_in_the_keys_that_depend_on_it() -> None:
    """Training and evaluation are keyed by the release of torch, and no other stage is."""
    made = {name: make_key(one.request(RunConfig(), UPSTREAM)) for name, one in STAGES.items()}
    versions = {name: set(key.versions) for name, key in made.items()}
    assert versions == {name: set() for name in ALL} | {
        "pretrain": {"torch"},
        "evaluate": {"torch"},
    }
