"""Generation with and without its cache, side by side."""

import json

import pytest

from benchmarks import generation


def test_a_small_run_from_prompts_to_table(tmp_path, capsys):
    """Both ways write the same tokens; the table and the figures tell their speed."""
    path = tmp_path / "figures.json"
    arguments = ["--size", "tiny", "--batch", "1", "2", "--tokens", "14", "--rounds", "2"]
    generation.main([*arguments, "--json", str(path)])
    assert "from 8 tokens to 14" in capsys.readouterr().out
    found = json.loads(path.read_text())["measured"]
    assert [(one["batch"], one["new"], one["equal"]) for one in found] == [
        (1, 6, True),
        (2, 6, True),
    ]
    assert all(len(times) == 2 for one in found for times in one["seconds"].values())


def test_other_tokens_are_told(monkeypatch, capsys):
    """Where the two differ, the table says so and the exit status is 1."""
    monkeypatch.setattr(generation, "generate", lambda *a, **k: [[0]])
    with pytest.raises(SystemExit, match="1"):
        generation.main(["--size", "tiny", "--batch", "1", "--tokens", "10", "--rounds", "1"])
    assert "NOT THE SAME TOKENS" in capsys.readouterr().out
