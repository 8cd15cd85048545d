"""The fused scores of a list as a linear function of its signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmrec.reranking.gate import BY, POPULARITY
from llmrec.reranking.rankings import gate_list, parts_of, retrieval_signal
from llmrec.reranking.requests import Request
from llmrec.reranking.strategy import Judgement

if TYPE_CHECKING:
    from llmrec.reranking.reranker import Reranker

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FusedList:
    """A list's ``signals`` by name, and by signal the ``slopes`` of its fused scores.

    A slope is the change of a candidate's fused score per unit of the signal, all else held fixed:
    the other candidates, the list's means and standard deviations, the multipliers of products.
    ``shares`` add up to the fused scores: what each strategy, ``retrieval`` and ``popularity`` (the
    features that read it) make of them; NaN for a candidate that no strategy scored. All tables are
    ``[candidates]``.
    """

    ids: Sequence[str]
    signals: Mapping[str, Values]
    slopes: Mapping[str, Values]
    shares: Mapping[str, Values]

    @classmethod
    def of(cls, reranker: Reranker, request: Request, judged: Mapping[str, Judgement]) -> FusedList:
        """Take a request's list, and the judgements of all its candidates by strategy."""
        ids = [candidate.item_id for candidate in request.candidates]
        known = retrieval_signal(request.candidates)
        scores = {name: each.scores for name, each in judged.items()}
        if not known and len(judged) == 1:  # the strategy ranks alone
            return cls(ids, scores, {name: np.ones(len(ids)) for name in scores}, scores)
        signals = {**known, **scores, **parts_of(judged)}
        owners = {main: name for name, each in judged.items() for main in parts_of({name: each})}
        gate, _ = reranker.gate()
        of_list = gate_list(request, signals), reranker.catalogue_scale
        unscored = np.all([np.isnan(values) for values in scores.values()], axis=0)
        shares: dict[str, Values] = {}
        for name, table in gate.terms(*of_list).items():
            main = POPULARITY if name.endswith(POPULARITY) else name.partition(BY)[0]
            owner = owners.get(main, main)
            shares[owner] = shares.get(owner, 0.0) + np.where(unscored, np.nan, table[0])
        slopes = {
            name: np.where(unscored, np.nan, table[0])
            for name, table in gate.slopes(*of_list).items()
        }
        return cls(ids, signals, slopes, shares)

    def slope(self, signal: str, item_id: str) -> float:
        """Change of a candidate's fused score per unit of a signal."""
        return float(self.slopes[signal][self.ids.index(item_id)])

    def score(self, item_id: str) -> float:
        """A candidate's fused score."""
        return sum(self.shares_of(item_id).values())

    def rank(self, item_id: str) -> int:
        """A candidate's place by fused score, from 1; candidates without one share the last."""
        own, scores = self.score(item_id), np.array([self.score(each) for each in self.ids])
        return 1 + int(np.sum(~np.isnan(scores) if np.isnan(own) else scores > own))

    def shares_of(self, item_id: str) -> dict[str, float]:
        """What a candidate's fused score consists of."""
        at = self.ids.index(item_id)
        return {name: float(values[at]) for name, values in self.shares.items()}

    def falls(self, item_id: str, changed: Mapping[str, Judgement]) -> dict[str, float]:
        """How far a candidate's score falls by strategy; NaN where one has no answer."""
        at, falls = self.ids.index(item_id), {}
        for name, judgement in changed.items():
            parts = {name: judgement.scores, **parts_of({name: judgement})}
            here = at if len(judgement.scores) == len(self.ids) else 0
            falls[name] = float(
                sum(
                    self.slopes[main][at] * (self.signals[main][at] - values[here])
                    for main, values in parts.items()
                    if main in self.slopes
                )
            )
        return falls
