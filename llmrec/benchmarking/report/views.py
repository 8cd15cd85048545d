"""The parts of the page as the templates read them: every number placed, nothing left to count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrec.benchmarking.answers import PEAK, PRICE
from llmrec.benchmarking.entries import RETRIEVER
from llmrec.benchmarking.report.charts import Bar, Frontier, bar, frontier
from llmrec.benchmarking.report.formats import amount, counted, share
from llmrec.benchmarking.report.scales import Scale, Tick, linear
from llmrec.benchmarking.report.standings import (
    METRIC_NAME,
    Standing,
    common_settings,
    own_settings,
)
from llmrec.benchmarking.sensitivity import Settings
from llmrec.benchmarking.summary import SummaryRow, partial_rows
from llmrec.evaluation.significance import Estimate

TOKENS, GIVEN, GENERATED = "tokens forwarded", "tokens given", "tokens generated"
MEDIAN, SLOW = "seconds p50", "seconds p95"
_UNREAD = ("revision", "seed", "variant_of")
"""Common settings that stand under "How to run it again" alone."""

_ELSEWHERE = ("calibration error",)
_MEANING = {
    "popularity lift": "Popularity lift: how much more popular they are than the candidates; .2 is "
    "20 % more, on the dashed line it is neither more nor less.",
    "coverage": "Coverage: the share of all candidates that anybody is shown.",
    "gini": "Gini: 0 where all are shown alike, towards 1 where a few always are.",
    "novelty": "Novelty: in bits, higher for what fewer users have met.",
    "intra-list diversity": "Intra-list diversity: how far apart two items of a list are.",
    "length bias": "Length bias: above 0 where long titles come first.",
    "order sensitivity": "Order sensitivity: how far a user's own nDCG@10 moves with the order.",
    "paraphrase sensitivity": "Paraphrase sensitivity: the same among a template's wordings.",
    "gain on reached": "Gain on reached: nDCG@10 above the retriever's where it found the item.",
}
LIFT = "popularity lift"
_NEUTRAL = 0.0
"""The popularity lift of a ranking that is as popular as what it chose from."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the leaderboard."""

    standing: Standing
    bar: Bar | None
    best: bool
    retriever: bool
    asked: bool
    about: str
    faults: int
    fault_detail: str
    fallbacks: str
    tokens: float | None
    token_detail: str
    median: float | None
    slow: float | None
    spent: str


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard and the axis that its intervals share."""

    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    reference: float | None
    common: str


@dataclass(frozen=True, slots=True)
class BeyondLine:
    """A row's figures that are not accuracy, as text; ``bar`` places its popularity lift."""

    name: str
    kind: str
    cells: tuple[str | None, ...]
    bar: float | None


@dataclass(frozen=True, slots=True)
class Beyond:
    """All rows' figures that are not accuracy."""

    columns: tuple[str, ...]
    lines: tuple[BeyondLine, ...]
    neutral: float
    key: str


@dataclass(frozen=True, slots=True)
class SplitCell:
    """A row in one group of users; ``most``: no prompt is higher there."""

    value: Estimate
    bar: Bar
    most: bool


