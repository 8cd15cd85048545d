"""The summary of a run: the tables, the markdown and the report are made of these records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_jsonable_python

from llmrec.benchmarking.attacks import AttackRow
from llmrec.benchmarking.cells import Cell, Settings
from llmrec.benchmarking.measures import (
    ReliabilityBin,
    Spread,
    beyond_accuracy,
    calibration_error,
    paraphrases,
    reliability,
    spread,
    user_groups,
)
from llmrec.benchmarking.plan import LABELLED
from llmrec.benchmarking.results import Results
from llmrec.benchmarking.rows import (
    METRIC,
    RETRIEVER,
    Kind,
    RowScores,
    Values,
    baseline_rows,
    cell_row,
    oracle_row,
    reached,
)
from llmrec.benchmarking.users import ItemFacts, UserList
from llmrec.errors import OptionError, nearest
from llmrec.evaluation import Comparison, Estimate, comparisons, estimates, holm

SHOWN_AT = 0.05
"""A difference is significant up to this corrected p-value."""
PLAN = "plan"
"""The key of `Summary.about` with the benchmark file that a run was made from."""
WHOLE = 0.9
"""The share of the fullest row's users that a row needs to be ranked by its mean."""
PROTOCOLS = ("discrimination", "end-to-end", LABELLED)
_FLIPS_EACH = 200
"""Sign flips for each comparison of the family: the smallest corrected p-value is then 0.01."""

Verdict = Literal["better", "worse", "not significant", "too few users"]
K = TypeVar("K")
_NOTHING: Mapping[str, str | int | float] = MappingProxyType({})
_NO_FACTS = ItemFacts()
_NO_COSTS: Mapping[str, Mapping[str, float]] = MappingProxyType({})
_NONE_DROPPED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the leaderboard.

    ``users`` counts those with a value: failed users are in ``faults``, by type of error, and in no
    figure. ``metrics`` are ``ndcg``, ``recall``, ``hit``, ``mrr`` and ``map`` ``@`` each cutoff and
    over the whole list (``mrr``, ``map``), NaN without users. ``measures`` are those beside
    accuracy (``llmrec.benchmarking.measures``), ``cost`` tokens, seconds, memory and price.
    ``dropped`` says why a race dropped the row.
    """

    name: str
    kind: Kind
    settings: Settings
    users: int
    metrics: Mapping[str, Estimate]
    measures: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class PairContrast:
    """``row`` minus ``against`` over the users that both have, in one metric.

    ``p_corrected`` is Holm's over all contrasts of the summary. ``too_few_users``: no difference
    could be significant.
    """

    row: str
    against: str
    metric: str
    comparison: Comparison
    p_corrected: float
    too_few_users: bool = False

    @property
    def verdict(self) -> Verdict:
        """Whether ``row`` is significantly better or worse."""
        if self.too_few_users:
            return "too few users"
        if self.p_corrected > SHOWN_AT:
            return "not significant"
        return "better" if self.comparison.difference > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Summary:
    """A run, summed up.

    ``position`` is nDCG@10 by the position of the planted target; ``order`` the range of its means;
    ``paraphrase`` the range of the means of one template's paraphrases; a range needs users that
    all of them have. ``splits`` are nDCG@10 in groups of users. ``per_user`` is nDCG@10 in the
    order of ``user_ids``, NaN where a row has no value. ``reliability`` is there for rows whose
    scores are probabilities, ``attacks`` for rows and fields that prompt injections were planted
    in.
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
    attacks: tuple[AttackRow, ...] = ()


def partial_rows(rows: Sequence[SummaryRow]) -> frozenset[str]:
    """Cells with too few users (dropped or failing): their means are of other users.

    Paired contrasts hold for them as for any row.
    """
    cells = [row for row in rows if row.kind == "cell"]
    most = max((row.users for row in cells if not row.dropped), default=0)
    return frozenset(row.name for row in cells if row.dropped or row.users < WHOLE * most)


def summary_json(summary: Summary) -> str:
    """Every figure as one JSON document; NaN is null."""
    plain = to_jsonable_python(summary, inf_nan_mode="null", fallback=dict)
    return f"{json.dumps(plain, indent=1, allow_nan=False)}\n"  # names may be no UTF-8


