"""Evidence by removal: how far an item's fused score falls when a unit is left out.

The list stays as it is: its other candidates, the means and standard deviations of its signals, and
the gate's multipliers. So the fused score is linear in the signals, and a weight is the sum of its
parts. The language model judges all changed prompts in one call, in which they share
their prefixes; the retriever scores the changed user exactly. No older item takes the place of a
history item that is left out. Item vectors are not recomputed: for the item's own units, only the
language model's part changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import inf, isnan
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from llmrec.errors import UnknownItemError, nearest
from llmrec.explaining.evidence import EvidenceLimits, gather_evidence
from llmrec.explaining.rarity import Rarity
from llmrec.explaining.units import is_of_user, rewordings, units_of, without
from llmrec.prompting import Context
from llmrec.records import Candidate, Evidence, Ranking, Usage, User
from llmrec.reranking.calibration import Calibrated
from llmrec.reranking.fused_list import FusedList, Values
from llmrec.reranking.gate import POPULARITY, RETRIEVAL
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.pointwise import Graded, Pointwise
from llmrec.reranking.rankings import gated_ranking, retrieval_signal
from llmrec.reranking.requests import Request
from llmrec.reranking.shuffling import Shuffled
from llmrec.reranking.strategy import Judgement, Question, Strategy, question_about
from llmrec.retrieval import Retriever, standardise

if TYPE_CHECKING:
    from llmrec.reranking.reranker import Reranker

BY_CHANCE = 0.05
"""Probability that wording alone moves a score by more than the noise."""
LEAST_NOISE = 1e-4
"""Noise where no rewording changes the score: the accuracy of log-probabilities."""
PAIRED = 3
"""Units with the largest weights that are left out in pairs too."""
ALL = EvidenceLimits(
    attributes=50, sentences=20, history=1_000, profile=50, reviews=10, facts=20, opinion_from=1
)
"""Limits under which every unit that can be weighed has its fact."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """What one item's score rests on, for one user.

    Attributes:
        item_id: The item.
        score: Its fused score in the list; NaN where the model did not score it.
        rank: Its place by that score, from 1; equal scores share a place, and items without a
            score the one behind all others.
        evidence: Its title first, then all facts, the largest weight first. ``parts`` of a fact
            divide its weight by signal (``retrieval``, ``popularity`` and the strategies' names)
            and add up to it. The title has no weight: without it there is nothing to score.
        parts: The same of every unit, also of those without a fact: a disliked history item, and
            ``popularity``, which takes the place of an average item's. A unit that the model did
            not score is missing.
        pairs: Weight of two of the first few units together, less the sum of their own.
        noise: What wording explains; only a larger weight is a reason (:func:`noise_of`).
        carried: What the score consists of, by signal of the retriever (``retrieval.content``),
            ``popularity`` and strategy, relative to an average candidate, the largest first.
        usage: Usage of the language model; that of the list itself counts with the first item.
    """

    item_id: str
    score: float
    rank: int
    evidence: tuple[Evidence, ...]
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    noise: float = LEAST_NOISE
    carried: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every unit, the largest first."""
        weights = {unit: sum(parts.values()) for unit, parts in self.parts.items()}
        return dict(sorted(weights.items(), key=lambda pair: -pair[1]))

    @property
    def telling(self) -> tuple[Evidence, ...]:
        """Facts that raise the score by more than the noise, the largest weight first.

        Empty where the score rests on no unit: ``carried`` says what it rests on.
        """
        return tuple(f for f in self.evidence if f.weight is not None and f.weight > self.noise)


@dataclass(frozen=True, slots=True)
class Change:
    """A changed copy of what a request knows, for one candidate; None: for the whole list.

    ``shown`` is the number of history items in prompts.
    """

    context: Context
    user: User
    shown: int
    item_id: str | None = None


class Removal:
    """Judges and ranks copies of a request from which units are left out.

    Args:
        reranker: Whose strategies judge.
        request: The user and the list.
        retriever: See :func:`find_reasons`.

    Attributes:
        usage: Usage of the language model so far.
    """

    def __init__(
        self, reranker: Reranker, request: Request, retriever: Retriever | None = None
    ) -> None:
        self.reranker, self.request = reranker, request
        names = {name for candidate in request.candidates for name in candidate.signals}
        if retriever is None and reranker.index is not None and names:
            own = Retriever(reranker.index)
            retriever = own if own.weights.keys() == names else None
        self.retriever = retriever
        self.usage = Usage()
        known = retriever.index.items if retriever is not None else {}
        self._ids = [c.item_id for c in request.candidates if c.item_id in known]
        self._retrieved: dict[frozenset[str], dict[str, Candidate]] = {}

    def change(self, context: Context, user: User, item_id: str | None = None) -> Change:
        """A change of the request's data; no older item enters the prompt for one left out."""
        rows = self.request.user.history
        shown = rows[max(0, len(rows) - self.reranker.budget.history_items) :]
        kept = {row.item_id for row in user.history}
        return Change(context, user, sum(row.item_id in kept for row in shown), item_id)

    def left_out(self, item_id: str, units: Sequence[str]) -> Change:
        """The change that leaves units out, for an item."""
        known = self.request.context, self.request.user
        return self.change(*without(*known, item_id, units), item_id)

    def judged(self, changes: Iterable[Change]) -> list[dict[str, Judgement]]:
        """Judge changed copies by each strategy, all prompts of a round in one call."""
        changes = list(changes)
        found: list[dict[str, Judgement]] = [{} for _ in changes]
        for strategy in self.reranker.strategies:
            questions = [self._question(strategy, change) for change in changes]
            answers = self.reranker.judge_questions(strategy, questions)
            for each, answer in zip(found, answers, strict=True):
                each[strategy.name] = answer
                self.usage += answer.usage
        return found

    def ranking(self, item_id: str, units: Sequence[str]) -> Ranking:
        """Rank the whole list without units: all signals anew, standardised anew."""
        change = replace(self.left_out(item_id, units), item_id=None)
        scored = self._scored(units)
        candidates = tuple(scored.get(c.item_id, c) for c in self.request.candidates)
        request = replace(
            self.request, user=change.user, context=change.context, candidates=candidates
        )
        (judged,) = self.judged([change])
        gate, fallback = self.reranker.gate()
        scale = self.reranker.catalogue_scale
        return gated_ranking(request, retrieval_signal(candidates), judged, gate, scale, fallback)

    def parts(
        self, fused: FusedList, item_id: str, units: Sequence[str], answer: Mapping[str, Judgement]
    ) -> dict[str, float]:
        """How far a fused score falls without units, by signal; NaN for one without an answer."""
        found = fused.falls(item_id, answer)
        before, after = self._scored(()), self._scored(units)
        if item_id in before and RETRIEVAL in fused.slopes and any(map(is_of_user, units)):
            fall = before[item_id].score - after[item_id].score
            found[RETRIEVAL] = fused.slope(RETRIEVAL, item_id) * fall
        return found

    def popularity_parts(self, fused: FusedList, item_id: str) -> dict[str, float]:
        """What popularity adds: the gate's features that read it, and the retriever's signal.

        The item's popularity is compared with an average item's of the catalogue, in a feature of
        its own with an average candidate's.
        """
        found = {n: v for n, v in fused.shares_of(item_id).items() if n == POPULARITY}
        if POPULARITY in self._standing and RETRIEVAL in fused.slopes and item_id in self._ids:
            standing = float(self._standing[POPULARITY][self._ids.index(item_id)])
            found[RETRIEVAL] = fused.slope(RETRIEVAL, item_id) * standing
        return found

    def carried(self, fused: FusedList, item_id: str) -> dict[str, float]:
        """What a fused score consists of; see `Reasons`."""
        found = fused.shares_of(item_id)
        if RETRIEVAL in found and item_id in self._ids:
            slope, at = fused.slope(RETRIEVAL, item_id), self._ids.index(item_id)
            for name, values in self._standing.items():
                found[f"{RETRIEVAL}.{name}"] = slope * float(values[at] - values.mean())
            found[RETRIEVAL] -= sum(v for n, v in found.items() if n.startswith(f"{RETRIEVAL}."))
        some = {name: value for name, value in found.items() if abs(value) > LEAST_NOISE}
        return dict(sorted(some.items(), key=lambda pair: -pair[1]))

    @cached_property
    def _standing(self) -> dict[str, Values]:
        """The terms of the retriever's score by signal, each ``[candidates of the index]``."""
        if self.retriever is None or self.retriever.fusion != "weighted":
            return {}
        rows = [self.retriever.index.row(item_id) for item_id in self._ids]
        return {
            name: self.retriever.weights[name] * np.nan_to_num(standardise(values))[rows]
            for name, values in self.retriever.signals(self.request.user).items()
        }

    def _scored(self, units: Iterable[str]) -> dict[str, Candidate]:
        """The retriever's candidates without the user's units among these."""
        key = frozenset(filter(is_of_user, units))
        if self.retriever is None or not self._ids:
            return {}
        if key not in self._retrieved:
            _, user = without(self.request.context, self.request.user, self._ids[0], key)
            scored = self.retriever.candidates(user, self._ids)
            self._retrieved[key] = {each.item_id: each for each in scored}
        return self._retrieved[key]

    def _question(self, strategy: Strategy, change: Change) -> Question:
        ids = [candidate.item_id for candidate in self.request.candidates]
        if change.item_id is not None and _judges_alone(strategy):
            ids = [change.item_id]
        budget = replace(self.reranker.budget, history_items=change.shown)
        return question_about(change.context, change.user, ids, budget)


def find_reasons(
    reranker: Reranker,
    request: Request,
    item_ids: Sequence[str],
    *,
    retriever: Retriever | None = None,
    rarity: Rarity | None = None,
    pairs: int = PAIRED,
) -> tuple[Reasons, ...]:
    """Weigh the evidence for some candidates of a request.

    Args:
        reranker: Whose fused score is explained.
        request: The user and the whole list of candidates, in which signals are standardised.
        item_ids: Candidates of the request to explain.
        retriever: What scored the candidates; None takes the index's own where the candidates
            have its signals. Scores of another source do not change when a unit is left out.
        rarity: See :func:`~llmrec.explaining.evidence.gather_evidence`.
        pairs: Units with the largest weights that are left out in pairs too, in a second call of
            the model; below 2 none are.

    Returns:
        Reasons for each item, in the given order.

    Raises:
        UnknownItemError: An item is no candidate.
        PromptError: See :meth:`Reranker.rank`, also for other errors.
    """
    ids = [candidate.item_id for candidate in request.candidates]
    for item_id in item_ids:
        if item_id not in ids:
            hint = nearest(item_id, ids) or "Add it to the candidates."
            raise UnknownItemError(f"The item {item_id!r} is no candidate.", hint=hint)
    context, user = request.context, request.user
    removal = Removal(reranker, request, retriever)
    changes: dict[tuple[str, str | int], Change] = {}
    history = reranker.budget.history_items
    for item_id in item_ids:
        for unit in units_of(context, user, item_id, history=history):
            changes[item_id, unit] = removal.left_out(item_id, [unit])
        for number, copy in enumerate(rewordings(context, user, item_id, history=history)):
            changes[item_id, number] = removal.change(*copy, item_id)
    judged, *answers = removal.judged([removal.change(context, user), *changes.values()])
    fused = FusedList.of(reranker, request, judged)
    rarity = rarity or Rarity.of(context.items.values())
    reasons: list[Reasons] = []
    for item_id in item_ids:
        parts: dict[str, Mapping[str, float]] = {}
        reworded, usage = [], Usage() if reasons else _usage(judged)
        for (of, what), answer in zip(changes, answers, strict=True):
            if of != item_id:
                continue
            usage += _usage(answer)
            if isinstance(what, int):
                reworded.append(sum(fused.falls(item_id, answer).values()))
            else:
                parts[what] = removal.parts(fused, item_id, [what], answer)
        scored = {unit: each for unit, each in parts.items() if not isnan(sum(each.values()))}
        shown = sum(any(v for n, v in each.items() if n != RETRIEVAL) for each in scored.values())
        score, popularity = fused.score(item_id), removal.popularity_parts(fused, item_id)
        if popularity and not isnan(score):
            scored[POPULARITY] = popularity
        facts = gather_evidence(context, user, item_id, limits=ALL, rarity=rarity)
        failed = parts.keys() - scored.keys()
        if isnan(score):  # nor does a fact that no prompt shows have a weight then
            failed |= {fact.unit for fact in facts if not is_of_user(fact.unit)}
        reasons.append(
            Reasons(
                item_id,
                score,
                fused.rank(item_id),
                _weighed(facts, scored, failed),
                scored,
                noise=noise_of(reworded, shown),
                carried=removal.carried(fused, item_id),
                usage=usage,
            )
        )
    return _paired(removal, fused, reasons, pairs)


def noise_of(changes: Iterable[float], units: int) -> float:
    """The largest change of a score that rewordings explain among so many units.

    Prompts that say the same in another format move a score as content does (Sclar et al.,
    "Quantifying language models' sensitivity to spurious features in prompt design", 2024). The
    root mean square of the changes by rewordings (:func:`~llmrec.explaining.units.rewordings`) is
    that spread. Times a quantile of Student's t it bounds what the largest of the units reaches by
    wording alone, but for ``BY_CHANCE`` (Bonferroni).

    Args:
        changes: Of the score, by rewording; those that no prompt shows are 0 and do not count.
        units: Number of units whose removal changes the score.
    """
    shown = [change for change in changes if change and not isnan(change)]
    if not shown:
        return LEAST_NOISE
    bound = stdtrit(len(shown), 1 - BY_CHANCE / max(units, 1))
    return max(LEAST_NOISE, float(bound * np.sqrt(np.mean(np.square(shown)))))


def _paired(
    removal: Removal, fused: FusedList, reasons: Sequence[Reasons], most: int
) -> tuple[Reasons, ...]:
    """Add the interactions of the units with the largest weights, in one more call."""
    together = {}
    for each in reasons:
        sizes = {unit: abs(w) for unit, w in each.weights.items() if w and unit != POPULARITY}
        heavy = sorted(sizes, key=lambda unit: -sizes[unit])[: max(most, 0)]
        for pair in combinations(heavy, 2):
            together[each.item_id, pair] = removal.left_out(each.item_id, pair)
    answers = dict(zip(together, removal.judged(together.values()), strict=True))
    found = []
    for each in reasons:
        own = {pair: answer for (of, pair), answer in answers.items() if of == each.item_id}
        pairs = {
            pair: sum(removal.parts(fused, each.item_id, pair, answer).values())
            - sum(each.weights[unit] for unit in pair)
            for pair, answer in own.items()
        }
        usage = sum(map(_usage, own.values()), start=each.usage)
        found.append(replace(each, pairs=pairs, usage=usage))
    return tuple(found)


def _weighed(
    facts: Iterable[Evidence], parts: Mapping[str, Mapping[str, float]], failed: Collection[str]
) -> tuple[Evidence, ...]:
    """Facts with their weights, the title first, then the heaviest.

    What no prompt shows, such as the 12th review, has the weight 0; a history item that is older
    than those that prompts show was not weighed and is left out.
    """
    weighed = []
    for fact in facts:
        each = parts.get(fact.unit, {})
        if fact.unit == "title" or fact.unit in failed:
            weighed.append(fact)
        elif fact.unit in parts or not is_of_user(fact.unit):
            weighed.append(replace(fact, weight=sum(each.values()), parts=each))

    def place(fact: Evidence) -> float:
        return -inf if fact.unit == "title" else -(fact.weight or 0.0)

    return tuple(sorted(weighed, key=place))


def _usage(judged: Mapping[str, Judgement]) -> Usage:
    return sum((each.usage for each in judged.values()), start=Usage())


def _judges_alone(strategy: Strategy) -> bool:
    """Whether a candidate's score does not depend on the other candidates."""
    while isinstance(strategy, Calibrated | Shuffled):
        strategy = strategy.strategy
    return isinstance(strategy, Pointwise | Graded | Likelihood)
