"""The leaderboard for a terminal and as markdown: the numbers and words of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from llmrec.benchmarking.report.sections import metric_table
from llmrec.benchmarking.report.text import (
    MEDIAN,
    METRIC_NAME,
    NOTHING,
    SLOW,
    TOKENS,
    RankedRow,
    Versus,
    amount,
    best_row,
    bounds,
    counted,
    finding,
    interval,
    question,
    ranked_rows,
    reference_name,
    seconds,
    share,
    signed,
)
from llmrec.benchmarking.results import PEAK, PRICE
from llmrec.benchmarking.rows import RETRIEVER
from llmrec.benchmarking.summary import Summary, SummaryRow

_STYLES = {"better": "green", "worse": "red", "not significant": "dim"}
_MARKUP = "\\|<>*_`[]"
_KEY = (
    "Brackets are 95 % intervals. ▲ better, ▼ worse, ≈ not significantly different: Holm-corrected "
    "p ≤ .05, paired by user; the numbers beside them are differences."
)


_WIDE, _NARROW = 110, 76
"""Widths of terminals from which everything fits, and below which costs do not."""


def leaderboard_table(summary: Summary, width: int = _WIDE) -> Table:
    """The rows for a terminal, best first.

    Where ``width`` characters are too few, intervals go below their means and costs are left out.
    """
    wide = width >= _WIDE
    costs = 4 if wide else 3 if width >= _NARROW else 0
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        caption=_KEY if wide else f"{_KEY} See leaderboard.md for all figures.",
        caption_justify="left",
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("row", overflow="fold", ratio=1)
    base = reference_name(summary)
    narrow = "vs re-\ntriever" if base == RETRIEVER else f"vs\n{base.split()[-1]}"
    heads = ["vs best", f"vs {base}"] if wide else ["vs\nbest", narrow]
    heads = [METRIC_NAME, *(["95 %"] if wide else []), *heads]
    for name in (*heads, *("faults", "tokens", "p50", "p95")[:costs]):
        table.add_column(name, justify="right", no_wrap=True)
    best = best_row(summary.rows)
    for line in ranked_rows(summary):
        own = best is not None and line.row.name == best.name
        table.add_row(
            line.mark,
            _name(line, "bold" if own else "" if line.row.kind == "cell" else "dim"),
            *_score(line, "bold" if own else "", wide=wide),
            _call(line.best),
            _call(line.reference),
            *_cost(line.row)[:costs],
        )
    return table


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
            _said(line.best),
            _said(line.reference),
            *_cost(line.row),
            *(_more(line.row.cost.get(name)) for name in more),
        )
        for line in lines
    ]
    parts = [
        f"# {_plain(finding(summary, lines))}",
        _plain(question(summary)),
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        f"{_KEY} Tokens forwarded, seconds and prices are per user.",
        *_not_as_asked(lines),
        *_all_metrics(lines),
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


def _not_as_asked(lines: Sequence[RankedRow]) -> list[str]:
    """Faults and fallbacks, row by row."""
    told = [
        f"- {_plain(line.row.name)}: {_plain(said)}"
        for line in lines
        if (said := counted({**line.row.faults, **line.row.fallbacks}))
    ]
    return ["\n".join(["Faults and fallbacks, over all users:", "", *told])] if told else []


def _cost(row: SummaryRow) -> tuple[str, str, str, str]:
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


def _score(line: RankedRow, style: str, *, wide: bool) -> tuple[Text, ...]:
    """The mean and its interval, side by side or one below the other."""
    known = math.isfinite(line.score.mean)
    mean = Text(share(line.score.mean) if known else NOTHING, style)
    around = Text(bounds(line.score) if known else "", "dim")
    return (mean, around) if wide else (Text("\n").join((mean, around)) if known else mean,)


def _more(value: float | None) -> str:
    """Memory or price, a dash where unknown."""
    return NOTHING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _name(line: RankedRow, style: str) -> Text:
    """The name without control characters, and why the row was dropped."""
    name = Text(_one_line(line.row.name), style)
    if line.missing:
        name.append(f"\n{line.missing}", "dim")
    if said := counted({**line.row.faults, **line.row.fallbacks}):
        name.append(f"\n{_one_line(said)}", "yellow")
    if line.row.dropped:
        name.append(f"\ndropped {_one_line(line.row.dropped)}", "red")
    return name


def _call(call: Versus | None) -> Text:
    if call is None:
        return Text(NOTHING, "dim")
    return Text(_said(call), _STYLES[call.word])


def _said(call: Versus | None) -> str:
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
