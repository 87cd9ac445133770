"""Which first-party modules a stage can reach, and a digest of each by its tokens.

Nothing is imported and nothing is run: modules are found as files. A comment, a docstring or a
line break changes no digest; a number does, and in exactly the stages that reach its module.
"""

import hashlib
import importlib.util
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from flows.store.python_tokens import Import, LogicalLine, imports_in, logical_lines

FIRST_PARTY = ("lmcore", "flows")

_PROCESS_STARTED_NS = time.time_ns()


class _Source(NamedTuple):
    """What one file's text says: its digest, its imports, and whether its names are lazy."""

    digest: str
    imports: tuple[Import, ...]
    lazy: bool
    defined: frozenset[str]


_NOTHING = _Source("", (), False, frozenset())


class _Module(NamedTuple):
    """A module found on disk; a folder without ``__init__.py`` has no file."""

    file: Path | None
    is_package: bool


_sources: dict[str, _Source] = {}  # by sha256 of the bytes: exact, and 0.03 ms a file to look up
_first_seen: dict[tuple[str, Path], str | None] = {}


def import_closure(entries: Iterable[str], roots: tuple[str, ...] = FIRST_PARTY) -> dict[str, str]:
    """Digest every first-party module that ``entries`` can reach by import.

    The closure follows imports at any depth, also inside functions, ``from package import
    submodule``, relative imports, literal ``import_module`` calls, and the ``__init__`` of every
    package on the way. What is started by name in another process (``python -m flows.worker``) is
    not an import: give it as one more entry. A data file that code reads is not seen either.

    Args:
      entries: dotted module names.
      roots: top packages that count as ours, beside those of the entries; others are known by
        their version.

    Returns:
      Module name to 64 hexadecimal digits (SHA-256 of its tokens), sorted by name.

    Raises:
      ImportError: a first-party module does not exist, or a name is taken from a package that
        resolves names lazily, where no reader of the text can follow it.

    Example:
      >>> sorted(import_closure(["lmcore.errors"]))
      ['lmcore', 'lmcore.errors']

    References:
      Mokhov, Mitchell and Peyton Jones, 2018, Build Systems à la Carte, section 4.2.2 (the code is
      one more input of a verifying trace).
    """
    entries = list(entries)
    closure = _Closure({*roots, *(entry.partition(".")[0] for entry in entries)})
    closure.walk(entries)
    return dict(sorted(closure.digests.items()))


def stale_modules(digests: Mapping[str, str]) -> list[str]:
    """Name the modules that this process runs in an older form than the file on disk.

    A key describes files; a build runs what was loaded when the process started. Editing a module
    during a long run would otherwise publish the old code's result under the new code's key.

    Args:
      digests: what :func:`import_closure` returned just now.

    Returns:
      Names of loaded modules whose file was changed after this process first digested it, or, if
      it had not yet, after the process started. Empty when all is well.

    Example:
      >>> stale_modules(import_closure(["lmcore.errors"]))
      []
    """
    finder = _Finder()
    return [name for name, digest in digests.items() if _is_stale(name, digest, finder)]


def source_digest(text: str) -> str:
    """Digest Python source by its tokens: 64 hexadecimal digits, blind to comments and layout.

    Example:
      >>> source_digest("x = 1  # one") == source_digest("x=1")
      True
    """
    return _digest_lines(logical_lines(text))


def _is_stale(name: str, digest: str, finder: "_Finder") -> bool:
    """True when ``name`` is loaded and its file is not what was loaded."""
    module = finder.find(name)
    if name not in sys.modules or module is None or module.file is None:
        return False
    return _first_seen.get((name, module.file)) != digest


class _Finder:
    """Finds modules as files below the top packages, asking the disk once for each."""

    def __init__(self) -> None:
        self.found: dict[str, _Module | None] = {}
        self.places: dict[str, list[Path]] = {}

    def find(self, name: str) -> _Module | None:
        """The file of a dotted name, or None when there is no such module."""
        if name not in self.found:
            self.found[name] = self._look(name)
        return self.found[name]

    def _look(self, name: str) -> _Module | None:
        for base in self._places(name):
            if (base / "__init__.py").is_file():
                return _Module(base / "__init__.py", True)
            if base.with_suffix(".py").is_file():
                return _Module(base.with_suffix(".py"), False)
            if base.is_dir():
                return _Module(None, True)
        return None

    def _places(self, name: str) -> list[Path]:
        """Paths, without suffix, at which a module could lie."""
        if name not in self.places:
            self.places[name] = self._candidates(name)
        return self.places[name]

    def _candidates(self, name: str) -> list[Path]:
        parent, _, child = name.rpartition(".")
        if parent:
            module = self.find(parent)
            return [base / child for base in self._places(parent)] if module else []
        spec = importlib.util.find_spec(name)
        if spec is None:
            return []
        if spec.submodule_search_locations:
            return [Path(place) for place in spec.submodule_search_locations]
        return [Path(spec.origin).with_suffix("")] if spec.origin else []

    def children(self, name: str) -> Iterator[str]:
        """Modules directly inside a package."""
        for base in self._places(name):
            for path in sorted(base.iterdir()):
                child = f"{name}.{path.stem}"
                if path.stem.isidentifier() and path.stem != "__init__" and self.find(child):
                    yield child


