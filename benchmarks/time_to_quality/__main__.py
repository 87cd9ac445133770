"""``python -m benchmarks.time_to_quality``."""

from benchmarks.time_to_quality.command import main

if __name__ == "__main__":
    main()
