"""What every way to rank with a language model takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.language_models import LanguageModel
from llmrec.prompting import Background, Budget
from llmrec.records import Item, Usage, User


@dataclass(frozen=True, slots=True)
class Question:
    """A user's candidates, and what a prompt may say about either.

    ``items`` is the catalogue, which holds every item of the history.
    """

    user: User
    candidates: tuple[Item, ...]
    items: Mapping[str, Item]
    budget: Budget = field(default_factory=Budget)
    background: Background = field(default_factory=Background)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One score a candidate, float64 ``[candidates]``, higher is better; NaN: could not be judged.

    Scores of one judgement compare with each other, not with those of another strategy or user.
    """

    scores: NDArray[np.float64]
    usage: Usage = field(default_factory=Usage)
    fallbacks: Mapping[str, int] = field(default_factory=dict)


class Strategy(Protocol):
    """A way to ask a language model which candidates suit a user."""

    @property
    def name(self) -> str:
        """What scores of this strategy are called in a ranking's signals."""

    @property
    def key(self) -> str:
        """What tells its scores from those of other settings and templates; for fitted weights."""

    def judge(self, model: LanguageModel, question: Question) -> Judgement:
        """Score every candidate of the question."""
