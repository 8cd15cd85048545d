"""The sections of the page as the templates read them: every number placed and formatted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrec.benchmarking.attacks import AttackRow
from llmrec.benchmarking.cells import Settings
from llmrec.benchmarking.report.charts import Bar, Frontier, Scale, Tick, bar, frontier, linear
from llmrec.benchmarking.report.text import (
    GENERATED,
    GIVEN_TOKENS,
    MEDIAN,
    METRIC_NAME,
    SLOW,
    TOKENS,
    RankedRow,
    amount,
    common_settings,
    counted,
    own_settings,
    share,
    signed,
)
from llmrec.benchmarking.results import PEAK, PRICE
from llmrec.benchmarking.rows import CUTOFFS
from llmrec.benchmarking.summary import SummaryRow, partial_rows
from llmrec.evaluation import Estimate

_UNREAD = ("revision", "seed", "variant_of")
"""Common settings that are shown only under "Reproduce this run"."""
_ELSEWHERE = ("calibration error",)
_METRICS = {
    **{f"ndcg@{k}": f"nDCG@{k}" for k in CUTOFFS},
    "ndcg@10 reached": "nDCG@10 where retrieved",
    **{f"recall@{k}": f"recall@{k}" for k in CUTOFFS},
    "mrr": "MRR",
}
METRICS_KEY = (
    "Means with 95 % intervals. With one relevant item a user, the hit rate equals recall and MAP "
    "equals MRR. summary.json has all of them at every cutoff."
)
_MEANING = {
    "popularity lift": "Popularity lift: how much more popular they are than the candidates; .2 is "
    "20 % more, the dashed line is 0.",
    "coverage": "Coverage: share of all candidates that are in anybody's first ten.",
    "gini": "Gini: 0 if all candidates are shown equally often, towards 1 if a few dominate.",
    "novelty": "Novelty: self-information in bits, higher for items that fewer users have met.",
    "intra-list diversity": "Intra-list diversity: mean distance of two items.",
    "length bias": "Length bias: above 0 if long titles come first.",
    "order sensitivity": "Order sensitivity: range of a user's nDCG@10 over candidate orders.",
    "paraphrase sensitivity": "Paraphrase sensitivity: the same over paraphrases of a template.",
    "gain on reached": "Gain on reached: nDCG@10 above the retriever's where the target was found.",
}
LIFT = "popularity lift"
_NEUTRAL = 0.0
"""The popularity lift of a ranking as popular as the candidates."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the leaderboard."""

    ranked: RankedRow
    bar: Bar | None
    best: bool
    reference: bool
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
class MeasureLine:
    """A row's measures beside accuracy; ``bar`` places its popularity lift."""

    name: str
    kind: str
    cells: tuple[str | None, ...]
    bar: float | None


@dataclass(frozen=True, slots=True)
class MeasureTable:
    """All rows' measures beside accuracy."""

    columns: tuple[str, ...]
    lines: tuple[MeasureLine, ...]
    neutral: float
    key: str


@dataclass(frozen=True, slots=True)
class GroupCell:
    """A row in one group of users; ``most``: the highest prompt there."""

    value: Estimate
    bar: Bar
    most: bool


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A row in every group."""

    name: str
    kind: str
    cells: tuple[GroupCell | None, ...]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The rows in groups of users."""

    name: str
    groups: tuple[str, ...]
    lines: tuple[GroupLine, ...]


def board(lines: Sequence[RankedRow], best: str, base: str) -> Board:
    """Place the leaderboard's rows on one axis; ``base`` is the reference row."""
    rows = [line.row for line in lines]
    common = common_settings(rows)
    known = [line for line in lines if math.isfinite(line.score.mean)]
    # The oracle is often far above all others: it does not extend the axis.
    inner = [line for line in known if line.row.kind != "oracle"] or known
    ends = [end for line in inner for end in (line.score.low, line.score.mean, line.score.high)]
    scale = linear(ends, lambda value: share(value, 1))
    reference = [line.score.mean for line in known if line.row.name == base]
    return Board(
        lines=tuple(_line(line, scale, best, base, common) for line in lines),
        ticks=scale.ticks,
        reference=scale.at(reference[0]) if reference else None,
        common=settings_text(
            {k: v for k, v in common.items() if k not in _UNREAD and v is not False}
        ),
    )


def frontiers(lines: Sequence[RankedRow]) -> tuple[Frontier, ...]:
    """Quality against tokens and against seconds, without rows of too few users."""
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


