"""``python -m benchmarks.training``."""

import sys

from benchmarks.training.command import main
from lmcore.errors import InputError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
