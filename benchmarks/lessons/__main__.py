"""``python -m benchmarks.lessons``."""

from benchmarks.lessons.command import main

if __name__ == "__main__":
    main()