def measure_table(lines: Sequence[RankedRow]) -> MeasureTable:
    """The measures beside accuracy, popularity lift first where it is known."""
    named = [(line.row, line.row.measures) for line in lines if line.row.measures]
    keys = list(dict.fromkeys(key for _, values in named for key in values))
    keys = [key for key in keys if key not in _ELSEWHERE]
    keys.sort(key=lambda key: key != LIFT)
    lifts = [values[LIFT] for _, values in named if math.isfinite(values.get(LIFT, math.nan))]
    scale = linear([*lifts, _NEUTRAL], str)
    return MeasureTable(
        columns=tuple(key[:1].upper() + key[1:].replace("_", " ") for key in keys),
        lines=tuple(
            MeasureLine(
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


def group_tables(
    found: Mapping[str, Mapping[str, Mapping[str, Estimate]]], lines: Sequence[RankedRow]
) -> tuple[GroupTable, ...]:
    """The rows in every group of users, all on one axis."""
    values = [v for groups in found.values() for rows in groups.values() for v in rows.values()]
    scale = linear([end for v in values for end in (v.low, v.mean, v.high)], share)
    return tuple(_split(name, groups, lines, scale) for name, groups in found.items() if groups)


@dataclass(frozen=True, slots=True)
class MetricTable:
    """Every row's metrics in the order of the leaderboard; None where no user has a value."""

    columns: tuple[str, ...]
    lines: tuple[tuple[SummaryRow, tuple[Estimate | None, ...]], ...]
    key: str = METRICS_KEY


def metric_table(lines: Sequence[RankedRow]) -> MetricTable | None:
    """The metrics of all rows; None if they have only the ranking metric."""
    known = [name for name in _METRICS if any(name in line.row.metrics for line in lines)]
    if len(known) < 2:
        return None

    def cell(row: SummaryRow, name: str) -> Estimate | None:
        value = row.metrics.get(name)
        return value if value is not None and math.isfinite(value.mean) else None

    return MetricTable(
        tuple(_METRICS[name] for name in known),
        tuple((line.row, tuple(cell(line.row, name) for name in known)) for line in lines),
    )


ATTACK_HEADS = (
    "row", "field", "lists", "rank as it is", "with harmless words", "with attacks",
    "change of rank", "p (Holm)", "first with harmless words", "first with attacks", "others (tau)",
)  # fmt: skip
ATTACKS_KEY = (
    "Words are planted in one field of one candidate that is no target. Change: rank with attacks "
    "minus rank with harmless words of the same length, with its 95 % interval, users resampled; "
    "below 0 the attacks move the item up. First: share of lists that the item leads. Others: "
    "Kendall's tau of the other candidates' order in both lists, 1 if they keep it."
)


def attack_cells(row: AttackRow) -> tuple[str, ...]:
    """A row of the table of attacks, under `ATTACK_HEADS`."""
    change = row.change
    known = math.isfinite(change.low)
    ends = f" [{signed(change.low, 2)}, {signed(change.high, 2)}]" if known else ""
    return (
        row.row,
        row.field,
        str(row.trials),
        *(share(value.mean, 2) for value in row.ranks.values()),
        f"{signed(change.difference, 2)}{ends}",
        share(row.p_corrected, 3) if known else "too few users",
        *(share(row.top[variant].mean, 2) for variant in ("harmless", "planted")),
        share(row.others, 2),
    )


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


def _line(line: RankedRow, scale: Scale, best: str, base: str, common: Settings) -> Line:
    row, cost = line.row, line.row.cost
    tokens = [
        f"{amount(cost[key])} {key.removeprefix('tokens ')}"
        for key in (GIVEN_TOKENS, TOKENS, GENERATED)
        if key in cost
    ]
    return Line(
        ranked=line,
        bar=bar(scale, line.score) if math.isfinite(line.score.mean) else None,
        best=row.name == best,
        reference=row.name == base,
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
    lines: Sequence[RankedRow],
    scale: Scale,
) -> GroupTable:
    rows: list[SummaryRow] = [
        line.row for line in lines if any(line.row.name in group for group in groups.values())
    ]
    cells = {row.name for row in rows if row.kind == "cell"}
    most = {
        group: max((v.mean for row, v in values.items() if row in cells), default=math.inf)
        for group, values in groups.items()
    }

    def cell(row: SummaryRow, group: str) -> GroupCell | None:
        value = groups[group].get(row.name)
        if value is None or not math.isfinite(value.mean):
            return None
        top = row.kind == "cell" and value.mean >= most[group]
        return GroupCell(value, bar(scale, value), top)

    return GroupTable(
        name.replace("_", " "),
        tuple(groups),
        tuple(GroupLine(r.name, r.kind, tuple(cell(r, group) for group in groups)) for r in rows),
    )
