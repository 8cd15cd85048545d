"""Makes ``report.html``: one file that needs no network, readable without scripts."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmrec.benchmarking.disagreements import Disagreement, RankedTitle
from llmrec.benchmarking.report import text
from llmrec.benchmarking.report.charts import (
    Frontier,
    bin_labels,
    position_curves,
    reliability_curves,
    wins,
)
from llmrec.benchmarking.report.sections import (
    ATTACK_HEADS,
    ATTACKS_KEY,
    attack_cells,
    board,
    frontiers,
    group_tables,
    measure_table,
    metric_table,
)
from llmrec.benchmarking.report.text import (
    METRIC_NAME,
    RankedRow,
    best_row,
    ranked_rows,
    reference_name,
    verdicts,
)
from llmrec.benchmarking.summary import PLAN, Summary, SummaryRow
from llmrec.items import picture_uri

logger = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).parent / "templates"

_SECTIONS = {
    "leaderboard": "Leaderboard",
    "cost": "Cost",
    "position": "Position",
    "wording": "Paraphrases",
    "metrics": "Metrics",
    "popularity": "Popularity",
    "splits": "User groups",
    "attacks": "Prompt injection",
    "probabilities": "Calibration",
    "wins": "User by user",
    "disagreements": "Disagreements",
    "again": "Reproduce",
}


def render_report(summary: Summary, disagreements: Sequence[Disagreement] = ()) -> str:
    """The report of a benchmark as one HTML file.

    The same summary and pictures give the same page. Everything from data, templates and models is
    escaped; the page's policy allows its own script alone.

    Args:
        summary: What the benchmark found.
        disagreements: The users to show; all of one pair of rows.
    """
    lines = ranked_rows(summary)
    best = best_row(summary.rows)
    context = {
        **_found(summary, lines, best),
        **_pair(summary, disagreements, best),
        **_again(summary),
        "cases": [case(one) for one in disagreements],
        "attacks": [attack_cells(row) for row in summary.attacks],
        "attack_heads": ATTACK_HEADS,
        "attacks_key": ATTACKS_KEY,
        "metric": METRIC_NAME,
        "title": f"llmrec bench: {summary.about.get('dataset', 'report')}",
        "finding": text.finding(summary, lines),
        "question": text.question(summary),
    }
    shown = {"cost": "frontiers", "position": "places", "wins": "pair", "disagreements": "cases",
             "probabilities": "probabilities", "splits": "splits", "wording": "wording",
             "popularity": "measures", "attacks": "attacks"}  # fmt: skip
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
        name: getattr(text, name)
        for name in (
            "share",
            "signed",
            "bounds",
            "amount",
            "seconds",
            "breakable",
            "two_decimals",
            "together",
        )
    }
    return made


def _found(
    summary: Summary, lines: Sequence[RankedRow], best: SummaryRow | None
) -> dict[str, object]:
    """Everything between the question and the pair of rows."""
    order = [line.row.name for line in lines]
    position = {name: summary.position[name] for name in order if summary.position.get(name)}
    spread = {name: summary.order[name] for name in position if name in summary.order}
    position = dict(sorted(position.items(), key=lambda row: -spread.get(row[0], -1.0)))
    charts = frontiers(lines)
    measures = measure_table(lines)
    return {
        "board": board(lines, best.name if best else "", reference_name(summary)),
        "reference": reference_name(summary),
        "frontiers": charts,
        "places": position_curves(position, spread),
        "wording": sorted(summary.paraphrase.items(), key=lambda pair: -pair[1]),
        "metrics": metric_table(lines),
        "measures": measures if measures.lines else None,
        "splits": group_tables(summary.splits, lines),
        "probabilities": reliability_curves(
            {name: summary.reliability[name] for name in order if summary.reliability.get(name)}
        ),
        "notes": {
            "leaderboard": text.leaderboard_note(summary, lines),
            "cost": _cost_note(charts[0]) if charts else "",
            "position": text.position_note(spread),
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
    first, second = _first_pair(disagreements, best, reference_name(summary), list(values))
    if first is None or second is None:
        return {"pair": None}
    known_pairs: dict[str, dict[str, str]] = {name: {} for name in values}
    for (name, other), known in verdicts(summary.contrasts).items():
        if name in values and other in values:
            known_pairs[name][other] = text.together(f"{known.word}, {known.detail}")
    found = wins(first, second, values[first], values[second])
    return {
        "pair": found,
        "pair_names": list(values),
        "pair_verdict": known_pairs[first].get(second, "not compared by a test"),
        "pair_data": {"values": values, "verdicts": known_pairs, "labels": bin_labels()},
        "bin_labels": bin_labels(),
    }


def _first_pair(
    disagreements: Sequence[Disagreement],
    best: SummaryRow | None,
    base: str,
    names: Sequence[str],
) -> tuple[str | None, str | None]:
    """The pair of the disagreements; else the best against the retriever or whatever there is."""
    asked = disagreements[0].rows if disagreements else ()
    wanted = [*asked, *([best.name] if best else []), base, *names]
    pair = list(dict.fromkeys(name for name in wanted if name in names))[:2]
    return (pair[0], pair[1]) if len(pair) == 2 else (None, None)


def _cost_note(chart: Frontier) -> str:
    efficient = sum(point.efficient for point in chart.points)
    return text.cost_note(chart.title.split(maxsplit=1)[0], efficient, len(chart.points))


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
            for name in ("model", "revision", "quantization")
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


_FIRST = 5
"""Ranks that are shown with pictures; the others are folded."""


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One row's prompt and ranking for one user."""

    name: str
    prompt: str
    first: tuple[tuple[int, RankedTitle, str], ...]
    rest: tuple[tuple[int, RankedTitle], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A user with different rankings in two rows."""

    user_id: str
    sentence: str
    history: tuple[str, ...]
    sides: tuple[CaseRow, ...]
    pictured: bool


def case(found: Disagreement) -> Case:
    """A disagreement with its pictures."""
    ranks = [
        next((at for at, entry in enumerate(ranking, start=1) if entry.is_target), None)
        for ranking in found.rankings
    ]
    sides = tuple(
        _side(name, prompt, ranking)
        for name, prompt, ranking in zip(found.rows, found.prompts, found.rankings, strict=True)
    )
    return Case(
        user_id=found.user_id,
        sentence=text.ranks_sentence(found.rows, ranks),
        history=found.history,
        sides=sides,
        pictured=any(picture for side in sides for *_, picture in side.first),
    )


def _side(name: str, prompt: str, ranking: Sequence[RankedTitle]) -> CaseRow:
    """The first ranks and the target with pictures; the others as text."""
    placed = list(enumerate(ranking, start=1))
    first = [(at, entry) for at, entry in placed if at <= _FIRST or entry.is_target]
    return CaseRow(
        name=name,
        prompt=prompt,
        first=tuple((at, entry, picture_uri(entry.image, _SIDE)) for at, entry in first),
        rest=tuple(pair for pair in placed if pair not in first),
    )


_SIDE = 80
"""Pixels of a picture's longer side: shown at half of it, sharp on a phone."""
