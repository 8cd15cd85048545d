"""Measures beyond accuracy: exposure, novelty, diversity, biases, reliability and sensitivity.

Each is computed on the top 10 of a user and averaged over the users with a value:

``coverage``
    Share of all candidates that are in the top 10 of any user.
``gini``
    Inequality of exposure: 0 if all candidates are shown equally often, near 1 if a few dominate.
``novelty``
    Mean self-information of an item in bits: log2 of all users / users with it in training
    (Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma").
``intra-list diversity``
    Mean of 1 - cosine of two items' vectors (Ziegler et al. 2005).
``popularity lift``
    Popularity of the top 10 relative to all candidates: 0.2 means 20 % more popular (after
    Abdollahpouri et al. 2020).
``length bias``
    Spearman's correlation of title length and rank in the whole list; above 0: long titles first.

Also reliability: whether scores that are probabilities are calibrated; sensitivity to wording and
order; and groups of users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, softmax

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.rows import RankedLists, RowScores, Scores, Values
from llmrec.benchmarking.users import ItemFacts, UserList
from llmrec.evaluation import rarity_classes

FIRST = 10
BINS = 10


def beyond_accuracy(
    users: Sequence[UserList], ranked: RankedLists, facts: ItemFacts
) -> dict[str, float]:
    """Measure a row; measures without the facts they need are left out."""
    pairs = [(one, order) for one, order in zip(users, ranked.orders, strict=True) if order]
    shown = [[one.candidates[column] for column in order[:FIRST]] for one, order in pairs]
    if not shown:
        return {}
    offered = {item for one in users for item in one.candidates}
    exposures = Counter(item for items in shown for item in items)

    def length(one: UserList, order: Sequence[int]) -> float | None:
        return length_bias([facts.titles.get(one.candidates[column]) for column in order])

    def novelty(one: UserList, order: Sequence[int]) -> float | None:
        if facts.training_users < 1 or not one.popularity:
            return None
        met = np.array([one.popularity[column] for column in order[:FIRST]])
        # One more user met each item: no item is infinitely new.
        return float(np.maximum(0.0, np.log2((facts.training_users + 1) / (met + 1))).mean())

    by_user: dict[str, Callable[[UserList, Sequence[int]], float | None]] = {
        "novelty": novelty,
        "intra-list diversity": lambda one, order: diversity(
            [one.candidates[column] for column in order[:FIRST]], facts
        ),
        "popularity lift": _lift,
        "length bias": length,
    }
    found = {
        "coverage": len(exposures) / len(offered),
        "gini": gini([exposures[item] for item in offered]),
    }
    for name, measure in by_user.items():
        values = [value for pair in pairs if (value := measure(*pair)) is not None]
        if values:
            found[name] = float(np.mean(values))
    return found


def gini(exposures: Sequence[float]) -> float:
    """Gini's index of non-negative numbers, 0 if all are equal or there are none."""
    values = np.sort(np.asarray(exposures, dtype=np.float64))
    total, n = float(values.sum()), values.size
    if total == 0:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * values).sum() / (n * total))


def diversity(items: Sequence[str], facts: ItemFacts) -> float | None:
    """Mean distance of two items; None where fewer than two have vectors."""
    vectors = [facts.vectors[item] for item in items if item in facts.vectors]
    if len(vectors) < 2:
        return None
    table = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)
    above = np.triu_indices(len(unit), k=1)
    return float(1 - (unit @ unit.T)[above].mean())


def length_bias(titles: Sequence[str | None]) -> float | None:
    """Correlation of length and rank, titles best first; None where all lengths are equal."""
    lengths = [len(title) for title in titles if title]
    if len(set(lengths)) < 2:
        return None
    return float(stats.spearmanr(lengths, -np.arange(len(lengths))).statistic)


def _lift(one: UserList, order: Sequence[int]) -> float | None:
    counts = np.asarray(one.popularity, dtype=np.float64)
    usual = float(counts.mean()) if counts.size else 0.0
    return None if usual == 0 else float(counts[list(order[:FIRST])].mean()) / usual - 1


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """A bin of equal size: mean predicted probability and observed share of targets."""

    predicted: float
    observed: float
    candidates: int


