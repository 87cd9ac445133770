"""The published corpora that a run can be held against, and where they lie."""

from flows.corpora.config import SourceConfig
from lmcore.evaluation.bands import Corpus

TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
OPENWEBTEXT = "https://huggingface.co/datasets/stanford-cs336/owt-sample/resolve/main/"

# The training text and the validation text of each.
URLS: dict[Corpus, tuple[str, str]] = {
    "tinystories": (
        TINYSTORIES + "TinyStoriesV2-GPT4-train.txt",
        TINYSTORIES + "TinyStoriesV2-GPT4-valid.txt",
    ),
    "openwebtext": (OPENWEBTEXT + "owt_train.txt.gz", OPENWEBTEXT + "owt_valid.txt.gz"),
}


def published(corpus: Corpus) -> SourceConfig:
    """The source of a published corpus.

    Example:
      >>> published("openwebtext").valid_url.rsplit("/")[-1]
      'owt_valid.txt.gz'
    """
    train_url, valid_url = URLS[corpus]
    return SourceConfig(kind="url", train_url=train_url, valid_url=valid_url)


def name_of(source: SourceConfig) -> str:
    """Which published corpus a source is: both of its addresses say so, or it is none.

    A copy under another address may hold anything, so it has no name.

    Example:
      >>> name_of(published("tinystories")), name_of(SourceConfig())
      ('tinystories', '')
    """
    if source.kind != "url":
        return ""
    urls = (source.train_url, source.valid_url)
    return next((corpus for corpus, known in URLS.items() if known == urls), "")
