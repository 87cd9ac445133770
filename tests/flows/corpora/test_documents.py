"""The door to a corpus: every format gives the same documents, and an empty one is refused."""

import json
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.corpora.config import CorpusFormat, ReadingConfig
from flows.corpora.documents import read_documents
from flows.corpora.pieces import Document
from lmcore.errors import InputError

TEXTS = ["One.", "Two\nlines.", "Dréi 中."]

WRITERS = {
    "text": lambda path, texts: path.write_text("\n<|endoftext|>\n".join(texts), newline=""),
    "jsonl": lambda path, texts: path.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts)
    ),
    "parquet": lambda path, texts: pq.write_table(
        pa.table({"text": pa.array(texts, pa.string())}), path
    ),
}


@pytest.mark.parametrize("format", get_args(CorpusFormat))
def test_every_format_gives_the_same_documents(tmp_path, format):
    """The same texts are the same documents, whatever format holds them; reading twice too."""
    path = tmp_path / "corpus"
    WRITERS[format](path, TEXTS)
    config = ReadingConfig(format=format)
    expected = [Document(n, 0, text) for n, text in enumerate(TEXTS)]
    assert list(read_documents(path, config)) == expected
    assert list(read_documents(path, config)) == expected
    assert list(read_documents(path, config, max_bytes=14)) == expected[:2]


@pytest.mark.parametrize("format", get_args(CorpusFormat))
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_an_empty_corpus_is_refused(tmp_path, format, texts):
    """A corpus without a character of text is an InputError that names the file."""
    path = tmp_path / "corpus"
    WRITERS[format](path, texts)
    with pytest.raises(InputError, match="corpus holds no text"):
        list(read_documents(path, ReadingConfig(format=format)))


def test_the_config_reaches_the_reader(tmp_path):
    """Separator, errors and text field are those of the config."""
    (tmp_path / "a.txt").write_bytes(b"One.|Tw\xff")
    config = ReadingConfig(separator="|", errors="replace")
    assert [d.text for d in read_documents(tmp_path / "a.txt", config)] == ["One.", "Tw�"]
    (tmp_path / "a.jsonl").write_bytes(b'{"body": "One\xff"}')
    config = ReadingConfig(format="jsonl", text_field="body", errors="replace")
    assert [d.text for d in read_documents(tmp_path / "a.jsonl", config)] == ["One�"]
    pq.write_table(pa.table({"body": [b"One\xff"]}), tmp_path / "a.parquet")
    config = ReadingConfig(format="parquet", text_field="body", errors="replace")
    assert [d.text for d in read_documents(tmp_path / "a.parquet", config)] == ["One�"]
