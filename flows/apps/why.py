"""Say why a stage would be a hit or a miss: field by field, input by input, module by module."""

from pathlib import Path

from flows.arguments import parse, split_preset
from flows.catalog import STAGES
from flows.config import refuse
from flows.run import faults, with_precision
from flows.store.explain import Explanation, render, why
from flows.store.record import Artifact
from flows.trainer.numerics import choose_device
from lmcore.errors import InputError

HELP = f"""usage: lmcore why STAGE [PRESET] [--field value …]

{__doc__}

STAGE is one of {", ".join(STAGES)}; PRESET and the settings are those of `lmcore run`.
Nothing is built, and nothing is changed."""


def main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return 0 if words else 2
    if words[0] not in STAGES:
        raise InputError(f"there is no stage {words[0]!r}: take one of {', '.join(STAGES)}")
    preset, settings = split_preset(words[1:])
    for line in explain(words[0], preset, settings):
        print(line)
    return 0


def explain(stage: str, preset: str, settings: list[str]) -> list[str]:
    """The explanation of a stage, or of the first stage before it that is a miss."""
    config, execution = parse(preset, settings)
    refuse(faults(config, execution))
    config = with_precision(config, choose_device(config.numerics.device))
    root = Path(execution.artifacts)
    have: dict[str, Artifact] = {}
    for name in [*before(stage), stage]:
        request = STAGES[name].request(config, have)
        explanation = why(root, request)
        if name == stage:
            return render(explanation)
        if not explanation.hit:
            return [*render(explanation), f"{stage}: not known before {name} has been built"]
        have[name] = found(explanation)
    raise AssertionError(stage)


def before(stage: str) -> list[str]:
    """The stages that a stage depends on, directly or not, in order."""
    order = list(STAGES)
    wanted = set(STAGES[stage].inputs)
    for name in reversed(order):
        if name in wanted:
            wanted |= set(STAGES[name].inputs)
    return [name for name in order if name in wanted]


def found(explanation: Explanation) -> Artifact:
    assert explanation.nearest is not None
    return explanation.nearest
