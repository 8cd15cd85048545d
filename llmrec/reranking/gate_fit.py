"""Fit a gate on validation lists, beside the control: the same gate without a language model.

The target should be the choice among its list's candidates: a conditional logit (McFadden,
"Conditional logit analysis of qualitative choice behavior", 1974) with a ridge chosen by
cross-validation over lists. The problem is convex, so a fit has one answer. A part of the language
model that a likelihood-ratio test does not support is dropped with its products. What the gate is
worth is measured on folds that neither its weights nor its choices have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError, OptionError
from llmrec.evaluation import (
    Comparison,
    Estimate,
    compare,
    estimate,
    ndcg_at,
    rarity_classes,
    target_ranks,
)
from llmrec.records import Usage
from llmrec.reranking.gate import (
    BY,
    HISTORY,
    MARGIN,
    POPULARITY,
    RETRIEVAL,
    Gate,
    GateLists,
    Scale,
    Table,
    features,
    scale_of,
)

FEWEST_LISTS = 10
"""With fewer lists nothing is fitted."""
FOLDS = 5
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Squared-weight penalties per list that cross-validation chooses from."""
MOST_STEPS = 50
"""Of Newton's method; it takes five to ten."""
ALPHA = 0.05
"""Level of the likelihood-ratio test that keeps a part."""
CONTROL = (RETRIEVAL, POPULARITY, f"{RETRIEVAL}{BY}{POPULARITY}")
"""Features without a language model."""
ROWS = ("retriever", "control", "gate")
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RarityMeans:
    """Mean nDCG@10 by row over targets with this many training interactions."""

    name: str
    lists: int
    ndcg: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GateFit:
    """A fitted gate, its control, and their nDCG@10.

    ``p_values`` are those of leaving a part out, by part; ``dropped`` are the parts that the gate
    does without. ``values`` are nDCG@10 of each list by row (`ROWS`), [lists], on folds that were
    not fitted on; ``ndcg`` their means, ``gain`` the gate minus the control, ``control_gain`` the
    control minus the retriever. ``usage`` is what the language model took to score the lists, where
    `Recommender.fit` asked it.
    """

    gate: Gate
    control: Gate
    p_values: Mapping[str, float]
    ndcg: Mapping[str, Estimate]
    gain: Comparison
    control_gain: Comparison
    rarity: tuple[RarityMeans, ...]
    lists: int
    values: Mapping[str, Table] = field(compare=False, repr=False)
    usage: Usage = field(default_factory=Usage)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The parts without a weight."""
        return tuple(part for part in self.p_values if part not in self.gate.parts)

    @property
    def best(self) -> str:
        """The row to serve.

        The control has to be above the retriever by more than a standard error, and the gate above
        the one of these that is served without it: asking a model takes time.
        """

        def better(one: str, other: str) -> bool:
            gains = self.values[one] - self.values[other]
            return bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)))

        simple = "control" if better("control", "retriever") else "retriever"
        return "gate" if self.gate.parts and better("gate", simple) else simple

    @property
    def served(self) -> Gate:
        """The gate of the best row."""
        source = self.gate.source
        return {
            "gate": self.gate,
            "control": self.control,
            "retriever": Gate({RETRIEVAL: 1.0}, source=source),
        }[self.best]

    @property
    def verdict(self) -> str:
        """What the language model adds, in a sentence."""
        gain = self.gain
        if self.best != "gate":
            return (
                f"The language model adds nothing that validation shows ({gain} nDCG@10 over "
                f"the same gate without it): the {self.best} is used."
            )
        sure = "" if gain.low > 0 else "; the interval includes 0"
        return f"The language model adds {gain} nDCG@10 to the same gate without it{sure}."


def fit_gate(lists: GateLists, *, popularity: Scale, source: str = "", seed: int = 0) -> GateFit:
    """Fit the gate and its control, and cross-validate both.

    Args:
        lists: One a validation user, with targets.
        popularity: Scale of log(1 + popularity) over the catalogue.
        source: What the gates say of their origin.
        seed: Seed of the folds, of ties and of intervals.

    Raises:
        DataError: There are fewer than `FEWEST_LISTS` lists.
        OptionError: A list has no target.
    """
    targets = _targets(lists)
    parts = tuple(name for name in lists.signals if name != RETRIEVAL)
    problem = _Problem.of(lists, popularity, parts, seed)
    control, _ = problem.choose((), popularity, source)
    gate, p_values = problem.choose(parts, popularity, source)
    tables = {name: np.full(lists.popularity.shape, np.nan) for name in ROWS}
    tables["retriever"] = Gate({RETRIEVAL: 1.0}).scores(lists)
    for held, rest in problem.folds(np.arange(len(targets))):
        some = replace(problem, seed=seed + 1)
        for name, tried in (("control", ()), ("gate", parts)):
            fitted, _ = some.choose(tried, popularity, source, rest)
            tables[name][held] = fitted.scores(lists.rows(held))
    ndcg = {
        name: ndcg_at(target_ranks(table, targets, seed=seed), 10) for name, table in tables.items()
    }
    return GateFit(
        gate,
        control,
        p_values,
        {name: estimate(values, seed=seed) for name, values in ndcg.items()},
        compare(ndcg["gate"], ndcg["control"], seed=seed),
        compare(ndcg["control"], ndcg["retriever"], seed=seed),
        by_rarity(ndcg, lists.popularity[np.arange(len(targets)), targets]),
        len(targets),
        ndcg,
    )


def choose_gate(
    lists: GateLists, *, popularity: Scale, source: str = "", seed: int = 0
) -> tuple[Gate, dict[str, float]]:
    """Fit one gate without judging it; lists of the retriever's signal alone give the control.

    Args:
        lists: See :func:`fit_gate`, like all others.
        popularity: Scale of log(1 + popularity) over the catalogue.
        source: What the gate says of its origin.
        seed: Seed of the folds.

    Returns:
        The gate, and the p-value of leaving a part out, by part.

    Raises:
        DataError: There are fewer than `FEWEST_LISTS` lists.
        OptionError: A list has no target.
    """
    _targets(lists)
    parts = tuple(name for name in lists.signals if name != RETRIEVAL)
    return _Problem.of(lists, popularity, parts, seed).choose(parts, popularity, source)


def check_enough(lists: int) -> None:
    """Check that so many lists can be fitted on.

    Raises:
        DataError: There are fewer than `FEWEST_LISTS`.
    """
    if lists < FEWEST_LISTS:
        raise DataError(
            f"{lists} lists hold their target; a gate is fitted on {FEWEST_LISTS} or more.",
            hint="Try more users or more candidates, or keep the default weights.",
        )


def conditional_logit(values: Table, there: NDArray[np.bool_], ridge: float) -> tuple[Table, float]:
    """Fit weights by Newton's method: the target is the choice.

    Args:
        values: Features less those of the list's target, ``[lists, longest, features]``.
        there: Which places hold a candidate, ``[lists, longest]``.
        ridge: Squared-weight penalty per list.

    Returns:
        Weights ``[features]``, and the penalised negative log-likelihood.
    """
    n, width = len(values), values.shape[-1]
    flat, penalty = values.reshape(-1, width), ridge * n

    def chances(weights: Table) -> tuple[Table, float]:
        scores = np.where(there, (flat @ weights).reshape(there.shape), -np.inf)
        most = scores.max(axis=1, keepdims=True)
        odds = np.exp(scores - most)
        totals = odds.sum(axis=1, keepdims=True)
        loss = float((most + np.log(totals)).sum() + penalty * weights @ weights)
        return odds / totals, loss

    weights = np.zeros(width)
    chance, loss = chances(weights)
    for _ in range(MOST_STEPS):
        weighted = values * chance[..., None]
        means = weighted.sum(axis=1)
        gradient = means.sum(axis=0) + 2 * penalty * weights
        curvature = weighted.reshape(-1, width).T @ flat - means.T @ means
        step = np.linalg.solve(curvature + 2 * penalty * np.eye(width), gradient)
        if gradient @ step < 1e-8:
            break
        after = chances(weights - step)
        while after[1] > loss and np.abs(step).max() > 1e-9:  # a whole step is too far
            step /= 2
            after = chances(weights - step)
        weights, (chance, loss) = weights - step, after
    return weights, loss


def by_rarity(rows: Mapping[str, Table], met: Table) -> tuple[RarityMeans, ...]:
    """Means of rows by how often the target was met in training.

    Args:
        rows: Values by row, each ``[lists]``.
        met: Training interactions of each list's target, ``[lists]``.
    """
    found = []
    for name, inside in rarity_classes(met).items():
        n = int(inside.sum())
        means = {row: float(values[inside].mean()) if n else np.nan for row, values in rows.items()}
        found.append(RarityMeans(name, n, means))
    return tuple(found)


def _targets(lists: GateLists) -> Places:
    """The targets, if the lists can be fitted on."""
    if lists.targets is None or not ((lists.targets >= 0) & (lists.targets < lists.sizes)).all():
        raise OptionError(
            "A list to fit a gate on does not hold its target.",
            hint="Leave out the lists whose target was not retrieved.",
        )
    check_enough(len(lists.targets))
    return lists.targets


@dataclass(frozen=True)
class _Problem:
    """Features relative to those of the target, ``values[lists, longest, features]``.

    ``there`` tells candidates from padding.
    """

    values: Table
    there: NDArray[np.bool_]
    names: tuple[str, ...]
    history: Scale
    margin: Scale
    seed: int

    @classmethod
    def of(cls, lists: GateLists, popularity: Scale, parts: Sequence[str], seed: int) -> _Problem:
        """Compute every feature that may be weighed."""
        history, margin = scale_of(np.log1p(lists.history)), scale_of(lists.margins)
        scales = {POPULARITY: popularity, HISTORY: history, MARGIN: margin}
        more = [f"{RETRIEVAL}{BY}{by}" for by in (HISTORY, MARGIN)]
        blocks = [name for part in parts for name in _block(part, (HISTORY, MARGIN))]
        names = (*CONTROL, *more, *blocks)
        values = np.stack(features(lists, names, scales), axis=-1)
        own = values[np.arange(len(values)), lists.targets]
        values = np.where(lists.there[..., None], values - own[:, None], 0.0)
        return cls(values, lists.there, names, history, margin, seed)

    def choose(
        self,
        parts: Sequence[str],
        popularity: Scale,
        source: str,
        rows: Places | None = None,
    ) -> tuple[Gate, dict[str, float]]:
        """Choose ridge, products and parts on some lists; return the gate and p-values of parts."""
        rows = np.arange(len(self.values)) if rows is None else rows
        extra: tuple[str, ...] = ()
        losses = {ridge: self._held_out(rows, _names(parts, ()), ridge) for ridge in RIDGES}
        ridge = min(losses, key=lambda each: float(losses[each].mean()))
        for multiplier in (HISTORY, MARGIN):
            before = self._held_out(rows, _names(parts, extra), ridge)
            after = self._held_out(rows, _names(parts, (*extra, multiplier)), ridge)
            gain = before - after
            if gain.mean() > gain.std() / np.sqrt(len(gain)):  # by more than a standard error
                extra = (*extra, multiplier)
        kept, p_values = self._supported(rows, parts, extra, ridge)
        names = _names(kept, extra)
        weights, _ = self._fit(rows, names, ridge)
        fitted = dict(zip(names, map(float, weights), strict=True))
        return Gate(fitted, popularity, self.history, self.margin, source=source), p_values

    def _supported(
        self, rows: Places, parts: Sequence[str], extra: tuple[str, ...], ridge: float
    ) -> tuple[list[str], dict[str, float]]:
        """Leave the least supported part out until the test keeps all that are left."""
        from scipy.stats import chi2  # noqa: PLC0415 - half a second, and only fitting needs it

        kept, p_values = list(parts), dict[str, float]()
        while kept:
            _, loss = self._fit(rows, _names(kept, extra), ridge)
            for part in kept:
                others = [other for other in kept if other != part]
                _, without = self._fit(rows, _names(others, extra), ridge)
                freedom = len(_block(part, extra))
                p_values[part] = float(chi2.sf(2 * max(0.0, without - loss), df=freedom))
            worst = max(kept, key=lambda part: p_values[part])
            if p_values[worst] <= ALPHA:
                break
            kept.remove(worst)
        return kept, p_values

    def folds(self, rows: Places) -> Iterator[tuple[Places, Places]]:
        """Held-out and other lists, by seed."""
        order = rows[np.random.default_rng(self.seed).permutation(len(rows))]
        for held in np.array_split(order, FOLDS):
            yield held, np.setdiff1d(rows, held)

    def _held_out(self, rows: Places, names: Sequence[str], ridge: float) -> Table:
        """Negative log-likelihood of each list by weights of the other folds."""
        found = []
        for held, rest in self.folds(rows):
            weights, _ = self._fit(rest, names, ridge)
            found.append(self._losses(held, names, weights))
        return np.concatenate(found)

    def _losses(self, rows: Places, names: Sequence[str], weights: Table) -> Table:
        from scipy.special import logsumexp  # noqa: PLC0415

        scores = self._columns(rows, names) @ weights
        losses: Table = logsumexp(np.where(self.there[rows], scores, -np.inf), axis=1)
        return losses

    def _columns(self, rows: Places, names: Sequence[str]) -> Table:
        columns: Table = self.values[rows][..., [self.names.index(name) for name in names]]
        return columns

    def _fit(self, rows: Places, names: Sequence[str], ridge: float) -> tuple[Table, float]:
        """Weights, and the penalised negative log-likelihood."""
        return conditional_logit(self._columns(rows, names), self.there[rows], ridge)


def _names(parts: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Features of the control and of parts; ``extra`` are multipliers beside popularity."""
    more = [f"{RETRIEVAL}{BY}{by}" for by in extra]
    return [*CONTROL, *more, *(name for part in parts for name in _block(part, extra))]


def _block(part: str, extra: Sequence[str]) -> list[str]:
    """A part and its products."""
    return [part, *(f"{part}{BY}{by}" for by in (POPULARITY, *extra))]
