"""Ways to hurt a file, and to see that nothing else was hurt."""

import os
import shutil
from hashlib import sha256
from pathlib import Path


def contents(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, by name, with what is in it; locks are no content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file() and not name.startswith("locks/"):
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def forget(artifacts: Path, stage: str) -> None:
    """Take a stage's artifacts out of the store."""
    for folder in (artifacts / "store" / stage).iterdir():
        folder.chmod(0o755)
        shutil.rmtree(folder)


def flip(path: Path, where: float = 0.5) -> None:
    """Change one bit of a file, its size and times kept; ``where`` is a share of its length."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * where)] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode & 0o777)
