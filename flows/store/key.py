"""What makes a stage's result: settings, inputs, code and versions, as one canonical digest."""

import dataclasses
import enum
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from flows.store.code_digest import import_closure
from lmcore.errors import InputError

_STAGE = re.compile(r"[a-z][a-z0-9_-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


class HasDigest(Protocol):
    """Anything that carries a content digest; an artifact does."""

    @property
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Request:
    """What a stage is asked to make.

    Args:
      stage: name of the stage; also the name of its folder in the store.
      settings: the stage's slice, a frozen dataclass or a mapping; every field counts.
      inputs: name to content digest, or to the artifact itself. Only an artifact given as such can
        be verified again before publishing.
      code: entry modules whose import closure the result depends on.
      packages: distributions whose version the bytes depend on.

    Example:
      >>> Request("tokenizer", {"vocab_size": 512}, inputs={}, code=("lmcore.errors",)).stage
      'tokenizer'
    """

    stage: str
    settings: object
    inputs: Mapping[str, str | HasDigest] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Key:
    """The canonical form of a request: JSON values only, equal exactly when nothing changed."""

    stage: str
    settings: Any
    inputs: Mapping[str, str]
    code: Mapping[str, str]
    versions: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return sha256_of_json(self.as_json())

    @property
    def short(self) -> str:
        """The first 16 digits, which name the artifact's folder."""
        return self.digest[:16]

    def as_json(self) -> dict[str, Any]:
        """The key as a JSON object, as ``record.json`` holds it."""
        return {
            "stage": self.stage,
            "settings": self.settings,
            "inputs": dict(self.inputs),
            "code": dict(self.code),
            "versions": dict(self.versions),
        }


def make_key(request: Request) -> Key:
    """Turn a request into its key, reading the code from disk as it is now.

    Args:
      request: what is asked for.

    Returns:
      The key; the same in every process and on every platform for the same request and code.

    Raises:
      InputError: a setting is nan or infinite, or a package is not installed.
      TypeError: a setting is of a type that has no canonical form.
      ImportError: the code names a module that does not exist.

    Example:
      >>> a = make_key(Request("demo", {"n": 1}))
      >>> a.digest == make_key(Request("demo", {"n": 2})).digest
      False

    References:
      Mokhov, Mitchell and Peyton Jones, 2018, Build Systems à la Carte, section 4.2.2, verifying
      traces.
    """
    if not _STAGE.fullmatch(request.stage):
        raise ValueError(f"stage is {request.stage!r}: expected lower-case letters, digits, - or _")
    inputs = {name: _input_digest(name, value) for name, value in request.inputs.items()}
    return Key(
        stage=request.stage,
        settings=canonical(request.settings, "settings"),
        inputs=dict(sorted(inputs.items())),
        code=import_closure(request.code),
        versions={name: _public(installed_version(name)) for name in sorted(request.packages)},
    )


def canonical(value: object, where: str = "value") -> Any:
    """Turn frozen settings into JSON values that are equal exactly when the settings are.

    Frozen dataclasses and mappings become objects, tuples and lists arrays, an enum its value.
    ``1``, ``1.0``, ``True`` and ``"1"`` stay four different things; floats are written by ``repr``,
    which gives back the same float.

    Args:
      value: None, bool, int, float, str, an enum of those, or any nesting in frozen dataclasses,
        mappings with text keys, tuples and lists.
      where: dotted name for error messages.

    Returns:
      The same as dict, list, str, int, float, bool and None.

    Raises:
      InputError: a float is nan or infinite.
      TypeError: anything else, and a dataclass that is not frozen.

    Example:
      >>> canonical({"widths": (1, 2.5), "name": None})
      {'widths': [1, 2.5], 'name': None}
    """
    if isinstance(value, enum.Enum):
        return canonical(value.value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return _finite(float(value), where)
    for plain in (int, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, tuple | list):
        return [canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return {k: canonical(v, f"{where}.{k}") for k, v in _fields(value, where).items()}


def canonical_json(value: object) -> str:
    """JSON with sorted names and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of_json(value: object) -> str:
    """SHA-256 of :func:`canonical_json`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def installed_version(distribution: str) -> str:
    """The installed version of a distribution, build label included (``2.11.0+cpu``).

    Raises:
      InputError: it is not installed.
    """
    from importlib import metadata  # 15 ms, and most requests name no package

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"the package {distribution} is not installed, and a result depends on its version: "
            f"run `pip install {distribution}`"
        ) from None


def _public(version: str) -> str:
    """Drop the build label: the same release for CPU and for CUDA is numerics, not meaning."""
    return version.partition("+")[0]


def _finite(value: float, where: str) -> float:
    """Refuse what JSON cannot write and no setting can mean."""
    if not math.isfinite(value):
        raise InputError(f"{where} is {value}: expected a finite number")
    return value


def _fields(value: object, where: str) -> dict[str, object]:
    """Name and value of each field of a frozen dataclass, or of each entry of a mapping."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not getattr(type(value), "__dataclass_params__").frozen:  # noqa: B009 (no public name)
            raise TypeError(f"{where} is a {type(value).__name__}, which is not frozen")
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"{where} has names that are not text: {list(value)}")
        return {str(name): value[name] for name in value}
    raise TypeError(
        f"{where} is a {type(value).__name__}: expected None, bool, int, float, str, enum, tuple, "
        "list, mapping or frozen dataclass"
    )


def _input_digest(name: str, value: str | HasDigest) -> str:
    """The content digest of an input given either way."""
    digest = value if isinstance(value, str) else value.digest
    if not SHA256.fullmatch(digest):
        raise ValueError(f"input {name} is {digest!r}: expected 64 hexadecimal digits (SHA-256)")
    return digest
