"""The picture of languages: tokens for the same text, sorted."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from benchmarks.vocabulary.languages import ENGLISH, Measured

INK = "#7d8590"  # reads on white and on near-black
ENGLISH_ONLY, MANY, WHOLE = "#d9772b", "#3b8fd4", "#3aa676"


def draw_languages(found: Sequence[Measured], path: Path) -> None:
    """Draw how many tokens each language takes relative to English, with each vocabulary.

    The ground is transparent and the ink grey, so that the picture stands on light and dark pages.
    The same figures give the same bytes with the same matplotlib.

    Args:
      found: the languages, English among them.
      path: the SVG file to write.
    """
    english = next(one for one in found if one.language == ENGLISH)
    ranked = sorted(found, key=lambda one: one.novels)
    names = [one.language.name for one in ranked]
    first = [one.novels / english.novels for one in ranked]
    second = [one.many / english.many for one in ranked]
    third = [one.many_whole / english.many_whole for one in ranked]
    # Text stays text: small files, and letters that a reader can search.
    with matplotlib.rc_context({"svg.hashsalt": "languages", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.2, 0.19 * len(ranked) + 1.1), layout="constrained")
        axes = figure.subplots()
        rows = range(len(ranked))
        axes.hlines(rows, second, first, color=INK, lw=0.8, alpha=0.6)
        axes.plot(first, rows, "o", ms=5, color=ENGLISH_ONLY, label="learned from English novels")
        axes.plot(second, rows, "D", ms=4, color=MANY, label="learned from all the languages")
        axes.plot(
            third,
            rows,
            "D",
            ms=4,
            mfc="none",
            color=WHOLE,
            label="the same, cut at white space only",
        )
        axes.axvline(1, color=INK, lw=0.8)
        axes.set_yticks(rows, names, fontsize=8)
        axes.set(xscale="log", ylim=(-0.8, len(ranked) - 0.2))
        axes.set_xlabel("tokens of the Declaration, English = 1", color=INK)
        ticks = [1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.grid(axis="x", color=INK, alpha=0.25, lw=0.6)
        axes.tick_params(colors=INK, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.legend(loc="lower right", labelcolor=INK, frameon=False, fontsize=9)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