@dataclass(frozen=True, slots=True)
class SplitLine:
    """A row in every group."""

    name: str
    kind: str
    cells: tuple[SplitCell | None, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """One way to part the users."""

    name: str
    groups: tuple[str, ...]
    lines: tuple[SplitLine, ...]


def board(lines: Sequence[Standing], best: str) -> Board:
    """Place the leaderboard's rows on one axis."""
    rows = [line.row for line in lines]
    common = common_settings(rows)
    known = [line for line in lines if math.isfinite(line.score.mean)]
    # The oracle is far above all others where every list holds its target: it ends no axis.
    inner = [line for line in known if line.row.kind != "oracle"] or known
    ends = [end for line in inner for end in (line.score.low, line.score.high)]
    scale = linear(ends, lambda value: share(value, 1))
    retriever = [line.score.mean for line in known if line.row.name == RETRIEVER]
    return Board(
        lines=tuple(_line(line, scale, best, common) for line in lines),
        ticks=scale.ticks,
        reference=scale.at(retriever[0]) if retriever else None,
        common=settings_text(
            {k: v for k, v in common.items() if k not in _UNREAD and v is not False}
        ),
    )


def frontiers(lines: Sequence[Standing]) -> tuple[Frontier, ...]:
    """Quality against tokens and against seconds, where there are enough rows that cost any.

    Rows of too few users are left out: their means are of other users.
    """
    partial = partial_rows([line.row for line in lines])
    made = [
        frontier(
            title,
            [
                (
                    line.mark,
                    line.row.kind,
                    line.row.name,
                    line.row.cost.get(key, 0),
                    line.score.mean,
                )
                for line in lines
                if math.isfinite(line.score.mean)
                and line.row.kind != "oracle"
                and line.row.name not in partial
            ],
            METRIC_NAME,
            unit,
        )
        for title, key, unit in (
            ("tokens forwarded a user", TOKENS, "tokens a user"),
            ("seconds a user, median", MEDIAN, "seconds a user"),
        )
    ]
    return tuple(chart for chart in made if chart is not None)


def beyond(lines: Sequence[Standing]) -> Beyond:
    """The figures that are not accuracy, popularity lift first where it is known."""
    named = [(line.row, line.row.beyond) for line in lines if line.row.beyond]
    keys = list(dict.fromkeys(key for _, values in named for key in values))
    keys = [key for key in keys if key not in _ELSEWHERE]
    keys.sort(key=lambda key: key != LIFT)
    lifts = [values[LIFT] for _, values in named if math.isfinite(values.get(LIFT, math.nan))]
    scale = linear([*lifts, _NEUTRAL], str)
    return Beyond(
        columns=tuple(key[:1].upper() + key[1:].replace("_", " ") for key in keys),
        lines=tuple(
            BeyondLine(
                row.name,
                row.kind,
                tuple(figure(values.get(key)) for key in keys),
                scale.at(values[LIFT]) if math.isfinite(values.get(LIFT, math.nan)) else None,
            )
            for row, values in named
        ),
        neutral=scale.at(_NEUTRAL),
        key=" ".join(text for key, text in _MEANING.items() if key in keys),
    )


def splits(
    found: Mapping[str, Mapping[str, Mapping[str, Estimate]]], lines: Sequence[Standing]
) -> tuple[Split, ...]:
    """The rows in every group of users, all on one axis."""
    values = [v for groups in found.values() for rows in groups.values() for v in rows.values()]
    scale = linear([end for v in values for end in (v.low, v.high)], share)
    return tuple(_split(name, groups, lines, scale) for name, groups in found.items() if groups)


def settings_text(settings: Settings) -> str:
    """Settings as one line: ``model SmolLM2, history items 10``."""
    said = []
    for key, value in settings.items():
        name = key.replace("_", " ")
        if isinstance(value, bool):
            said.append(name if value else f"no {name}")
        elif value != "":
            said.append(f"{name} {value}")
    return ", ".join(said)


def figure(value: float | None) -> str | None:
    """A figure of any size: shares as ``.512``, all else with one or two decimals."""
    if value is None or not math.isfinite(value):
        return None
    if abs(value) < 1:
        return share(value)
    return share(value, 2) if abs(value) < 100 else amount(value)


def _line(line: Standing, scale: Scale, best: str, common: Settings) -> Line:
    row, cost = line.row, line.row.cost
    tokens = [
        f"{amount(cost[key])} {key.removeprefix('tokens ')}"
        for key in (GIVEN, TOKENS, GENERATED)
        if key in cost
    ]
    return Line(
        standing=line,
        bar=bar(scale, line.score) if math.isfinite(line.score.mean) else None,
        best=row.name == best,
        retriever=row.name == RETRIEVER,
        asked=row.kind == "cell",
        about=", ".join(filter(None, (line.missing, settings_text(own_settings(row, common))))),
        faults=sum(row.faults.values()),
        fault_detail=counted(row.faults),
        fallbacks=counted(row.fallbacks),
        tokens=cost.get(TOKENS),
        token_detail=", ".join(tokens),
        median=cost.get(MEDIAN),
        slow=cost.get(SLOW),
        spent=spent(cost),
    )


def spent(cost: Mapping[str, float]) -> str:
    """Memory and money, where they are known."""
    parts = [f"{cost[PEAK]:,.0f} MiB at the peak"] if PEAK in cost else []
    parts += [f"price {cost[PRICE]:.2g}"] if PRICE in cost else []
    return ", ".join(parts)


def _split(
    name: str,
    groups: Mapping[str, Mapping[str, Estimate]],
    lines: Sequence[Standing],
    scale: Scale,
) -> Split:
    rows: list[SummaryRow] = [
        line.row for line in lines if any(line.row.name in group for group in groups.values())
    ]
    cells = {row.name for row in rows if row.kind == "cell"}
    most = {
        group: max((v.mean for row, v in values.items() if row in cells), default=math.inf)
        for group, values in groups.items()
    }

    def cell(row: SummaryRow, group: str) -> SplitCell | None:
        value = groups[group].get(row.name)
        if value is None or not math.isfinite(value.mean):
            return None
        top = row.kind == "cell" and value.mean >= most[group]
        return SplitCell(value, bar(scale, value), top)

    return Split(
        name.replace("_", " "),
        tuple(groups),
        tuple(SplitLine(r.name, r.kind, tuple(cell(r, group) for group in groups)) for r in rows),
    )
