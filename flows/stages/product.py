"""What a stage returns: the digest that later stages depend on, and facts for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Product:
    """The outcome of a stage beside its files.

    Attributes:
      digest: what the artifact is, in 64 hexadecimal digits, where that is not the bytes of its
        files (tokens, whatever Parquet's version; weights, without the times in the metrics).
      facts: counts and digests, for later stages and for people.
    """

    digest: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
