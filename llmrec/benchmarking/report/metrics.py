"""All metrics of all rows, for the page and for ``leaderboard.md``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.benchmarking.entries import CUTOFFS
from llmrec.benchmarking.report.standings import Standing
from llmrec.evaluation import Estimate

_NAMES = {
    **{f"ndcg@{k}": f"nDCG@{k}" for k in CUTOFFS},
    "ndcg@10 reached": "nDCG@10 where reached",
    **{f"recall@{k}": f"recall@{k}" for k in CUTOFFS},
    "mrr": "MRR",
}
KEY = (
    "Means with 95 % intervals. One item a user is held out: the hit rate is the recall, "
    "MAP the MRR. summary.json has them with every cutoff."
)


@dataclass(frozen=True, slots=True)
class MetricLine:
    """A row's metrics; None where no user has a value."""

    name: str
    kind: str
    cells: tuple[Estimate | None, ...]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """Every row's metrics, in the order of the leaderboard."""

    columns: tuple[str, ...]
    lines: tuple[MetricLine, ...]
    key: str = KEY


def metric_table(lines: Sequence[Standing]) -> MetricTable | None:
    """The metrics that any row has beside the one it is placed by; None where there is no other."""
    known = [name for name in _NAMES if any(name in line.row.metrics for line in lines)]
    if len(known) < 2:
        return None
    return MetricTable(
        tuple(_NAMES[name] for name in known),
        tuple(
            MetricLine(line.row.name, line.row.kind, tuple(_cell(line, name) for name in known))
            for line in lines
        ),
    )


def _cell(line: Standing, name: str) -> Estimate | None:
    value = line.row.metrics.get(name)
    return value if value is not None and math.isfinite(value.mean) else None
