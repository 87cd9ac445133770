"""Generation with and without its cache, side by side."""

import json

import pytest
import torch

from benchmarks import generation


def test_a_small_run_from_prompts_to_table(tmp_path, capsys):
    """Both ways write the same tokens; the table and the figures tell their speed."""
    path = tmp_path / "figures.json"
    arguments = ["--size", "tiny", "--batch", "1", "2", "--tokens", "14", "--rounds", "2"]
    generation.main([*arguments, "--json", str(path)])
    shown = capsys.readouterr().out
    assert "from 8 tokens to 14" in shown
    assert "its last token" in shown
    found = json.loads(path.read_text())["measured"]
    assert [(one["batch"], one["new"], one["equal"]) for one in found] == [
        (1, 6, True),
        (2, 6, True),
    ]
    for part in ("seconds", "last_seconds"):
        assert all(len(times) == 2 for one in found for times in one[part].values())


def test_other_tokens_are_told(monkeypatch, capsys):
    """Where the two differ, the table says so and the exit status is 1."""
    monkeypatch.setattr(generation, "generate", lambda *a, **k: [[0]])
    with pytest.raises(SystemExit, match="1"):
        generation.main(["--size", "tiny", "--batch", "1", "--tokens", "10", "--rounds", "1"])
    assert "NOT THE SAME TOKENS" in capsys.readouterr().out


def test_a_wrong_last_token_is_told(monkeypatch, capsys):
    """So does a cache that leads to another last token."""
    rubbish = torch.Generator().manual_seed(0)

    def spoil(cache, n_tokens):
        cache.values.copy_(100 * torch.randn(cache.values.shape, generator=rubbish))
        return cache._replace(length=n_tokens)

    monkeypatch.setattr(generation, "advance", spoil)
    with pytest.raises(SystemExit, match="1"):
        generation.main(["--size", "tiny", "--batch", "1", "--tokens", "14", "--rounds", "1"])
    assert "NOT THE SAME TOKENS" in capsys.readouterr().out
