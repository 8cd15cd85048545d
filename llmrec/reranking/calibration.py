"""Calibration: what a model would answer anyway is taken off what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.models import LabelRequest, LanguageModel
from llmrec.reranking.strategy import (
    Answer,
    Ask,
    Conversation,
    Judgement,
    LabelAsk,
    Question,
    Strategy,
    relay,
)

MOST_KNOWN = 20_000
"""Priors that are remembered: those of lists hold a user's history and seldom come again."""
_Known = dict[tuple[str, LabelRequest], NDArray[np.float64]]


@dataclass(frozen=True)
class Calibrated:
    """Any strategy that asks for labels, their prior subtracted (Zhao et al. 2021).

    The prior is the log-probability of each label after the same prompt about something else.
    Where candidates stand side by side, other items of the catalogue stand in their places (Fei et
    al. 2023, "domain-context calibration"), and what is left is how much the model likes a place or
    a letter. Where one stands alone the history is empty, and what is left is how much it likes the
    item whoever the user is. A prompt is asked once, whoever shares it. Strategies without labels
    stay as they are (`Likelihood` has a prior of its own).

    Args:
        strategy: What is calibrated.
        weight: How much of the prior is subtracted. None takes what suits the strategy: all of it
            for candidates side by side, half of it for one alone.

    Raises:
        OptionError: The weight is negative or not finite.
    """

    strategy: Strategy
    weight: float | None = None
    _known: _Known = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 <= self.weight < float("inf"):
            raise OptionError(f"Calibration weight={self.weight}: allowed is 0 or more.")

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return self.strategy.name

    @property
    def key(self) -> str:
        """Key of the strategy, and the weight."""
        weight = "" if self.weight is None else f"-{self.weight:g}"
        return f"calibrated{weight}/{self.strategy.key}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Hold the strategy's conversation, with the neutral prompts beside its own."""
        told = partial(self._answered, model=f"{model.name}@{model.revision}")
        return (yield from relay(self.strategy.ask(question, model), told))

    def _answered(self, asks: Sequence[Ask], model: str) -> Conversation[list[Answer]]:
        neutral = {
            place: [LabelRequest(prompt, ask.request.labels) for prompt in ask.neutral()]
            for place, ask in enumerate(asks)
            if isinstance(ask, LabelAsk)
        }
        wanted = dict.fromkeys(chain.from_iterable(neutral.values()))
        priors = {r: self._known[model, r] for r in wanted if (model, r) in self._known}
        new = [r for r in wanted if r not in priors]
        answers = yield [*asks, *new]
        if len(self._known) + len(new) > MOST_KNOWN:
            self._known.clear()  # they cost a prompt each, should they come again
        for request, answer in zip(new, answers[len(asks) :], strict=True):
            priors[request] = answer.log_probs
            if not np.isnan(answer.log_probs).any():  # else it is asked again
                self._known[model, request] = answer.log_probs
        return [
            self._corrected(answer, ask, np.mean([priors[r] for r in neutral[place]], axis=0))
            if isinstance(ask, LabelAsk)
            else answer
            for place, (ask, answer) in enumerate(zip(asks, answers[: len(asks)], strict=True))
        ]

    def _corrected(self, answer: Answer, ask: LabelAsk, prior: NDArray[np.float64]) -> Answer:
        weight = ask.neutral_weight if self.weight is None else self.weight
        # Without a prior there is no calibrated answer; a fallback to the other would mix scales.
        return Answer(
            answer.log_probs - weight * prior,
            tokens=answer.tokens,
            floored=answer.floored,
        )
