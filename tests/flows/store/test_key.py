"""Keys: everything that counts changes them, and nothing else does."""

import dataclasses
import enum
import json
import math
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings, strategies as st

from flows.store.key import Request, canonical, canonical_json, installed_version, make_key
from lmcore.errors import InputError
from tests.flows.store.builds import finish, start


class Shade(enum.Enum):
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True)
class Inner:
    width: int = 4
    rate: float = 1e-3
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Slice:
    """One field of each kind that a slice may have."""

    flag: bool = False
    steps: int = 1
    lr: float = 3e-4
    name: str = "é\n"
    maybe: str | None = None
    shade: Shade = Shade.LIGHT
    tokens: tuple[str, ...] = ("<pad>", "<eos>")
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = (Inner(), Inner(width=8))


def other(value: object) -> object:
    """A value of the same kind that is not ``value``."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return math.nextafter(value, 1)
        case str():
            return value + " "
        case None:
            return ""
        case Shade():
            return Shade.DARK
        case tuple():
            return value[:-1]
    raise AssertionError(value)


def variants(value: object):
    """Copies of a dataclass, each with one field changed, at every depth."""
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        old = getattr(value, field.name)
        changed = variants(old) if dataclasses.is_dataclass(old) else [other(old)]
        for new in changed:
            yield dataclasses.replace(value, **{field.name: new})  # type: ignore[type-var]


def test_any_changed_field_changes_the_key():
    """Every field, nested ones too, is in the key, and no two of the changes meet."""
    cases = [Slice(), *variants(Slice())]
    assert len(cases) == 1 + 8 + 3
    digests = {make_key(Request("demo", case)).digest for case in cases}
    assert len(digests) == len(cases)


def test_stage_inputs_code_and_versions_are_in_the_key():
    """Whatever else a request names changes the key too."""
    base = Request("demo", Slice(), {"text": "a" * 64}, ("lmcore.errors",), ("numpy",))
    changes = [
        {"stage": "other"},
        {"inputs": {"text": "b" * 64}},
        {"inputs": {"words": "a" * 64}},
        {"inputs": {}},
        {"code": ("flows.store.lock",)},
        {"packages": ("numpy", "pytest")},
    ]
    digests = {make_key(dataclasses.replace(base, **change)).digest for change in changes}
    assert len(digests | {make_key(base).digest}) == len(changes) + 1


def test_order_of_names_does_not_count():
    """Mappings are sorted: the order in which inputs and settings were given is not in the key."""
    a = Request("demo", {"x": 1, "y": 2}, {"p": "a" * 64, "q": "b" * 64})
    b = Request("demo", {"y": 2, "x": 1}, {"q": "b" * 64, "p": "a" * 64})
    assert make_key(a).digest == make_key(b).digest


def test_the_build_label_of_a_version_does_not_count(monkeypatch):
    """2.11.0+cpu and 2.11.0+cu128 make one key, as the build is numerics; 2.11.1 another."""
    digests = []
    for version in ("2.11.0+cpu", "2.11.0+cu128", "2.11.1+cpu"):
        monkeypatch.setattr("flows.store.key.installed_version", lambda name, v=version: v)
        digests.append(make_key(Request("demo", {}, packages=("torch",))).digest)
    assert digests[0] == digests[1] != digests[2]


def test_digest_is_a_known_one():
    """The form of a key is pinned: changing it would rebuild every artifact that exists."""
    key = make_key(Request("demo", Slice(), {"text": "0" * 64}))
    assert canonical_json(key.as_json()) == (
        '{"code":{},"inputs":{"text":"' + "0" * 64 + '"},"settings":{"flag":false,'
        '"inner":{"kind":"a","rate":0.001,"width":4},"inners":[{"kind":"a","rate":0.001,"width":4},'
        '{"kind":"a","rate":0.001,"width":8}],"lr":0.0003,"maybe":null,"name":"\\u00e9\\n",'
        '"shade":"light","steps":1,"tokens":["<pad>","<eos>"]},"stage":"demo","versions":{}}'
    )
    assert key.digest == "34e4b1187f05cb21073d2e6e87c8b5e47d22f45f0de82422c04f8d182af09c7b"
    assert key.short == key.digest[:16]


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_digest_is_equal_in_another_process(seed):
    """Neither the process nor the seed of its hashes reaches the key."""
    script = (
        "from flows.store.key import *\n"
        "r = Request('demo', {'b': (1, 2.5), 'a': None}, code=('flows.store.publish',))\n"
        "print(make_key(r).digest)"
    )
    request = Request("demo", {"a": None, "b": (1, 2.5)}, code=("flows.store.publish",))
    assert finish(start(script, PYTHONHASHSEED=seed)).strip() == make_key(request).digest


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(_JSON)
def test_canonical_form_survives_json(value):
    """A key read back from its record is the key that was written."""
    text = canonical_json(canonical(value))
    assert canonical_json(json.loads(text)) == text


def test_equal_looking_values_of_other_types_differ():
    """1, 1.0, True and "1" are four settings, and so are 0.0 and -0.0."""
    values = [1, 1.0, True, "1", 0.0, -0.0, None, "None", (), {}]
    assert len({canonical_json(canonical(value)) for value in values}) == len(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_not_finite_is_refused(value):
    """nan and infinity are the user's mistake, named by field."""
    with pytest.raises(InputError, match=r"settings\.inner\.rate is (nan|-?inf)"):
        make_key(Request("demo", dataclasses.replace(Slice(), inner=Inner(rate=value))))


@dataclass
class Thawed:
    x: int = 1


@pytest.mark.parametrize("value", [Thawed(), {1}, b"x", object(), {1: 2}, Inner, 1j])
def test_what_has_no_canonical_form_is_a_bug(value):
    """A slice holds plain frozen values; anything else is named and refused."""
    with pytest.raises(TypeError, match=r"settings\.x "):
        make_key(Request("demo", {"x": value}))


@pytest.mark.parametrize("stage", ["", "../up", "Upper", "a/b", "1st", "a b"])
def test_a_stage_that_could_not_name_a_folder_is_refused(stage):
    """Stage names are folder names, never paths."""
    with pytest.raises(ValueError, match="expected lower-case letters"):
        make_key(Request(stage, {}))


def test_an_input_that_is_not_a_digest_is_refused():
    """Inputs are content digests, not names or paths."""
    with pytest.raises(ValueError, match=r"input text is 'corpus\.txt'"):
        make_key(Request("demo", {}, {"text": "corpus.txt"}))


def test_a_package_that_is_not_installed_is_named():
    """The error says what to install."""
    with pytest.raises(InputError, match="pip install no-such-distribution"):
        installed_version("no-such-distribution")