class _Closure:
    """Walks imports outwards from the entries, collecting digests."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots
        self.finder = _Finder()
        self.digests: dict[str, str] = {}
        self.sources: dict[str, _Source] = {}

    def walk(self, entries: list[str]) -> None:
        """Add the entries, the packages around them, and all that these import."""
        done: set[str] = set()
        waiting = [(entry, "the stage's list of code") for entry in entries]
        while waiting:
            name, wanted_by = waiting.pop()
            for module in _with_packages(name):
                if module not in done:
                    done.add(module)
                    self._digest(module, wanted_by)
                    waiting += [(target, module) for target in self._reached_from(module)]

    def _digest(self, name: str, wanted_by: str) -> None:
        """Note the digest of one module."""
        module = self.finder.find(name)
        if module is None:
            raise ImportError(f"{wanted_by} names the module {name}, which has no file")
        if module.file is not None:
            self.digests[name] = self._source(name).digest
            _remember(name, module.file, self.digests[name])

    def _source(self, name: str) -> _Source:
        """What a module's text says; nothing for a folder without ``__init__.py``."""
        if name not in self.sources:
            module = self.finder.find(name)
            self.sources[name] = _read(module.file) if module and module.file else _NOTHING
        return self.sources[name]

    def _reached_from(self, name: str) -> Iterator[str]:
        """Our modules that one module imports."""
        module = self.finder.find(name)
        package = name if module and module.is_package else name.rpartition(".")[0]
        for found in self._source(name).imports:
            target = _absolute(found, package)
            if target.partition(".")[0] in self.roots:
                yield target
                yield from self._submodules(target, found.names, importer=name)

    def _submodules(self, target: str, names: tuple[str, ...], importer: str) -> Iterator[str]:
        """What ``from target import names`` reaches beside ``target``."""
        module, source = self.finder.find(target), self._source(target)
        is_package = module is not None and module.is_package
        if not names and source.lazy and importer != target:
            raise ImportError(_LAZY.format(importer=importer, name="its names", package=target))
        for name in names:
            if name == "*":
                yield from self.finder.children(target)
            elif is_package and self.finder.find(f"{target}.{name}"):
                yield f"{target}.{name}"
            elif source.lazy and name not in source.defined:
                raise ImportError(_LAZY.format(importer=importer, name=name, package=target))


def _with_packages(name: str) -> Iterator[str]:
    """A dotted name's packages from the top, then the name."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


_LAZY = (
    "{importer} takes {name} from {package}, which resolves names when they are asked for, so no "
    "digest can follow it: import from the module that defines the name"
)


def _absolute(found: Import, package: str) -> str:
    """Resolve leading dots against the package that holds the importing module."""
    if not found.dots:
        return found.module
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - found.dots + 1])
    return f"{base}.{found.module}" if found.module else base


def _read(file: Path) -> _Source:
    """Digest a file's text, once for each content that this process meets."""
    content = file.read_bytes()
    fingerprint = hashlib.sha256(content).hexdigest()
    if fingerprint not in _sources:
        _sources[fingerprint] = _analyse(content.decode("utf-8", "surrogateescape"))
    return _sources[fingerprint]


def _analyse(text: str) -> _Source:
    """Read everything that the closure needs from one text."""
    lines = list(logical_lines(text))
    imports = tuple(found for line in _that_run(lines) for found in imports_in(line))
    heads = [line.tokens for line in lines if line.level == 0]
    lazy = any(tokens[:2] == ["def", "__getattr__"] for tokens in heads)
    defined = {t[1] if t[0] in ("def", "class") else t[0] for t in heads if len(t) > 1}
    return _Source(_digest_lines(lines), imports, lazy, frozenset(defined))


def _that_run(lines: Iterable[LogicalLine]) -> Iterator[LogicalLine]:
    """Leave out blocks under ``if TYPE_CHECKING:``, which import for the type checker only."""
    skipping_above: int | None = None
    for line in lines:
        if skipping_above is not None and line.level > skipping_above:
            continue
        only_types = line.tokens[0] == "if" and line.tokens[-2:] == ["TYPE_CHECKING", ":"]
        plain = "not" not in line.tokens and "or" not in line.tokens
        skipping_above = line.level if only_types and plain else None
        yield line


def _digest_lines(lines: Iterable[LogicalLine]) -> str:
    """SHA-256 over levels and tokens; source text cannot hold the separator, a null."""
    text = "\n".join(f"{line.level}\0" + "\0".join(line.tokens) for line in lines)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _remember(name: str, file: Path, digest: str) -> None:
    """Note what a module looked like when first met; None when it had changed before that."""
    if (name, file) in _first_seen:
        return
    status = file.stat()
    changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    loaded_before = name in sys.modules and changed_ns > _PROCESS_STARTED_NS
    _first_seen[name, file] = None if loaded_before else digest
