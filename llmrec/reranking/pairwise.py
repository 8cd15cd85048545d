"""Pairwise: which of two candidates is better?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from llmrec.models import LanguageModel
from llmrec.prompting import Template
from llmrec.reranking.groups import LabelledGroups, check_sizes
from llmrec.reranking.ordering import Group, top_by_best
from llmrec.reranking.strategy import Conversation, Judgement, Question, default_template, relay


@dataclass(frozen=True)
class Pairwise:
    """Two candidates per prompt, each pair in both orders (Qin et al. 2024, "PRP").

    If the answers of the two orders differ, the pair is a tie and counted (``order_conflict``).
    With ``top``, heapsort finds the best. A score then counts the decided pairs below a candidate
    in the order; ties add nothing, and candidates outside the top have 0. With ``top=None`` all
    pairs are compared, n (n - 1) prompts; a score is the share of answered pairs won, a tie counts
    half.

    Args:
        template: A pairwise template.
        top: How many of the best to order; None compares all pairs.
        name: Name of the score in a ranking's signals.

    Raises:
        OptionError: ``top`` is out of range.
    """

    template: Template = field(default_factory=default_template("pairwise"))
    top: int | None = 10
    name: str = "pairwise"

    def __post_init__(self) -> None:
        if self.top is not None:
            check_sizes(self.name, top=(self.top, 1, 1000))

    @property
    def key(self) -> str:
        """Name, settings and content of the template."""
        return f"{self.name}/{self.top or 'all'}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask for the better of each pair."""
        n = len(question.candidates)
        pairs = _Pairs(LabelledGroups(self.template, question, model))
        if self.top is None:
            wins, asked = np.zeros(n), np.zeros(n)
            every = list(combinations(range(n), 2))
            for pair, won in zip(every, (yield from pairs.ask(every)), strict=True):
                if not np.isnan(won):
                    wins[list(pair)] += won, 1 - won
                    asked[list(pair)] += 1
            scores = np.full(n, np.nan)
            np.divide(wins, asked, out=scores, where=asked > 0)
            return pairs.judgement(scores if n > 1 else wins)
        heap = top_by_best(n, self.top, 3)
        order = yield from relay(heap, lambda families: _best(families, pairs))
        return pairs.judgement(pairs.steps(order, n))


@dataclass
class _Pairs:
    """Compares pairs in both orders; ``won`` holds the result of the first of each pair.

    ``judged`` holds the places of candidates in a pair with both answers.
    """

    groups: LabelledGroups
    conflicts: int = 0
    won: dict[tuple[int, int], float] = field(default_factory=dict)
    judged: set[int] = field(default_factory=set)

    def ask(self, pairs: Sequence[tuple[int, int]]) -> Conversation[list[float]]:
        """Result of the first of each pair: 1 won, 0 lost, 0.5 tied, NaN without an answer."""
        if not pairs:
            return []
        both = [pair for one, other in pairs for pair in ((one, other), (other, one))]
        answers = yield from self.groups.ask(both)
        # Positive: the first place in the prompt is better.
        leads = np.sign([answer.log_probs[0] - answer.log_probs[1] for answer in answers])
        first, second = leads[::2], -leads[1::2]
        unsure = np.isnan(first) | np.isnan(second)
        self.conflicts += int(((first != second) & ~unsure).sum())
        self.judged.update(*(pair for pair, no in zip(pairs, unsure, strict=True) if not no))
        won = np.where(unsure, np.nan, np.where(first == second, (first + 1) / 2, 0.5))
        values = [float(value) for value in won]
        for (one, other), value in zip(pairs, values, strict=True):
            self.won |= {(one, other): value, (other, one): 1 - value}
        return values

    def steps(self, order: Sequence[int], n: int) -> NDArray[np.float64]:
        """Scores of an order of the best; the others have 0.

        A place scores at least as high as those after it, and 1 above those it won against.
        """
        scores = np.zeros(n)
        behind = set(range(n)) - set(order)
        least = 0.0
        for place in reversed(order):
            met = [other for other in behind if (place, other) in self.won]
            above = [scores[other] + (self.won[place, other] == 1.0) for other in met]
            least = scores[place] = max([least, *above])
            behind.add(place)
        return scores

    def judgement(self, scores: NDArray[np.float64]) -> Judgement:
        """Make a judgement of the scores; candidates without an answer get NaN."""
        judged = self.groups.judgement(scores, self.judged)
        conflicts = {"order_conflict": self.conflicts} if self.conflicts else {}
        return replace(judged, fallbacks={**judged.fallbacks, **conflicts})


def _best(families: Sequence[Group], pairs: _Pairs) -> Conversation[list[int]]:
    """The best of each family: compare the children, then the best of them with the parent.

    Ties go to the place that was given first.
    """
    two = [family[1:] for family in families if len(family) == 3]
    won = iter((yield from pairs.ask([(children[0], children[1]) for children in two])))
    champions = [
        family[1] if len(family) == 2 else _winner(family[1], family[2], next(won))
        for family in families
    ]
    finals = [(family[0], child) for family, child in zip(families, champions, strict=True)]
    answers = yield from pairs.ask(finals)
    return [
        family.index(_winner(parent, child, value))
        for family, (parent, child), value in zip(families, finals, answers, strict=True)
    ]


def _winner(one: int, other: int, won: float) -> int:
    if won not in {0.0, 1.0}:
        return min(one, other)
    return one if won else other
