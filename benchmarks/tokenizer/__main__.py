"""``python -m benchmarks.tokenizer``."""

from benchmarks.tokenizer.command import main

if __name__ == "__main__":
    main()