def reliability(
    cell: Cell, users: Sequence[UserList], scores: Sequence[Scores | None]
) -> tuple[ReliabilityBin, ...]:
    """Sort the scored candidates by probability into bins of equal size, lowest first.

    Empty if scores are not probabilities. Scores of ``pointwise`` are log-odds of Yes; scores of
    ``listwise`` are log-probabilities of labels, if uncalibrated and without windows.
    """
    predicted, observed = [], []
    for one, values in zip(users, scores, strict=True):
        if values is None:
            continue
        probabilities = _probabilities(cell, values)
        if probabilities is None:
            return ()
        predicted.append(probabilities)
        observed.append(np.isin(np.arange(len(one.candidates)), one.columns).astype(float))
    if not predicted:
        return ()
    table, true = np.concatenate(predicted), np.concatenate(observed)
    scored = ~np.isnan(table)
    order = np.argsort(table[scored], kind="stable")
    return tuple(
        ReliabilityBin(
            float(table[scored][part].mean()), float(true[scored][part].mean()), len(part)
        )
        for part in np.array_split(order, BINS)
        if len(part)
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error: mean of |predicted - observed| over the bins, in [0, 1].

    Bins of equal size, as in Nguyen and O'Connor 2015, "Posterior calibration and exploratory
    analysis for natural language processing models".
    """
    weights = [entry.candidates for entry in bins]
    return float(np.average([abs(b.predicted - b.observed) for b in bins], weights=weights))


def _probabilities(cell: Cell, values: Scores) -> Values | None:
    """A probability per candidate, [n], NaN where it was not scored; None if there is none."""
    table = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if cell.calibrate:  # differences of log-probabilities
        return None
    if cell.strategy == "pointwise":
        return np.asarray(expit(table))
    if cell.strategy == "listwise" and not bool((table > 0).any()):  # windows give ranks above 0
        return np.asarray(softmax(table))  # all NaN where a candidate has no score
    return None


@dataclass(frozen=True, slots=True)
class Spread:
    """Range of the members' means, and mean range of a user's values.

    A paraphrase that helps half of the users and harms the others has the same mean; only the range
    per user shows it. Both cover the users that all members have, and say nothing without any.
    """

    of_means: float
    within_user: float
    users: int


def spread(members: Sequence[Values]) -> Spread:
    """Compare two members or more over their common users."""
    table = np.stack(members)
    table = table[:, ~np.isnan(table).any(axis=0)]
    if table.size == 0:
        return Spread(0.0, 0.0, 0)
    return Spread(
        float(np.ptp(table.mean(axis=1))), float(np.ptp(table, axis=0).mean()), table.shape[1]
    )


def paraphrases(rows: Sequence[RowScores]) -> dict[str, tuple[str, ...]]:
    """Rows that differ in nothing but the wording of one template.

    Returns:
        Their names by the template, or by its row where there are several settings of it. The
        template's own row is the first where it was run.
    """
    families: dict[tuple[object, ...], list[str]] = {}
    for row in rows:
        if row.cell is None:
            continue
        own = row.cell.settings
        rest = {k: v for k, v in own.items() if not k.startswith("template") and k != "variant_of"}
        original = row.cell.variant_of or row.cell.template
        names = families.setdefault((original, *sorted(rest.items())), [])
        names.insert(len(names) if row.cell.variant_of else 0, row.name)
    several = {key: names for key, names in families.items() if len(names) > 1}
    originals = [str(key[0]) for key in several]
    return {
        str(key[0]) if originals.count(str(key[0])) == 1 else names[0]: tuple(names)
        for key, names in several.items()
    }


def user_groups(users: Sequence[UserList]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Thirds of the users by activity, and classes by how rare the target is, where it is known.

    Returns:
        For each the groups from low to high, bool [n_users]; equal values stay together, so a group
        can be larger than a third, and empty groups are left out.
    """
    found = {"activity": _thirds([one.activity for one in users])}
    if all(one.popularity for one in users):
        classes = rarity_classes([one.target_popularity for one in users])
        found["rarity of the target"] = {
            f"{name} interactions ({mask.sum()})": mask
            for name, mask in classes.items()
            if mask.any()
        }
    return found


def _thirds(values: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
    table = np.asarray(values)
    if table.size == 0:
        return {}
    first, second = np.quantile(table, [1 / 3, 2 / 3], method="lower")
    masks: Mapping[str, NDArray[np.bool_]] = {
        "low": table <= first,
        "middle": (table > first) & (table <= second),
        "high": table > second,
    }
    return {f"{name} ({_between(table[mask])})": mask for name, mask in masks.items() if mask.any()}


def _between(values: NDArray[np.int_]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
