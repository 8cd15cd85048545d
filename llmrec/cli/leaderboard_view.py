"""The leaderboard of a benchmark on the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from llmrec.benchmarking.attacks import AttackRow
from llmrec.benchmarking.report.leaderboard import (
    LEADERBOARD_KEY,
    cost_cells,
    extra_cost,
    verdict_cell,
)
from llmrec.benchmarking.report.sections import ATTACK_HEADS, ATTACKS_KEY, attack_cells
from llmrec.benchmarking.report.text import (
    METRIC_NAME,
    NOTHING,
    RankedRow,
    Versus,
    best_row,
    bounds,
    counted,
    ranked_rows,
    reference_name,
    share,
)
from llmrec.benchmarking.results import PRICE
from llmrec.benchmarking.summary import Summary
from llmrec.cli.output import safe, table
from llmrec.cli.ranking_view import fallbacks_key

_STYLES = {"better": "green", "worse": "red"}


def leaderboard_view(summary: Summary, width: int = 0) -> Group:
    """The rows, best first, and a key; costs are left out of a narrow one."""
    best, base = best_row(summary.rows), f"vs {reference_name(summary)}"
    names = [name for row in summary.rows for name in row.fallbacks]
    priced = any(PRICE in row.cost for row in summary.rows)
    return table(
        ("#", "row", f">{METRIC_NAME}", ">95 %", ">vs best", f">{base}", ">faults", ">tokens",
         ">p50", ">p95", f">{PRICE}"),
        [
            (
                line.mark,
                _name(line, style := "bold" if best and line.row.name == best.name else ""),
                Text(share(line.score.mean) if math.isfinite(line.score.mean) else NOTHING, style),
                Text(bounds(line.score), "dim"),
                _verdict(line.best),
                _verdict(line.reference),
                *cost_cells(line.row),
                extra_cost(line.row, PRICE) if priced else "",
            )
            for line in ranked_rows(summary)
        ],
        width=width,
        leave_out=("p95", "p50", "tokens", "95 %", "faults", PRICE),
        see="leaderboard.md",
        notes=[LEADERBOARD_KEY, fallbacks_key(names)],
    )  # fmt: skip


def attacks_view(rows: Sequence[AttackRow]) -> Group:
    """How far planted words moved an item, row by row, and a key."""
    first, *rest = ATTACK_HEADS
    return table(
        (first, *(name if name == "field" else f">{name}" for name in rest)),
        [tuple(map(safe, attack_cells(row))) for row in rows],
        leave_out=("others (tau)", "first with harmless words", "rank as it is", "lists", "field"),
        see="leaderboard.md",
        notes=[ATTACKS_KEY],
    )


def _name(line: RankedRow, style: str) -> Text:
    """The name, and below it missing users, faults, fallbacks and why the row was dropped."""
    name = safe(line.row.name, style)
    below = {
        "dim": line.missing,
        "yellow": counted({**line.row.faults, **line.row.fallbacks}),
        "red": f"dropped {line.row.dropped}" if line.row.dropped else "",
    }
    for colour, text in below.items():
        if text:
            name = Text("\n").join((name, safe(text, colour)))
    return name


def _verdict(call: Versus | None) -> Text:
    return Text(verdict_cell(call), "dim" if call is None else _STYLES.get(call.word, "dim"))
