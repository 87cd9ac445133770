"""What the key-value cache buys: ``python -m benchmarks.generation``.

The same greedy continuation of the same prompts, by `generate` with its cache, and by reading the
whole prefix anew for each token (of which only the last position's logits are made). Both in one
process, in turns; the ratio is that of one round, in processor seconds, and the median of the
rounds is told. The weights are untrained, so what is written is noise, and the work that of a
trained model. If the two write different tokens, it says so and ends with exit status 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import facts
from benchmarks.training.cases import CASES
from lmcore.generation.generate import generate
from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.model.positions import model_rotary_tables
from lmcore.model.transformer import hidden_states, output_logits

PROMPT_TOKENS = 8


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table and, with ``--json``, write the figures."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    found = [measure(name, batch, options) for name in options.size for batch in options.batch]
    print(report(found, options))
    if options.json:
        value = {"machine": facts("cpu"), "tokens": options.tokens, "measured": found}
        options.json.write_text(json.dumps(value, indent=1) + "\n")
    if not all(one["equal"] for one in found):
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.generation", description=__doc__)
    parser.add_argument("--size", nargs="+", choices=CASES, default=["1m", "10m"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="prompts at once")
    parser.add_argument("--tokens", type=int, default=256, help="prompt and new tokens together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def measure(name: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both ways, round by round, and whether they wrote the same."""
    config = CASES[name].model
    params = init_params(config, seed=0)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(config.vocab_size, (batch, PROMPT_TOKENS), generator=generator)
    new = min(options.tokens, config.context_length) - PROMPT_TOKENS
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "cache": lambda: generate(params, config, prompts, new, temperature=0),
        "anew": lambda: generate_anew(params, config, prompts, new),
    }
    written = {way: work() for way, work in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, work in ways.items():
            began = time.process_time()
            work()
            seconds[way].append(time.process_time() - began)
    equal = written["cache"] == written["anew"]
    return {"size": name, "batch": batch, "new": new, "seconds": seconds, "equal": equal}


@torch.no_grad()
def generate_anew(
    params: Mapping[str, Tensor], config: ModelConfig, prompts: Tensor, new: int
) -> list[list[int]]:
    """Greedy, the whole prefix read for each token; it must fit the context."""
    rotary, tokens = model_rotary_tables(config), prompts
    for _ in range(new):
        last = hidden_states(params, config, tokens, rotary=rotary)[:, -1]
        chosen = output_logits(params, last).argmax(-1)
        tokens = torch.cat((tokens, chosen[:, None]), dim=1)
    return tokens[:, prompts.shape[1] :].tolist()


def report(found: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The figures as text."""
    machine = facts("cpu")
    lines = [
        f"{machine['device']}, {options.threads} thread(s), Python {machine['python']}, "
        f"torch {machine['torch']}",
        f"greedy, from {PROMPT_TOKENS} tokens to {PROMPT_TOKENS + found[0]['new']}; tokens a "
        f"processor second, median of {options.rounds} rounds",
        "",
        f"{'model':>8}{'prompts':>9}{'with cache':>12}{'anew':>9}{'times':>7}",
    ]
    for one in found:
        written = one["batch"] * one["new"]
        cache, anew = one["seconds"]["cache"], one["seconds"]["anew"]
        times = median(b / a for a, b in zip(cache, anew, strict=True))
        lines.append(
            f"{one['size']:>8}{one['batch']:>9}{written / median(cache):>12,.0f}"
            f"{written / median(anew):>9,.0f}{times:>7.1f}"
            + ("" if one["equal"] else "  NOT THE SAME TOKENS")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
