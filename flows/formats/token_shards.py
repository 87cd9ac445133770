"""What a set of token shards is: what its tokens mean, how many there are, which they are."""

from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class TokenHeader:
    """What the tokens of a set of shards mean.

    Attributes:
      tokenizer_digest: which tokenizer made them.
      vocab_size: every id is below it.
      eos_id: the end-of-text token's id; the shards hold none, the memory map puts them in.
    """

    tokenizer_digest: str
    vocab_size: int
    eos_id: int


@dataclass(frozen=True)
class TokenCounts:
    """How much a shard, or a set of them, holds.

    Attributes:
      rows: documents, a long one's pieces counted each.
      documents: documents, the pieces of one counted once, with its part 0.
      tokens: ids, without end-of-text tokens.
      bytes: raw text bytes.
    """

    rows: int = 0
    documents: int = 0
    tokens: int = 0
    bytes: int = 0

    def plus(self, other: "TokenCounts") -> "TokenCounts":
        """Field by field."""
        mine, theirs = asdict(self), asdict(other)
        return TokenCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class TokenShards:
    """Shards that were written or found.

    Attributes:
      paths: the files, in the order of their rows.
      header: what the tokens mean.
      counts: of all shards together.
      digest: the logical digest of all rows, independent of how they are cut into shards.
    """

    paths: tuple[Path, ...]
    header: TokenHeader
    counts: TokenCounts
    digest: str
