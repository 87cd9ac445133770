"""``python -m benchmarks.pretokenize``."""

from benchmarks.pretokenize.command import main

if __name__ == "__main__":
    main()
