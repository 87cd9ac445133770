"""The figures of docs/training.md are what the command prints, and say what the page says."""

import doctest
import math
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.lessons import accounting, arithmetic, depth, norms
from benchmarks.lessons.command import PARTS, main
from lmcore.model.counts import count_params, forward_flops

DOCS = Path(__file__).parents[3] / "docs"
TABLE = re.compile(r"<!-- lesson:(\w+) -->\n\n(.*?)\n\n<!-- /lesson -->", re.DOTALL)
COUNTED = ("parameters", "flops", "memory", "rope")


def tables() -> dict[str, str]:
    """The tables of the pages by part."""
    pages = (DOCS / "training.md").read_text() + (DOCS / "model.md").read_text()
    found = TABLE.findall(pages)
    assert len(found) == len(dict(found)), "a part stands twice"
    return dict(found)


def numbers(table: str) -> list[float]:
    """The numbers in a table's cells."""
    cells = [cell.strip() for cell in table.replace("\n", "|").split("|")]
    return [float(cell) for cell in cells if re.fullmatch(r"-?[\d.]+(e[+-]\d+)?|nan|inf", cell)]


def test_every_part_stands_in_a_page() -> None:
    """The command's parts are the tables of the pages."""
    assert set(tables()) == set(PARTS)


@pytest.mark.parametrize("name", COUNTED)
def test_counted_tables_are_the_commands(name: str) -> None:
    """What no rounding can touch is in the page character by character."""
    assert tables()[name] == PARTS[name]()


@pytest.mark.parametrize("name", ["depth", "precision"])
def test_measured_tables_are_the_commands(name: str) -> None:
    """Measured numbers are the page's, up to the last digit shown."""
    said, found = numbers(tables()[name]), numbers(PARTS[name]())
    assert found == pytest.approx(said, rel=0.15, nan_ok=True)
    assert len(said) > 8


def test_shares_are_those_of_the_parts() -> None:
    """XL's shares add up to all of it, and a long context gives attention more than half."""
    for name, context in (("GPT-2 XL", 1_024), ("XL, context 16,384", 16_384)):
        model = accounting.GPT2[name]
        assert model.context_length == context
        found = forward_flops(model, 1, context)
        share = (found.attention_scores + found.attention_values) / found.total
        assert (share > 0.5) == (context == 16_384)
    assert count_params(accounting.GPT2["GPT-2 XL"]).total == 2_127_057_600  # the handout's answer


def test_gradient_of_the_last_layer_by_depth() -> None:
    """Four times the depth halves it with pre-norm, and leaves it with post-norm."""

    def last(position: str, n_layers: int) -> float:
        model = replace(depth.MODEL, n_layers=n_layers, **depth.CHOICES[position])
        return depth.look(model).gradients[-1]

    # 1/sqrt(4), give or take a fifth: the seed decides one of some dozen matrices.
    assert last("pre-norm", 48) / last("pre-norm", 12) == pytest.approx(0.5, rel=0.2)
    assert last("post-norm", 48) / last("post-norm", 12) > 0.8


def test_score_depends_on_the_distance_only() -> None:
    """Wherever the key stands; another distance is another score."""
    by_distance = {d: [arithmetic.scores(d, s) for s in (0, 100, 1_000)] for d in (0, 1, 8)}
    for found in by_distance.values():
        # Angles of up to 1,000 radians are exact to 6e-5 in float32.
        assert max(found) - min(found) < 1e-3
    assert len({round(found[0], 2) for found in by_distance.values()}) == 3


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_split_does_not_matter_and_a_mean_of_means_does(n: int) -> None:
    """Our gradients differ by rounding; means of unequal parts by per cents."""
    _, whole = arithmetic.gradients("float32")
    # Eight parts of a sum in float32: a few times 1.2e-7.
    assert arithmetic.difference(arithmetic.gradients("float32", n)[1], whole) < 2e-6
    assert (arithmetic.difference(arithmetic.mean_of_means(n), whole) > 0.01) == (8 % n != 0)


def test_small_updates_are_lost_in_bfloat16() -> None:
    """From 2^-8 on, nothing is added to 1; float32 adds all of them."""
    assert arithmetic.added(torch.bfloat16, -8) == 1.0
    assert arithmetic.added(torch.bfloat16, -7) > 1.0
    assert arithmetic.added(torch.float32, -9) == 1.5


def test_trials_learn_from_the_first_step() -> None:
    """A trial's losses are finite and fall; without norms they do not stay finite."""
    found = norms.losses(norms.TRIALS[0], steps=12)
    assert len(found) == 12
    assert found[-1] < found[0]
    unnormed = next(trial for trial in norms.TRIALS if trial.name == "no norm")
    assert not math.isfinite(norms.losses(unnormed, steps=3)[-1])


@pytest.mark.slow
def test_warm_up_is_needed_after_the_sum_only() -> None:
    """The table of norms says what the page says."""
    first, last = {}, {}
    for trial in norms.TRIALS:
        losses = norms.losses(trial)
        first[trial.name, trial.warmup_steps] = losses[0]
        last[trial.name, trial.warmup_steps] = sum(losses[-10:]) / 10
    assert last["LayerNorm, pre", 30] == pytest.approx(last["RMSNorm, pre", 30], rel=0.1)
    assert last["RMSNorm, pre", 1] == pytest.approx(last["RMSNorm, pre", 30], rel=0.2)
    assert last["RMSNorm, post", 30] < 0.5
    assert last["RMSNorm, post", 1] > 2.0
    assert math.isinf(last["no norm", 30])


def test_command_prints_the_parts_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Each under its name, in the order asked for; an unknown one is refused by name."""
    main(["flops", "parameters"])
    shown = capsys.readouterr().out
    assert shown == f"flops\n\n{accounting.flops()}\n\nparameters\n\n{accounting.parameters()}\n\n"
    with pytest.raises(SystemExit):
        main(["floops"])
    assert "there is no part 'floops'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["accounting", "norms", "arithmetic"])
def test_examples(name: str) -> None:
    """The examples in the docstrings give what stands under them."""
    found = doctest.testmod(import_module(f"benchmarks.lessons.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
