"""What a benchmark found: the tables, the markdown and the report are made of these records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic_core import to_json

from llmrec.evaluation import Comparison, Estimate

SHOWN_AT = 0.05
"""A corrected p-value up to this shows a difference."""

PLAN = "plan"
"""What `Summary.about` calls the benchmark file that a run was made from."""

WHOLE = 0.9
"""The share of the fullest row's users that a row needs to be placed by its mean."""

Kind = Literal["baseline", "cell", "oracle"]
Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the leaderboard.

    ``users`` counts those with a value: a user whose cell failed is in ``faults``, by type, and in
    no figure. ``metrics`` hold ``ndcg``, ``recall``, ``hit``, ``mrr`` and ``map`` ``@`` each cutoff
    and over the whole list (``mrr``, ``map``); of no user at all they are NaN. ``beyond`` holds
    what is not accuracy (``llmrec.benchmarking.beyond``), ``cost`` what it took,
    ``fallbacks`` what did not go as asked. ``dropped`` says why a race left the row behind.
    """

    name: str
    kind: Kind
    settings: Mapping[str, str | int | bool]
    users: int
    metrics: Mapping[str, Estimate]
    beyond: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    dropped: str = ""


def partial_rows(rows: Sequence[SummaryRow]) -> frozenset[str]:
    """Cells of too few users: the means of other users say nothing about which row is better.

    A race left them behind, or they failed. Paired contrasts hold of them as of any.
    """
    cells = [row for row in rows if row.kind == "cell"]
    most = max((row.users for row in cells if not row.dropped), default=0)
    return frozenset(row.name for row in cells if row.dropped or row.users < WHOLE * most)


@dataclass(frozen=True, slots=True)
class PairContrast:
    """``row`` minus ``against`` over the users that both have, in one metric.

    ``p_corrected`` is Holm's over all contrasts of the summary.
    """

    row: str
    against: str
    metric: str
    comparison: Comparison
    p_corrected: float

    @property
    def verdict(self) -> Verdict:
        """What was shown about ``row``."""
        if self.p_corrected > SHOWN_AT:
            return "no difference shown"
        return "better" if self.comparison.difference > 0 else "worse"


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """As many judged candidates as in any other bin: the mean probability, the share of targets."""

    predicted: float
    observed: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A run, summed up.

    ``position`` is nDCG@10 by the place where the target was planted; ``order`` the best place's
    mean minus the worst's; ``paraphrase`` the same among the wordings of one template. ``splits``
    are nDCG@10 in groups of users. ``per_user`` is nDCG@10 in the order of ``user_ids``, NaN where
    a row has no value for a user. ``reliability`` is there for rows whose scores are probabilities.
    """

    about: Mapping[str, str | int | float]
    rows: tuple[SummaryRow, ...]
    contrasts: tuple[PairContrast, ...]
    position: Mapping[str, Mapping[int, Estimate]]
    splits: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    per_user: Mapping[str, tuple[float, ...]]
    user_ids: tuple[str, ...]
    paraphrase: Mapping[str, float]
    order: Mapping[str, float]
    reliability: Mapping[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedTitle:
    """An item of a ranking as the report shows it; ``image`` is a path, empty where there is none.

    ``score`` is None where the item was not judged.
    """

    title: str
    image: str
    is_target: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A user about whom two rows disagree: what each was asked and how each ranked."""

    user_id: str
    rows: tuple[str, str]
    history: tuple[str, ...]
    prompts: tuple[str, str]
    rankings: tuple[tuple[RankedTitle, ...], ...]


def summary_json(summary: Summary) -> str:
    """Every figure as one JSON document; a number that is none is null."""
    text = to_json(summary, indent=1, inf_nan_mode="null", fallback=dict).decode()
    return f"{text}\n"
