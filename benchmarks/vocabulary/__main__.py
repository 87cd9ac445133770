"""``python -m benchmarks.vocabulary``."""

from benchmarks.vocabulary.command import main

if __name__ == "__main__":
    main()
