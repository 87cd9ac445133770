"""why: exactly what changed, and nothing else."""

import pytest

from flows.store.explain import Difference, differences, render, why
from flows.store.key import Request, make_key
from flows.store.publish import produce
from tests.flows.store.builds import overwrite, writing

BASE = {"lr": 0.1, "model": {"d_model": 128, "shape": (1, 2)}, "name": "a"}


def made(root, settings=BASE, stage="demo", **more):
    request = Request(stage, settings, **more)
    return request, produce(root, request, writing({"a": "1"}))


def test_a_hit_is_a_hit(root):
    """What is there and verifies is a hit, made when the record says."""
    request, artifact = made(root)
    explanation = why(root, request)
    assert (explanation.hit, explanation.nearest, explanation.differences) == (True, artifact, ())
    finished = artifact.record["finished"]
    assert render(explanation) == [f"demo: hit, {artifact.key[:16]} verified, made {finished}"]


def test_a_stage_that_never_ran_says_so(root):
    """Without any artifact of the stage there is nothing to compare with."""
    made(root, stage="other")
    explanation = why(root, Request("demo", BASE))
    assert (explanation.hit, explanation.nearest) == (False, None)
    assert render(explanation) == ["demo: miss, nothing was ever made by this stage"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({**BASE, "lr": 0.2}, [("lr", 0.1, 0.2)]),
        ({**BASE, "lr": 1}, [("lr", 0.1, 1)]),
        ({**BASE, "model": {"d_model": 64, "shape": (1, 2)}}, [("model.d_model", 128, 64)]),
        ({**BASE, "model": {"d_model": 128, "shape": (1,)}}, [("model.shape", [1, 2], [1])]),
        ({**BASE, "new": None}, [("new", None, None)]),
        ({"lr": 0.1, "model": BASE["model"]}, [("name", "a", None)]),
    ],
)
def test_a_changed_setting_is_named_with_both_values(root, settings, expected):
    """Exactly the fields that changed are listed, by dotted name, from what to what."""
    made(root)
    found = why(root, Request("demo", settings)).differences
    assert [d[1:] for d in found] == expected
    assert {d.kind for d in found} == {"setting"}


def test_inputs_code_and_versions_are_told_apart(root, package, monkeypatch):
    """An input, a module and a version that changed are each named, from what to what."""
    package.write("rate", "RATE = 1")
    entry = package.write("stage", "from . import rate")
    old = {"code": (entry,), "packages": ("numpy",)}
    monkeypatch.setattr("flows.store.key.installed_version", lambda name: "1.0")
    before, _ = made(root, inputs={"text": "a" * 64, "gone": "c" * 64}, **old)
    before_code = make_key(before).code
    package.write("rate", "RATE = 2")
    package.write("extra", "")
    package.write("stage", "from . import rate, extra")
    monkeypatch.setattr("flows.store.key.installed_version", lambda name: "2.0")
    request = Request("demo", BASE, {"text": "b" * 64}, **old)
    code = make_key(request).code
    name = package.name
    assert list(why(root, request).differences) == [
        Difference("input", "gone", "c" * 64, None),
        Difference("input", "text", "a" * 64, "b" * 64),
        Difference("code", f"{name}.extra", None, code[f"{name}.extra"]),
        Difference("code", f"{name}.rate", before_code[f"{name}.rate"], code[f"{name}.rate"]),
        Difference("code", f"{name}.stage", before_code[f"{name}.stage"], code[f"{name}.stage"]),
        Difference("version", "numpy", "1.0", "2.0"),
    ]


def test_lines_are_aligned_and_short(root):
    """The report is for people: one line a difference, digests by eight digits."""
    _, artifact = made(root, inputs={"text": "a" * 64})
    request = Request("demo", {**BASE, "lr": 0.2, "name": "é"}, {"text": "b" * 64})
    head, *lines = render(why(root, request))
    assert head.startswith(f"demo: miss; what changed since the nearest, {artifact.key[:16]} of 20")
    assert lines == [
        "  setting  lr    0.1 -> 0.2",
        '  setting  name  "a" -> "é"',
        "  input    text  aaaaaaaa -> bbbbbbbb",
    ]


def test_the_nearest_is_compared(root):
    """Among several the one with the fewest differences explains best."""
    made(root, {"a": 1, "b": 1, "c": 1})
    _, near = made(root, {"a": 2, "b": 2, "c": 1})
    made(root, {"a": 3, "b": 3, "c": 3})
    explanation = why(root, Request("demo", {"a": 2, "b": 2, "c": 2}))
    assert explanation.nearest == near
    assert explanation.differences == (Difference("setting", "c", 1, 2),)


def test_damage_is_the_reason_when_the_artifact_is_there(root):
    """An artifact that does not verify is a miss whose faults are listed, and stays in place."""
    request, artifact = made(root)
    overwrite(artifact.path / "a", b"2")
    explanation = why(root, request)
    assert not explanation.hit
    assert artifact.path.is_dir()
    head, line = render(explanation)
    assert head == f"demo: miss, {artifact.key[:16]} is there and does not verify"
    assert line.startswith("  a changed: sha256 is")


def test_asking_changes_nothing(root):
    """why makes no folder and writes no file."""
    why(root, Request("demo", BASE))
    assert not root.exists()


def test_equal_keys_have_no_difference():
    """A key does not differ from itself, and null is not the same as absent."""
    key = make_key(Request("demo", BASE)).as_json()
    assert differences(key, key) == []
    absent = {**key, "settings": {}}
    null = {**key, "settings": {"x": None}}
    assert differences(absent, null) == [Difference("setting", "x", None, None)]
