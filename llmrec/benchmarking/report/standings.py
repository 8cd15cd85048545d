"""The order of the rows, and what was shown about each against the best and the retriever."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llmrec.benchmarking.entries import METRIC, RETRIEVER
from llmrec.benchmarking.report.formats import difference, probability
from llmrec.benchmarking.sensitivity import Settings
from llmrec.benchmarking.summary import (
    PairContrast,
    Summary,
    SummaryRow,
    Verdict,
    partial_rows,
)
from llmrec.evaluation.significance import Comparison, Estimate

METRIC_NAME = "nDCG@10"

_TEMPLATE = ("template", "template_sha256")
_MARKS = {"better": "▲", "worse": "▼", "no difference shown": "≈"}


@dataclass(frozen=True, slots=True)
class Call:
    """What the users show about a row against another one."""

    word: Verdict
    against: str
    comparison: Comparison
    p_corrected: float

    @property
    def mark(self) -> str:
        """The word as one character."""
        return _MARKS[self.word]

    @property
    def text(self) -> str:
        """The word in a sentence: ``better than NAME``, ``no difference shown from NAME``."""
        between = "from" if self.word == "no difference shown" else "than"
        return f"{self.word} {between} {self.against}"

    @property
    def detail(self) -> str:
        """The difference with its interval, and the corrected p-value."""
        return f"{difference(self.comparison)}, {probability(self.p_corrected)} (Holm)"


@dataclass(frozen=True, slots=True)
class Standing:
    """A row at its place; the oracle, which no ranking reaches, has none.

    ``missing`` says of how many users the figures are, where these are not all.
    """

    place: int | None
    row: SummaryRow
    score: Estimate
    best: Call | None
    retriever: Call | None
    missing: str = ""

    @property
    def mark(self) -> str:
        """The place as text; a dash for the oracle."""
        return "–" if self.place is None else str(self.place)


def standings(summary: Summary) -> tuple[Standing, ...]:
    """All rows, best nDCG@10 first: the oracle above them, those of too few users behind them."""
    partial = partial_rows(summary.rows)
    rows = sorted(
        summary.rows,
        key=lambda row: (row.kind != "oracle", row.name in partial, -quality(row)),
    )
    best, known = best_row(summary.rows), calls(summary.contrasts)
    users = len(summary.user_ids)
    shown: list[Standing] = []
    place = 0
    for row in rows:
        place += row.kind != "oracle"
        shown.append(
            Standing(
                place=None if row.kind == "oracle" else place,
                row=row,
                score=row.metrics[METRIC],
                best=known.get((row.name, best.name)) if best else None,
                retriever=known.get((row.name, RETRIEVER)),
                missing="" if row.users >= users else f"{row.users:,} of {users:,} users",
            )
        )
    return tuple(shown)


def quality(row: SummaryRow) -> float:
    """The mean nDCG@10; below everything where no user has a value."""
    mean = row.metrics[METRIC].mean
    return -math.inf if math.isnan(mean) else mean


def best_row(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    """The prompt with the highest nDCG@10 of those that answered whole, if there is one."""
    partial = partial_rows(rows)
    cells = [row for row in rows if row.kind == "cell" and row.users]
    whole = [row for row in cells if row.name not in partial] or cells
    return max(whole, key=quality, default=None)


def calls(contrasts: Sequence[PairContrast]) -> Mapping[tuple[str, str], Call]:
    """What was shown about each row against each other one in nDCG@10, by (row, against)."""
    found = {}
    for contrast in contrasts:
        if contrast.metric == METRIC:
            for own in (contrast, _turned(contrast)):
                known = Call(own.verdict, own.against, own.comparison, own.p_corrected)
                found[own.row, own.against] = known
    return found


def common_settings(rows: Sequence[SummaryRow]) -> Settings:
    """The settings of more than half of the cells: said once, not in every row."""
    cells = [row.settings for row in rows if row.kind == "cell"]
    keys = dict.fromkeys(key for own in cells for key in own if key not in _TEMPLATE)
    usual = {key: Counter(own[key] for own in cells if key in own).most_common(1) for key in keys}
    return {key: found[0][0] for key, found in usual.items() if 2 * found[0][1] > len(cells)}


def own_settings(row: SummaryRow, common: Settings) -> Settings:
    """The settings that tell a row from others and that its name does not say already."""
    return {
        key: value
        for key, value in row.settings.items()
        if common.get(key) != value
        and key not in (*_TEMPLATE, "revision", "strategy")
        and (isinstance(value, bool | int) or str(value) not in row.name)
        and f"{key.removesuffix('_items').replace('_', ' ')} {value}" not in row.name
    }


def _turned(contrast: PairContrast) -> PairContrast:
    """The same contrast seen from the other row."""
    seen = contrast.comparison
    turned = replace(seen, difference=-seen.difference, low=-seen.high, high=-seen.low)
    return replace(contrast, row=contrast.against, against=contrast.row, comparison=turned)
