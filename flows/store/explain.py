"""Why a request would be a hit or a miss: field by field, input by input, module by module."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flows.store.key import Request, canonical_json, make_key
from flows.store.layout import Layout
from flows.store.listing import artifacts
from flows.store.record import Artifact
from flows.store.verify import examine

DifferenceKind = Literal["setting", "input", "code", "version"]


class Difference(NamedTuple):
    """One thing that is not as it was; None stands for "there was none"."""

    kind: DifferenceKind
    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Explanation:
    """What the store would do with a request, and why.

    Args:
      stage: the stage asked about.
      key: digest of the request's key.
      hit: True when the artifact is there and verifies.
      nearest: on a miss, the artifact of that stage that differs least; of several, the latest.
      differences: from ``nearest`` to the request.
      faults: when the artifact is there and does not verify.
    """

    stage: str
    key: str
    hit: bool
    nearest: Artifact | None
    differences: tuple[Difference, ...] = ()
    faults: tuple[str, ...] = ()


def why(root: Path, request: Request) -> Explanation:
    """Explain what :func:`flows.store.publish.produce` would do, changing nothing.

    Args:
      root: the artifacts folder; it need not exist.
      request: what would be asked for.

    Returns:
      A hit with its artifact as ``nearest``; or a miss with the faults of the artifact in place,
      or with every difference from the nearest artifact of the stage.

    Raises:
      InputError, TypeError, ImportError: as :func:`flows.store.key.make_key`.

    Example:
      >>> why(Path("no such folder"), Request("demo", {"n": 1})).hit
      False
    """
    key = make_key(request)
    layout = Layout(Path(root))
    others = [a for a in artifacts(root, request.stage) if a.record]
    same = [a for a in others if a.key == key.digest]
    place = layout.artifact(key.stage, key.digest)
    if place.is_dir():
        verdict = examine(place, layout.seal(key.stage, key.digest), key.digest)
        nearest = same[0] if same else None
        faults = tuple(verdict.faults)
        return Explanation(key.stage, key.digest, not faults, nearest, faults=faults)
    found = [(tuple(differences(a.record["key"], key.as_json())), a) for a in others]
    if not found:
        return Explanation(key.stage, key.digest, False, None)
    fewest = min(len(changed) for changed, _ in found)
    changed, nearest = max(
        (pair for pair in found if len(pair[0]) == fewest),
        key=lambda pair: (pair[1].record["finished"], pair[1].key),
    )
    return Explanation(key.stage, key.digest, False, nearest, changed)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """List every difference between two keys in JSON form.

    Settings are compared leaf by leaf, under dotted names; a list is one leaf.

    Args:
      before: ``Key.as_json()`` of the one made earlier, or ``record["key"]``.
      after: the same of the request.

    Returns:
      Settings, then inputs, code and versions, each in order of name.

    Example:
      >>> a = {"settings": {"model": {"d_model": 128}}, "inputs": {}, "code": {}, "versions": {}}
      >>> b = {**a, "settings": {"model": {"d_model": 256}}}
      >>> differences(a, b)
      [Difference(kind='setting', name='model.d_model', before=128, after=256)]
    """
    kinds: dict[DifferenceKind, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "setting": (_leaves(before["settings"]), _leaves(after["settings"])),
        "input": (before["inputs"], after["inputs"]),
        "code": (before["code"], after["code"]),
        "version": (before["versions"], after["versions"]),
    }
    return [
        Difference(kind, name, old.get(name), new.get(name))
        for kind, (old, new) in kinds.items()
        for name in sorted(old.keys() | new.keys())
        if not _equal(old.get(name), new.get(name)) or (name in old) != (name in new)
    ]


def render(explanation: Explanation) -> list[str]:
    """Say an explanation in plain lines, the verdict first.

    Example:
      >>> render(why(Path("no such folder"), Request("demo", {"n": 1})))
      ['demo: miss, nothing was ever made by this stage']
    """
    stage, nearest = explanation.stage, explanation.nearest
    if explanation.hit:
        made = f", made {nearest.record['finished']}" if nearest else ""
        return [f"{stage}: hit, {explanation.key[:16]} verified{made}"]
    if explanation.faults:
        lines = [f"  {fault}" for fault in explanation.faults]
        return [f"{stage}: miss, {explanation.key[:16]} is there and does not verify", *lines]
    if nearest is None:
        return [f"{stage}: miss, nothing was ever made by this stage"]
    name, made = nearest.key[:16], nearest.record["finished"]
    head = f"{stage}: miss; what changed since the nearest, {name} of {made}"
    return [head, *(_line(d, explanation.differences) for d in explanation.differences)]


def _line(difference: Difference, all_of_them: tuple[Difference, ...]) -> str:
    """One difference, its columns aligned with those of the others."""
    width = max(len(d.name) for d in all_of_them)
    before, after = _say(difference, difference.before), _say(difference, difference.after)
    return f"  {difference.kind:<7}  {difference.name:<{width}}  {before} -> {after}"


def _say(difference: Difference, value: Any) -> str:
    """A value, short: digests by eight digits."""
    if value is None and difference.kind != "setting":
        return "none"
    if difference.kind in ("input", "code"):
        return str(value)[:8]
    return str(value) if difference.kind == "version" else json.dumps(value, ensure_ascii=False)


def _leaves(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names; a slice that is one value is named "settings"."""
    if not isinstance(settings, dict):
        return {prefix or "settings": settings}
    leaves: dict[str, Any] = {}
    for name, value in settings.items():
        leaves |= _leaves(value, f"{prefix}.{name}" if prefix else name)
    return leaves


def _equal(a: Any, b: Any) -> bool:
    """Equality of canonical forms: 1, 1.0 and true differ."""
    return canonical_json(a) == canonical_json(b)
