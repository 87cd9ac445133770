"""lmcore touches nothing outside: no file, process, socket, output, clock, environment or global
random state. What import-linter cannot see is tried here, by an audit hook in another process.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "lmcore").rglob("*.py"))

WATCH = '''
import os, sys
import numpy as np
import torch
from tests.contracts.pure_calls import BELOW, CALLS, PUBLIC

SABOTAGE = sys.argv[1:]
watching = False
seen = []
FORBIDDEN = ("open", "socket.", "subprocess.", "os.", "shutil.", "tempfile.", "exec", "time.sleep")


def hook(event, arguments):
    if watching and event.startswith(FORBIDDEN):
        seen.append(f"{event} {arguments!r:.200}")


class Closed:
    """An output that may not be written to."""

    def write(self, text):
        seen.append(f"printed {text!r:.200}")

    def flush(self):
        pass


def outside():
    """All that a call could change behind our back."""
    return (
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()),
        repr(__import__("random").getstate()),
        dict(os.environ),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        np.geterr(),
        os.getcwd(),
    )


EVIL = {
    "file": lambda: open(__file__ if "__file__" in globals() else os.devnull),
    "print": lambda: print("psst"),
    "torch": lambda: torch.rand(1),
    "numpy": lambda: np.random.rand(1),
    "environment": lambda: os.environ.__setitem__("LMCORE_EVIL", "1"),
    "process": lambda: os.system("true"),
}
calls = {name: EVIL[name] for name in SABOTAGE} or CALLS
sys.addaudithook(hook)
if not SABOTAGE:
    for call in calls.values():  # what is imported and looked up once, is so before we watch
        call()
faults = []
for name, call in calls.items():
    before, seen[:] = outside(), []
    shown = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = Closed()
    watching = True
    try:
        call()
    finally:
        watching = False
        sys.stdout, sys.stderr = shown
    faults += [f"{name}: {fault}" for fault in seen]
    if outside() != before:
        faults.append(f"{name}: changed what lies outside of it")
print("\\n".join(faults))
print("calls", len(calls))
'''


def watched(*sabotage: str) -> list[str]:
    """The lines that the watching process prints: faults, then how many calls it made."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *sabotage],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_calls_touch_nothing_outside() -> None:
    """No public function opens, sends, starts or prints anything, or changes global state."""
    from tests.contracts.pure_calls import CALLS

    assert watched() == ["", f"calls {len(CALLS)}"]


def test_watch_sees_each_kind_of_effect() -> None:
    """The watch goes red for every function that has an effect, each of another kind."""
    kinds = ["file", "print", "torch", "numpy", "environment", "process"]
    *faults, n_calls = watched(*kinds)
    assert n_calls == f"calls {len(kinds)}"
    assert {fault.partition(":")[0] for fault in faults} == set(kinds)


def test_every_public_name_is_watched() -> None:
    """A new public name comes with a call of its own."""
    import lmcore
    from tests.contracts.pure_calls import PUBLIC

    assert list(PUBLIC) == lmcore.__all__


def test_tokenizer_and_corpus_do_not_load_torch() -> None:
    """A program that only tokenizes never pays for importing torch."""
    code = (
        "import sys, lmcore; from lmcore import train_bpe, encode, decode, Tokenizer, InputError;"
        "vocab, merges = train_bpe(['low lower'], vocab_size=260);"
        "Tokenizer(vocab, merges).encode_batch(['low']);"
        "from lmcore.synthetic.stories import story; story(0, 0);"
        "import lmcore.data.batch;"
        "print([m for m in ('torch', 'flows', 'pyarrow', 'prefect') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def called_name(node: ast.Call) -> str:
    """The dotted name that is called, as it is written."""
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_reaches_outside(path: Path) -> None:
    """No module names a built-in or a generator by which it could leave its arguments."""
    banned = {"print", "open", "input", "exec", "eval", "breakpoint", "globals", "__import__"}
    seeds = {"torch.manual_seed", "torch.seed", "torch.set_num_threads", "torch.set_rng_state"}
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = called_name(node)
            assert name not in banned | seeds, f"line {node.lineno} calls {name}"
            assert not name.startswith(("np.random.", "torch.random.")) or name in (
                "np.random.Generator",
                "np.random.Philox",
            ), f"line {node.lineno} calls {name}"
        assert not isinstance(node, ast.Global), f"line {node.lineno}: a global statement"
