"""What the key-value cache buys: ``python -m benchmarks.generation``.

The same greedy continuation of the same prompts, by `generate` with its cache, and by reading the
whole prefix anew for each token (of which only the last position's logits are made). The whole way
from a short prompt to a length is told, and the last token of it alone, for which one way reads a
token and the other all of them. Both in one process, in turns; the ratio is that of one round, in
processor seconds, and the median of the rounds is told. The weights are untrained, so what is
written is noise, and the work that of a trained model. If the two write different tokens, it says
so and ends with exit status 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
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
from lmcore.model.kv_cache import KeyValueCache, advance, empty_cache
from lmcore.model.positions import model_rotary_tables
from lmcore.model.transformer import hidden_states, output_logits

PROMPT_TOKENS = 8
REPEATS = 20  # of the last token, in a round


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
    whole: dict[str, Callable[[], list[list[int]]]] = {
        "cache": lambda: generate(params, config, prompts, new, temperature=0),
        "anew": lambda: generate_anew(params, config, prompts, new),
    }
    written = {way: work() for way, work in whole.items()}
    tokens = torch.cat((prompts, torch.tensor(written["anew"])), dim=1)[:, :-1]
    last = last_token(params, config, tokens)
    chosen = {way: work().argmax(-1).tolist() for way, work in last.items()}
    repeated = {way: partial(repeat, work) for way, work in last.items()}
    return {
        "size": name,
        "batch": batch,
        "new": new,
        "seconds": in_turns(whole, options.rounds),
        "last_seconds": in_turns(repeated, options.rounds),
        "equal": written["cache"] == written["anew"] and chosen["cache"] == chosen["anew"],
    }


def last_token(
    params: Mapping[str, Tensor], config: ModelConfig, tokens: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """Both ways to the logits after ``tokens``; the cache holds all but the last of them."""
    rotary, batch = model_rotary_tables(config), tokens.shape[0]
    cache = empty_cache(config, batch)
    with torch.no_grad():
        hidden_states(params, config, tokens[:, :-1], cache=cache, rotary=rotary)
    filled = advance(cache, tokens.shape[1] - 1)

    @torch.no_grad()
    def read(ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        hidden = hidden_states(params, config, ids, cache=cache, rotary=rotary)
        return output_logits(params, hidden[:, -1])

    return {
        "cache": partial(read, tokens[:, -1:], filled),
        "anew": partial(read, tokens),
    }


def repeat(work: Callable[[], object]) -> None:
    """Work so often that a clock can read it."""
    for _ in range(REPEATS):
        work()


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each way, round by round."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            began = time.process_time()
            work()
            seconds[way].append(time.process_time() - began)
    return seconds


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
        f"{'':>17}{'the whole way':>28}{'its last token':>28}",
        f"{'model':>8}{'prompts':>9}" + f"{'with cache':>12}{'anew':>9}{'times':>7}" * 2,
    ]
    for one in found:
        lines.append(
            f"{one['size']:>8}{one['batch']:>9}"
            + columns(one["seconds"], one["batch"] * one["new"])
            + columns(one["last_seconds"], one["batch"] * REPEATS)
            + ("" if one["equal"] else "  NOT THE SAME TOKENS")
        )
    return "\n".join(lines)


def columns(seconds: Mapping[str, list[float]], tokens: int) -> str:
    """Tokens a second of both ways, and their ratio."""
    cache, anew = seconds["cache"], seconds["anew"]
    times = median(b / a for a, b in zip(cache, anew, strict=True))
    return f"{tokens / median(cache):>12,.0f}{tokens / median(anew):>9,.0f}{times:>7.1f}"


if __name__ == "__main__":
    main()
