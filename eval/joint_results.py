"""Write the tables of the joint representation's evaluations: JSON, markdown and a plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from llmrec.evaluation import Row, compare_rows, json_document, markdown_table

RESULTS = Path(__file__).parent / "results"
BLUE, GREEN, GREY = "#1f5fa8", "#2f8f5b", "#8a8f98"


def write_results(
    name: str,
    title: str,
    facts: Mapping[str, str | int | float],
    rows: Mapping[str, Mapping[str, NDArray[np.float64]]],
    pairs: Sequence[tuple[str, str]],
    about: Mapping[str, Mapping[str, str | int | float]],
    note: str = "",
) -> None:
    """Compare the rows and write ``results/NAME.json``, ``.md`` and ``.svg``."""
    compared = compare_rows(rows, pairs, seed=0, about=about)
    facts = {**facts, **{f"version {n}": version(n) for n in ("llmrec", "torch")}}
    document = {"about": facts, **json.loads(json_document(compared))}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [f"# {title}", "", f"`{facts['command']}`", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items() if key != "command"]
    lines += ["", "Intervals are 95 %, paired by user; p as found and corrected by Holm over the"]
    lines += ["table. Trained rows are each user's mean over their seeds.", "", note, ""]
    text = "\n".join(lines) + markdown_table(compared) + "\n" + settings(compared)
    path.with_suffix(".md").write_text(text)
    sys.stdout.write(text)
    mpl.rcParams["svg.hashsalt"] = "llmrec"
    plot(compared).savefig(path.with_suffix(".svg"), metadata={"Date": None})


def settings(rows: Sequence[Row]) -> str:
    """What each row was run with."""
    known = [row for row in rows if row.about]
    lines = [
        f"- {row.name}: {', '.join(f'{k} {v}' for k, v in row.about.items())}" for row in known
    ]
    return "\n".join(["Settings, chosen on validation targets:", "", *lines]) + "\n"


def plot(rows: Sequence[Row]) -> Figure:
    """recall@20 of every row with its 95 % interval."""
    figure = Figure(figsize=(7, 0.26 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows[::-1]):
        value = row.values["recall@20"]
        colour = BLUE if row.name.startswith("fusion") else GREY
        colour = GREEN if "Cornac" in row.name else colour
        axes.plot([value.low, value.high], [place, place], color=colour, linewidth=2)
        axes.plot(value.mean, place, "o", color=colour)
    axes.set_yticks(range(len(rows)), [row.name for row in rows[::-1]])
    axes.set_xlabel("recall@20 with 95 % intervals")
    axes.grid(axis="x", color="#e3e5e8")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure
