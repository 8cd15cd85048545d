"""Questions, ways to ask them, and models that answer anything: for tests of all strategies."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmrec.models import TransformersModel
from llmrec.prompting import Context
from llmrec.records import Interaction, Item, Prompt, User
from llmrec.reranking import (
    Calibrated,
    Graded,
    Judgement,
    Likelihood,
    Listwise,
    ListwiseGenerated,
    Pairwise,
    Pointwise,
    Question,
    Setwise,
    Shuffled,
    Strategy,
    Tournament,
    judge,
)
from tests.reranking.oracle import NOBODY, Oracle

Scores: TypeAlias = NDArray[np.float64]


def question(n: int, user: str = "u", first: int = 0) -> Question:
    items = {f"k{i}": Item(f"k{i}", f"Kite {i}") for i in range(first, first + n)}
    past = {f"m{i}": Item(f"m{i}", f"Mug {i}") for i in range(3)}
    history = tuple(Interaction(user, item_id, 5.0, time) for time, item_id in enumerate(past))
    return Question(User(user, history), tuple(items.values()), Context({**items, **past}))


def judged_by(strategy: Strategy, model: Oracle | TransformersModel, asked: Question) -> Judgement:
    (judgement,) = judge(model, strategy, [asked])
    return judgement


def ranking(scores: Scores) -> list[int]:
    """Best first, those without a score last, of equals the one that was given first."""
    return [
        int(place)
        for place in np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")
    ]


# Each with the number of places that it has to get right of many.
EXACT: dict[str, tuple[Callable[[], Strategy], int]] = {
    "pointwise": (Pointwise, 1000),
    "graded": (Graded, 1000),
    "likelihood": (Likelihood, 1000),
    "listwise": (Listwise, 10),
    "listwise in windows of 5": (lambda: Listwise(window=5, step=2), 3),
    "listwise-generated": (ListwiseGenerated, 10),
    "setwise": (Setwise, 10),
    "pairwise": (Pairwise, 10),
    "all pairs": (lambda: Pairwise(top=None), 1000),
    "tournament": (Tournament, 10),
    "tournament of 4": (lambda: Tournament(top=2, window=4), 2),
}
WRAPPED: dict[str, Callable[[Strategy], Strategy]] = {
    "plain": lambda strategy: strategy,
    "calibrated": Calibrated,
    "shuffled": lambda strategy: Shuffled(strategy, 3),
    "both": lambda strategy: Shuffled(Calibrated(strategy), 4, stable_top=2),
}
GROUPS = sorted(set(EXACT) - {"pointwise", "graded", "likelihood", "listwise-generated"})


def worth_of(title: str) -> float:
    """A preference that nothing but the item decides; nothing is known of ``N/A``."""
    return 0.0 if title == NOBODY else zlib.crc32(title.encode()) % 9973 / 2500 - 2


def whims(seed: int) -> Callable[[str, int, Prompt], float | None]:
    """Answers that contradict each other, tie, are 0 in probability, or do not come at all."""

    def answer(title: str, place: int, prompt: Prompt) -> float | None:
        told = zlib.crc32(f"{seed}{prompt.system}{prompt.user}{prompt.text}".encode())
        if told % 5 == 0:
            return None
        own = zlib.crc32(f"{told}{title}{place}".encode())
        return (float("-inf"), 0.0, -1.0, -1e300, -own % 1000 / 100)[own // 7 % 5]

    return answer


def garbage(seed: int) -> Callable[[str, Sequence[str], list[str]], str]:
    def write(prompt: str, labels: Sequence[str], order: list[str]) -> str:
        chance = np.random.default_rng(zlib.crc32(f"{seed}{prompt}".encode()))
        parts = [*labels, "[A] > [B]", "[Z]", " > ", "Plan [B]", "\n", "[", "I cannot", "C, A", ""]
        return "".join(str(part) for part in chance.choice(parts, int(chance.integers(0, 9))))

    return write
