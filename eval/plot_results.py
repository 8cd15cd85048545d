"""Draw the committed results of reranking and of the prefix tree.

python eval/plot_results.py     # reads results/*.json, writes results/*.svg
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
BLUE, GREY = "#1f5fa8", "#8a8f98"


def plot_reranking() -> Figure:
    """nDCG@10 of every row of the discrimination table, with 95 % intervals."""
    document = json.loads((RESULTS / "rerank_movielens.json").read_text())
    rows = document["discrimination"]["rows"][::-1]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        value = row["values"]["ndcg@10"]
        colour = BLUE if row["name"].startswith("LM") else GREY
        axes.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(value["mean"], place, "o", color=colour)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_xlabel("nDCG@10 with 95 % intervals")
    axes.grid(axis="x", color="#e3e5e8")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure


def plot_engine() -> Figure:
    """Seconds of each way to score the same candidates, relative to the prefix tree."""
    document = json.loads((RESULTS / "benchmark_engine.json").read_text())
    names = {
        "tree": "prefix tree",
        "dense": "dense prefill of as many tokens",
        "plain": "whole prompts, padded batch",
        "cross_encoder": "CrossEncoder with LogitScore",
    }
    lists = document["lists"]
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for axes, entry in zip(figure.subplots(1, len(lists), sharey=True), lists, strict=True):
        ratios = [entry[f"seconds_{name}"] / entry["seconds_tree"] for name in names]
        colours = [BLUE if name == "tree" else GREY for name in names]
        bars = axes.barh(list(names.values()), ratios, color=colours)
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set_title(f"{entry['candidates']} candidates", fontsize=10)
        axes.set_xlabel("time, prefix tree = 1")
        axes.set_xlim(0, max(ratios) * 1.2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()  # shared by all
    return figure


def main(folder: Path = RESULTS) -> None:
    """Draw all of it; the same results give the same bytes."""
    mpl.rcParams["svg.hashsalt"] = "llmrec"
    for name, plot in (("rerank_movielens", plot_reranking), ("benchmark_engine", plot_engine)):
        plot().savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
