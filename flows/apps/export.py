"""Write the tokenizer of a run for other libraries: Hugging Face tokenizers, tiktoken."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.arguments import read_words
from flows.formats.foreign_tokenizers import save_huggingface, save_tiktoken, settings_path
from flows.formats.tokenizer_json import load_tokenizer
from flows.runs_folder import find_run
from lmcore.errors import InputError


@dataclass(frozen=True)
class Export:
    """Write the tokenizer of a run for other libraries."""

    to: str = ""
    """The file to write, which must not be there yet; for tiktoken another one, its name with .json
    at the end, holds the pattern and the special tokens."""
    format: Literal["tokenizer.json", "tiktoken"] = "tokenizer.json"
    """For Hugging Face tokenizers and transformers, or a rank file for tiktoken."""
    run: str = "latest"
    """Name of a run, or the beginning of one; latest is the one made last."""
    artifacts: str = "artifacts"
    """Folder of the artifact store and of the runs."""


def main(words: list[str]) -> int:
    options = read_words(Export, words, "lmcore export", description=__doc__)
    files = files_to_write(options)
    run = find_run(Path(options.artifacts), options.run)
    tokenizer = load_tokenizer(run.artifact("tokenizer") / "tokenizer.json")
    if options.format == "tiktoken":
        save_tiktoken(files[0], tokenizer, run.name)
    else:
        save_huggingface(files[0], tokenizer)
    print(f"{tokenizer.vocab_size:,} tokens of the run {run.name}: {' and '.join(map(str, files))}")
    return 0


def files_to_write(options: Export) -> list[Path]:
    """The files asked for; none of them may be there, for it could be an artifact.

    Raises:
      InputError: no file was named, one is there, or its folder is not.
    """
    if not options.to:
        raise InputError("--to names no file: say which one to write, as in --to tokenizer.json")
    path = Path(options.to)
    if not path.parent.is_dir():
        raise InputError(f"--to is {options.to}: there is no folder {path.parent}; make it first")
    files = [path, settings_path(path)] if options.format == "tiktoken" else [path]
    if there := [file for file in files if file.exists() or file.is_symlink()]:
        raise InputError(f"{there[0]} is there already: remove it, or choose another --to")
    return files
