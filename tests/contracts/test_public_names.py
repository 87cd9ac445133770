"""The public surface: the names of docs/reference.md, each with an example that runs."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import lmcore

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)[^`]*` \| `([\w.]+)` \| (.+) \|$", re.MULTILINE)


def documented() -> dict[str, tuple[str, str]]:
    """Name to module and contract, of the reference page's table."""
    page = (ROOT / "docs" / "reference.md").read_text()
    return {name: (module, contract) for name, module, contract in ROW.findall(page)}


def test_reference_lists_the_public_names() -> None:
    """The page and the library have the same names, in the same order, each once."""
    page = (ROOT / "docs" / "reference.md").read_text()
    assert [name for name, _, _ in ROW.findall(page)] == lmcore.__all__
    assert len(set(lmcore.__all__)) == len(lmcore.__all__)


# The table of the design, without the classes that its functions take and return.
# fmt: off
DESIGNED = [
    "train_bpe", "encode", "decode", "decode_bytes", "Tokenizer", "linear", "embedding",
    "rms_norm", "silu", "gelu", "swiglu", "feed_forward", "softmax", "cross_entropy",
    "rotary_tables", "apply_rotary_emb", "scaled_dot_product_attention", "flash_attention",
    "multi_head_attention", "transformer_block", "init_params", "forward", "adamw_init",
    "adamw_step", "cosine_schedule", "clip_by_global_norm", "train_step", "perplexity",
    "bits_per_byte", "generate",
]
# fmt: on


def test_designed_names_are_there() -> None:
    """No name of the design is missing."""
    assert set(DESIGNED) - set(lmcore.__all__) == set()


@pytest.mark.parametrize("name", lmcore.__all__)
def test_name_is_where_the_page_says(name: str) -> None:
    """The name is importable from the library, is defined where the page says, and is explained."""
    module, contract = documented()[name]
    found = getattr(lmcore, name)
    assert found is getattr(importlib.import_module(module), name)
    assert found.__module__ == module
    assert len(contract) > 20


@pytest.mark.parametrize("name", lmcore.__all__)
def test_docstring_has_an_example_that_runs(name: str) -> None:
    """The name's own docstring shows how it is used, and what it shows is so."""
    found = getattr(lmcore, name)
    globs = dict(vars(importlib.import_module(found.__module__)))
    text = inspect.getdoc(found) or ""
    test = doctest.DocTestParser().get_doctest(text, globs, name, None, 0)
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    shown: list[str] = []
    runner.run(test, out=shown.append)
    assert runner.failures == 0, "".join(shown)


@pytest.mark.parametrize("name", lmcore.__all__)
def test_functions_explain_every_argument(name: str) -> None:
    """A public function's docstring names each of its arguments in a section of its own."""
    found = getattr(lmcore, name)
    if inspect.isclass(found):
        return
    text = inspect.getdoc(found) or ""
    described = text.partition("Args:\n")[2]
    names = list(inspect.signature(found).parameters)
    assert [name for name in names if not re.search(rf"\b{name}\b", described)] == []


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist fails as in any module, and names itself."""
    with pytest.raises(AttributeError, match="tokeniser"):
        lmcore.tokeniser  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    """Completion in a shell sees the names before they are loaded."""
    assert set(dir(lmcore)) == set(lmcore.__all__)


def test_type_checkers_see_the_names_that_are_loaded_on_first_use() -> None:
    """The block under TYPE_CHECKING imports every name from where it is loaded, and no other."""
    tree = ast.parse(Path(lmcore.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    spelt_out = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    assert spelt_out == {name: module for name, (module, _) in documented().items()}
