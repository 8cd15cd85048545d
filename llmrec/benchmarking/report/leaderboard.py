"""The leaderboard as markdown: the numbers and words of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmrec.benchmarking.attacks import AttackRow
from llmrec.benchmarking.report.sections import (
    ATTACK_HEADS,
    ATTACKS_KEY,
    attack_cells,
    metric_table,
)
from llmrec.benchmarking.report.text import (
    MEDIAN,
    METRIC_NAME,
    NOTHING,
    SLOW,
    TOKENS,
    RankedRow,
    Versus,
    amount,
    counted,
    finding,
    interval,
    question,
    ranked_rows,
    reference_name,
    seconds,
    signed,
)
from llmrec.benchmarking.results import PEAK, PRICE
from llmrec.benchmarking.summary import Summary, SummaryRow

_MARKUP = "\\|<>*_`[]"
LEADERBOARD_KEY = (
    "Brackets are 95 % intervals. ▲ better, ▼ worse, ≈ not significantly different, ? too few "
    "users to tell: Holm-corrected p ≤ .05, paired by user; the numbers beside them are "
    "differences. Tokens forwarded, seconds and prices are per user."
)


def leaderboard_markdown(summary: Summary) -> str:
    """``leaderboard.md``: the finding, and the rows, best first."""
    lines = ranked_rows(summary)
    more = [name for name in (PEAK, PRICE) if any(name in line.row.cost for line in lines)]
    heads = (
        "#",
        "row",
        METRIC_NAME,
        "vs best",
        f"vs {reference_name(summary)}",
        "faults",
        "tokens",
        "p50",
        "p95",
    )
    table = [(*heads, *more), ("---:", "---", *["---:"] * (len(heads) + len(more) - 2))]
    table += [
        (
            line.mark,
            _marked(line),
            interval(line.score) if math.isfinite(line.score.mean) else NOTHING,
            verdict_cell(line.best),
            verdict_cell(line.reference),
            *cost_cells(line.row),
            *(extra_cost(line.row, name) for name in more),
        )
        for line in lines
    ]
    parts = [
        f"# {_plain(finding(summary, lines))}",
        _plain(question(summary)),
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        LEADERBOARD_KEY,
        *_not_as_asked(lines),
        *_all_metrics(lines),
        *(
            [f"## Prompt injection\n\n{attack_markdown(summary.attacks)}"]
            if summary.attacks
            else []
        ),
    ]
    command = summary.about.get("command")
    if command:
        parts.append(f"```\n{_one_line(str(command)).replace('```', '')}\n```")
    return "\n\n".join(parts) + "\n"


def _all_metrics(lines: Sequence[RankedRow]) -> list[str]:
    """Every metric of every row, with its interval."""
    found = metric_table(lines)
    if found is None:
        return []
    rows = [("row", *found.columns), ("---", *["---:"] * len(found.columns))]
    rows += [
        (_plain(row.name), *(interval(cell) if cell else NOTHING for cell in cells))
        for row, cells in found.lines
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return [f"## All metrics\n\n{table}\n\n{found.key}"]


def attack_markdown(rows: Sequence[AttackRow]) -> str:
    """The table of attacks, with its key."""
    table = [ATTACK_HEADS, ("---", "---", *["---:"] * (len(ATTACK_HEADS) - 2))]
    table += [tuple(map(_plain, attack_cells(row))) for row in rows]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"{lines}\n\n{ATTACKS_KEY}"


def _not_as_asked(lines: Sequence[RankedRow]) -> list[str]:
    """Faults and fallbacks, row by row."""
    told = [
        f"- {_plain(line.row.name)}: {_plain(said)}"
        for line in lines
        if (said := counted({**line.row.faults, **line.row.fallbacks}))
    ]
    return ["\n".join(["Faults and fallbacks, over all users:", "", *told])] if told else []


def cost_cells(row: SummaryRow) -> tuple[str, str, str, str]:
    """Faults, tokens and seconds; dashes for baselines."""
    if row.kind != "cell":
        return (NOTHING, NOTHING, NOTHING, NOTHING)
    cost = row.cost
    return (
        str(sum(row.faults.values())),
        amount(cost.get(TOKENS, math.nan)),
        seconds(cost.get(MEDIAN, math.nan)),
        seconds(cost.get(SLOW, math.nan)),
    )


def extra_cost(row: SummaryRow, name: str) -> str:
    """Memory or price, a dash where unknown."""
    value = row.cost.get(name)
    return NOTHING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def verdict_cell(call: Versus | None) -> str:
    """The verdict and the difference, a dash where nothing was compared."""
    if call is None:
        return NOTHING
    return f"{call.mark} {signed(call.comparison.difference)}"


def _marked(line: RankedRow) -> str:
    kind = "" if line.row.kind in ("cell", line.row.name) else f" ({line.row.kind})"
    missing = f" ({line.missing})" if line.missing else ""
    dropped = f" (dropped {_plain(line.row.dropped)})" if line.row.dropped else ""
    return f"{_plain(line.row.name)}{kind}{missing}{dropped}"


def _plain(text: str) -> str:
    """Text with markdown escaped."""
    return "".join(f"\\{c}" if c in _MARKUP else c for c in _one_line(text))


def _one_line(text: str) -> str:
    """Text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
