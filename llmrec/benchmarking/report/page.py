"""Writes ``report.html``: one file that needs no network, readable before any script has run."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmrec.benchmarking.entries import RETRIEVER
from llmrec.benchmarking.report import formats, sentences
from llmrec.benchmarking.report.cases import case
from llmrec.benchmarking.report.charts import bin_labels, curves, reliability, spread_of, wins
from llmrec.benchmarking.report.metrics import metric_table
from llmrec.benchmarking.report.pictures import Pictures
from llmrec.benchmarking.report.standings import (
    METRIC_NAME,
    Standing,
    best_row,
    calls,
    standings,
)
from llmrec.benchmarking.report.views import beyond, board, frontiers, splits
from llmrec.benchmarking.summary import PLAN, Disagreement, Summary, SummaryRow

_TEMPLATES = Path(__file__).parent / "templates"

_SECTIONS = {
    "leaderboard": "Leaderboard",
    "cost": "Cost",
    "position": "Position",
    "wording": "Wording",
    "metrics": "Metrics",
    "popularity": "Popularity",
    "splits": "For whom",
    "probabilities": "Probabilities",
    "wins": "User by user",
    "disagreements": "Disagreements",
    "again": "Run it again",
}


def write_report(summary: Summary, disagreements: Sequence[Disagreement], path: Path) -> None:
    """Write the report of a benchmark as one HTML file.

    The same summary and pictures give the same bytes; half a character (a lone surrogate, which
    UTF-8 cannot hold) becomes a question mark. Whatever comes from data, templates and
    models is escaped, and the page's policy lets nothing run but its own script.

    Args:
        summary: What the benchmark found.
        disagreements: The users to show; all of one pair of rows.
        path: The file to write, UTF-8.

    Raises:
        OSError: The file cannot be written.
    """
    path.write_text(
        render_report(summary, disagreements), encoding="utf-8", errors="replace", newline="\n"
    )


def render_report(summary: Summary, disagreements: Sequence[Disagreement] = ()) -> str:
    """The page that ``write_report`` writes."""
    lines = standings(summary)
    best = best_row(summary.rows)
    context = {
        **_found(summary, lines, best),
        **_pair(summary, disagreements, best),
        **_again(summary),
        "cases": _cases(disagreements),
        "metric": METRIC_NAME,
        "title": f"llmrec bench: {summary.about.get('dataset', 'report')}",
        "finding": sentences.finding(summary, lines),
        "question": sentences.question(summary),
    }
    shown = {"cost": "frontiers", "position": "places", "wins": "pair", "disagreements": "cases",
             "probabilities": "probabilities", "splits": "splits", "wording": "wording",
             "popularity": "beyond"}  # fmt: skip
    context["sections"] = [
        (name, title) for name, title in _SECTIONS.items() if context.get(shown.get(name, "title"))
    ]
    style, script = (
        (_TEMPLATES / name).read_text("utf-8").strip() for name in ("style.css", "script.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            **context,
            style=Markup(style),  # noqa: S704  our own files, not a reader's
            script=Markup(script),  # noqa: S704
            script_hash=f"sha256-{digest}",
        )
    )


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        name: getattr(formats, name)
        for name in (
            "share",
            "signed",
            "bounds",
            "amount",
            "seconds",
            "breakable",
            "whole",
            "together",
        )
    }
    return made


def _found(
    summary: Summary, lines: Sequence[Standing], best: SummaryRow | None
) -> dict[str, object]:
    """Everything between the question and the pair of rows."""
    order = [line.row.name for line in lines]
    position = {name: summary.position[name] for name in order if summary.position.get(name)}
    spread = {name: summary.order.get(name, spread_of(row)) for name, row in position.items()}
    position = {name: position[name] for name in sorted(position, key=lambda name: -spread[name])}
    charts = frontiers(lines)
    known = beyond(lines)
    return {
        "board": board(lines, best.name if best else ""),
        "frontiers": charts,
        "places": curves(position, spread),
        "wording": sorted(summary.paraphrase.items(), key=lambda pair: -pair[1]),
        "metrics": metric_table(lines),
        "beyond": known if known.lines else None,
        "splits": splits(summary.splits, lines),
        "probabilities": reliability(
            {name: summary.reliability[name] for name in order if summary.reliability.get(name)}
        ),
        "notes": {
            "leaderboard": sentences.leaderboard_note(summary, lines),
            "cost": sentences.cost_note(charts) if charts else "",
            "position": sentences.position_note(spread),
        },
    }


def _pair(
    summary: Summary, disagreements: Sequence[Disagreement], best: SummaryRow | None
) -> dict[str, object]:
    """The two rows that the page opens with, and what its script needs for any other two."""
    values = {
        row.name: tuple(
            None if math.isnan(value) else round(value, 4) for value in summary.per_user[row.name]
        )
        for row in summary.rows
        if summary.per_user.get(row.name)
    }
    first, second = _first_pair(disagreements, best, list(values))
    if first is None or second is None:
        return {"pair": None}
    verdicts: dict[str, dict[str, str]] = {name: {} for name in values}
    for (name, other), known in calls(summary.contrasts).items():
        if name in values and other in values:
            verdicts[name][other] = formats.together(f"{known.word}, {known.detail}")
    found = wins(first, second, values[first], values[second])
    return {
        "pair": found,
        "pair_names": list(values),
        "pair_verdict": verdicts[first].get(second, "these two were not tested against each other"),
        "pair_data": {"values": values, "verdicts": verdicts, "labels": bin_labels()},
        "bin_labels": bin_labels(),
    }


def _first_pair(
    disagreements: Sequence[Disagreement],
    best: SummaryRow | None,
    names: Sequence[str],
) -> tuple[str | None, str | None]:
    """The pair of the disagreements; else the best against the retriever or whatever there is."""
    asked = disagreements[0].rows if disagreements else ()
    wanted = [*asked, *([best.name] if best else []), RETRIEVER, *names]
    pair = list(dict.fromkeys(name for name in wanted if name in names))[:2]
    return (pair[0], pair[1]) if len(pair) == 2 else (None, None)


def _cases(disagreements: Sequence[Disagreement]) -> list[object]:
    pictures = Pictures()
    return [case(entry, pictures) for entry in disagreements]


def _again(summary: Summary) -> Mapping[str, object]:
    """What is needed to run the benchmark again."""
    hashes = {
        str(row.settings["template"]): str(row.settings["template_sha256"])
        for row in summary.rows
        if {"template", "template_sha256"} <= set(row.settings)
    }
    cells = [row.settings for row in summary.rows if row.kind == "cell"]
    facts = {
        **summary.about,
        **{
            name: ", ".join(dict.fromkeys(str(own[name]) for own in cells if name in own))
            for name in ("model", "revision", "dtype", "quantization")
            if any(name in own for own in cells)
        },
    }
    return {
        "command": summary.about.get("command", ""),
        "facts": [
            (name.replace("_", " "), f"{value:g}" if isinstance(value, float) else value)
            for name, value in facts.items()
            if name not in {"command", PLAN} and value != ""
        ],
        "plan": summary.about.get(PLAN, ""),
        "hashes": sorted(hashes.items()),
    }
