"""A run as a value: composed of frozen slices, with a sentence under every field."""

import ast
import inspect
import textwrap
from dataclasses import fields, is_dataclass, replace

import pytest

from flows.config import Execution, RunConfig, faults, is_plain_name, refuse
from lmcore.errors import InputError

SLICES = [type(getattr(RunConfig(), field.name)) for field in fields(RunConfig)] + [Execution]


@pytest.mark.parametrize("kind", SLICES, ids=lambda kind: kind.__name__)
def test_slice_is_a_frozen_value(kind: type) -> None:
    """A slice cannot be changed, and equal fields make equal slices."""
    assert is_dataclass(kind)
    value = kind()
    with pytest.raises(AttributeError):
        setattr(value, fields(kind)[0].name, None)
    assert value == kind()
    assert hash(value) == hash(kind())


@pytest.mark.parametrize("kind", SLICES, ids=lambda kind: kind.__name__)
def test_every_field_has_its_sentence(kind: type) -> None:
    """Under each field stands the sentence that becomes its help."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    body = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    for this, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(this, ast.AnnAssign):
            assert isinstance(following, ast.Expr), ast.unparse(this)
            assert isinstance(following.value, ast.Constant)
            assert str(following.value.value).endswith(".")


@pytest.mark.parametrize("name", ["a", "run-1", "A_b.c", "0", "x" * 100])
def test_plain_names_are_allowed(name: str) -> None:
    """Letters, digits, dots, dashes and underscores make a folder's name."""
    assert is_plain_name(name)
    assert faults(Execution(name=name)) == []


@pytest.mark.parametrize(
    "name",
    ["..", ".", ".hidden", "../up", "a/b", "/etc", "-x", "a b", "é", "a\n", "x" * 101, "a\\b"],
)
def test_paths_are_no_names(name: str) -> None:
    """A name that tries to be a path, or that a shell would take apart, is refused."""
    assert not is_plain_name(name)
    assert faults(Execution(name=name))[0].startswith("--name is ")


def test_faults_name_their_flags() -> None:
    """Every number out of range is told with its flag, all at once."""
    bad = Execution(workers=-1, log_every=0, checkpoint_every=0, keep_checkpoints=0)
    flags = ["--workers", "--log-every", "--checkpoint-every", "--keep-checkpoints"]
    assert [fault.split(" is ")[0] for fault in faults(bad)] == flags
    assert faults(Execution()) == []


def test_refuse_lists_all_faults() -> None:
    """No fault passes, one is its own message, several are listed."""
    refuse([])
    with pytest.raises(InputError, match=r"^only one$"):
        refuse(["only one"])
    with pytest.raises(InputError, match="- one\n- two"):
        refuse(["one", "two"])


def test_runners_of_prefect_need_prefect() -> None:
    """A runner that only Prefect has is refused without it."""
    for runner in ("dask", "ray"):
        asked = replace(Execution(), engine="none", runner=runner)
        (fault,) = faults(asked)
        assert f"--runner {runner}" in fault
        assert "--engine prefect" in fault
