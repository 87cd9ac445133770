"""The corpus config: every fault is found, all at once, each with its flag."""

from dataclasses import fields, replace

import pytest

from flows.corpora.config import ReadingConfig, SourceConfig, faults

SOUND = SourceConfig(kind="url", train_url="https://host/a.gz", valid_url="file:///data/b.txt")


@pytest.mark.parametrize("config", [SourceConfig(), SOUND])
def test_sound_configs_have_no_faults(config):
    """The default, and one by URL, are sound."""
    assert faults(config, ReadingConfig()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/a",
        "https://host/a%20b?c=d",
        "file:///a%20b",
        "file://localhost/a",
        "https://[::1]:80/a",
    ],
)
def test_sound_urls(url):
    """These URLs can be fetched."""
    assert faults(replace(SOUND, train_url=url), ReadingConfig()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "web"}, "kind is 'web': it must be one of stories, url; change --corpus.kind"),
        ({"format": "csv"}, "one of text, jsonl, parquet; change --corpus.format"),
        ({"errors": "ignore"}, "one of strict, replace; change --corpus.errors"),
        ({"train_url": ""}, "train_url is empty: --corpus.kind url needs one"),
        ({"valid_url": ""}, "valid_url is empty: --corpus.kind url needs one"),
        ({"train_url": "ftp://h/a"}, "scheme ftp is not one of https, http, file; change --corpus"),
        ({"train_url": "s3://b/a"}, "scheme s3 is not one of"),
        ({"train_url": "/data/a.txt"}, "no scheme; for a file give --corpus.train-url file:///"),
        ({"valid_url": "a.txt"}, "no scheme; for a file give --corpus.valid-url file:///"),
        ({"train_url": "https:///a"}, "names no host; correct --corpus.train-url"),
        ({"train_url": "https://h:port/a"}, "it is no URL"),
        ({"train_url": "https://[::1/a"}, "it is no URL"),
        ({"train_url": "file://host/a"}, "three slashes and an absolute path"),
        ({"train_url": "file:a"}, "three slashes and an absolute path"),
        ({"train_url": "file:///"}, "three slashes and an absolute path"),
        ({"train_sha256": "abc"}, "64 lower-case hexadecimal digits"),
        ({"valid_sha256": "A" * 64}, "correct --corpus.valid-sha256"),
        ({"train_sha256": "a" * 64 + "\n"}, "correct --corpus.train-sha256"),
        ({"format": "jsonl", "text_field": ""}, "give --corpus.text-field NAME"),
        ({"train_bytes": -1}, "train_bytes is -1: it must be at least 0"),
        ({"valid_bytes": -1}, "raise --corpus.valid-bytes"),
        ({"max_train_bytes": -1}, "raise --corpus.max-train-bytes"),
        ({"n_train_stories": 0}, "raise --corpus.n-train-stories"),
        ({"n_valid_stories": 0}, "raise --corpus.n-valid-stories"),
        ({"seed": -1}, "raise --corpus.seed"),
        ({"kind": "stories"}, "kind is 'stories', which reads no URL; add --corpus.kind url"),
        ({"separator": "|", "kind": "stories", "train_url": "", "valid_url": ""}, "stories are"),
    ],
)
def test_each_fault_is_named(change, message):
    """A single fault gives the message that names value, demand and flag."""
    reading = {name: value for name, value in change.items() if hasattr(ReadingConfig(), name)}
    source = {name: value for name, value in change.items() if name not in reading}
    found = faults(replace(SOUND, **source), replace(ReadingConfig(), **reading))
    assert any(message in fault for fault in found), found
    assert len(found) == (2 if change == {"kind": "stories"} else 1)


def test_all_faults_at_once():
    """A config with several faults reports each of them."""
    source = SourceConfig(kind="url", train_url="x", valid_sha256="y", n_train_stories=0, seed=-3)
    assert len(faults(source, ReadingConfig(max_train_bytes=-1))) == 6


@pytest.mark.parametrize("config", [SourceConfig, ReadingConfig])
def test_every_field_is_explained(config):
    """One sentence stands under each field: it becomes the help of the flag."""
    import ast
    import inspect

    (body,) = ast.parse(inspect.getsource(config)).body
    assert isinstance(body, ast.ClassDef)
    named = [
        node.target.id
        for node, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and str(after.value.value).endswith(".")
    ]
    assert named == [field.name for field in fields(config)]