def summarise(
    protocol: str,
    cells: Sequence[Cell],
    users: Sequence[UserList],
    results: Results,
    *,
    seed: int,
    about: Mapping[str, str | int | float] = _NOTHING,
    facts: ItemFacts = _NO_FACTS,
    costs: Mapping[str, Mapping[str, float]] = _NO_COSTS,
    dropped: Mapping[str, str] = _NONE_DROPPED,
    resamples: int = 10_000,
) -> Summary:
    """Sum up a run: the same figures on every machine.

    The rows are the baselines, every cell, and the oracle, which ranks the targets first. A cell is
    compared with every other and with the baselines in nDCG@10 over the users that both have; all
    comparisons are one family for Holm's correction. Planted targets make the position curve and
    nothing else.

    Args:
        protocol: One of `PROTOCOLS`; a summary has one.
        cells: The cells, in the order of the rows.
        users: The users and their candidates.
        results: What the cells answered; those of other cells and users do not count. A user who
            was not asked, or failed, is in none of the cell's figures.
        seed: Random seed of ties, intervals and tests.
        about: What is needed to run it again; protocol, users, seed and recall are added.
        facts: Titles, vectors and users of the data set, for measures beside accuracy.
        costs: More of a cell's cost, by its key.
        dropped: Why a race dropped a cell, by its key.
        resamples: Draws of each interval, and the fewest of each test: many comparisons draw more,
            so that a corrected p-value can be below .05.

    Raises:
        OptionError: The protocol is unknown, there are no users, a target is missing where it must
            not be, two rows have one name, or a result has not as many scores as candidates.
    """
    _check(protocol, users)
    rows = [
        *baseline_rows(users, seed, labelled=protocol == LABELLED),
        *(cell_row(cell, results.of(cell.key, users), users, seed) for cell in cells),
        oracle_row(users),
    ]
    values = {row.name: row.values for row in rows}
    if len(values) < len(rows):
        raise OptionError(f"two rows have one name: {[row.name for row in rows]}.")

    def estimated(table: Mapping[K, Values]) -> dict[K, Estimate]:
        found = estimates(list(table.values()), seed=seed, resamples=resamples)
        return dict(zip(table, found, strict=True))

    families = paraphrases(rows)
    spreads = _spreads({family: [values[n] for n in names] for family, names in families.items()})
    orders = _spreads({row.name: [*row.planted.values()] for row in rows})
    bins = {
        row.name: found
        for row in rows
        if row.cell and (found := reliability(row.cell, users, row.scores))
    }
    there = reached(users)
    made = []
    for row in rows:
        measures = {} if row.ranked is None else beyond_accuracy(users, row.ranked, facts)
        if row.name in bins:
            measures["calibration error"] = calibration_error(bins[row.name])
        if row.name in orders:
            measures["order sensitivity"] = orders[row.name].within_user
        for family, own in spreads.items():
            if families[family][0] == row.name:
                measures["paraphrase sensitivity"] = own.within_user
        metrics = dict(row.metrics)
        if protocol == "end-to-end":
            metrics[f"{METRIC} reached"] = np.where(there, row.values, np.nan)
            measures |= _gain(row, values, there)
        key = row.cell.key if row.cell else ""
        made.append(
            SummaryRow(
                name=row.name,
                kind=row.kind,
                settings=row.cell.settings if row.cell else {},
                users=int((~np.isnan(row.values)).sum()),
                metrics=estimated(metrics),
                measures=measures,
                cost={**row.results.cost, **costs.get(key, {})} if row.results else {},
                faults=row.results.faults if row.results else {},
                fallbacks=row.results.fallbacks if row.results else {},
                dropped=dropped.get(key, ""),
            )
        )
    return Summary(
        about={
            **about,
            "protocol": protocol,
            "users": len(users),
            "seed": seed,
            "retrieval recall": float(there.mean()),
        },
        rows=tuple(made),
        contrasts=_contrasts(rows, seed, resamples),
        position={row.name: estimated(row.planted) for row in rows if row.planted},
        splits={
            split: {
                group: estimated({name: own[mask] for name, own in values.items()})
                for group, mask in groups.items()
            }
            for split, groups in user_groups(users).items()
        },
        per_user={name: tuple(own.tolist()) for name, own in values.items()},
        user_ids=tuple(one.user_id for one in users),
        paraphrase={name: found.of_means for name, found in spreads.items()},
        order={name: found.of_means for name, found in orders.items()},
        reliability=bins,
    )


def _check(protocol: str, users: Sequence[UserList]) -> None:
    if protocol not in PROTOCOLS:
        raise OptionError(
            f"protocol {protocol!r}; allowed are {', '.join(map(repr, PROTOCOLS))}.",
            hint=nearest(protocol, PROTOCOLS),
        )
    if not users or len({one.user_id for one in users}) < len(users):
        raise OptionError("a run needs users, each of them once.")
    missed = [one.user_id for one in users if not one.reached]
    if protocol != "end-to-end" and missed:
        raise OptionError(
            f"the candidates of user {missed[0]!r} lack the target, which only the end-to-end "
            "protocol allows.",
            hint="Sum up end-to-end runs separately: one table has one protocol.",
        )


def _spreads(groups: Mapping[str, Sequence[Values]]) -> dict[str, Spread]:
    """The spread of each group of two or more with users in common."""
    found = {name: spread(members) for name, members in groups.items() if len(members) > 1}
    return {name: one for name, one in found.items() if one.users}


def _gain(
    row: RowScores, values: Mapping[str, Values], there: NDArray[np.bool_]
) -> dict[str, float]:
    """nDCG@10 above the retriever's for users whose target was retrieved."""
    if RETRIEVER not in values or row.name == RETRIEVER:
        return {}
    gain = (row.values - values[RETRIEVER])[there]
    known = gain[~np.isnan(gain)]
    return {"gain on reached": float(known.mean())} if known.size else {}


def _contrasts(rows: Sequence[RowScores], seed: int, resamples: int) -> tuple[PairContrast, ...]:
    """Compare each cell with those after it and with the baselines."""
    cells = [row for row in rows if row.kind == "cell"]
    baselines = [row for row in rows if row.kind == "baseline"]
    pairs = [
        (row.name, against.name, row.values - against.values)
        for row, against in (*combinations(cells, 2), *product(cells, baselines))
        if (~np.isnan(row.values - against.values)).sum() > 1
    ]
    flips = max(resamples, _FLIPS_EACH * len(pairs))
    differences = [apart for *_, apart in pairs]
    compared = comparisons(differences, seed=seed, resamples=resamples, flips=flips)
    corrected = holm([found.p_value for found in compared])
    return tuple(
        PairContrast(
            row, against, METRIC, found, float(p), found.too_few_users(len(pairs), SHOWN_AT)
        )
        for (row, against, _), found, p in zip(pairs, compared, corrected, strict=True)
    )
