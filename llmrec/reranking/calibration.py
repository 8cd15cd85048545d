"""Calibration: subtract the content-free prior from label log-probabilities."""

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
"""Maximum number of cached priors; a list's prior depends on the history and rarely repeats."""
_Known = dict[tuple[str, LabelRequest], NDArray[np.float64]]


@dataclass(frozen=True)
class Calibrated:
    """A label-based strategy minus the labels' prior log-probabilities (Zhao et al. 2021).

    The prior is the log-probability of each label after a neutral prompt. For several candidates in
    one prompt, other items of the catalogue replace them (Fei et al. 2023, "domain-context
    calibration"): this measures the bias for positions and letters. For a single candidate, the
    history is empty: this measures the preference for the item regardless of the user. Equal
    neutral prompts are asked once. Strategies without labels do not change (`Likelihood` has its
    own prior).

    Args:
        strategy: The strategy to calibrate.
        weight: Factor of the subtracted prior. None takes the strategy's default: 1 for several
            candidates in one prompt, 0.5 for a single one.

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
        """Run the strategy's conversation; add the neutral prompts to each round."""
        answer_asks = partial(self._answers, model=f"{model.name}@{model.revision}")
        return (yield from relay(self.strategy.ask(question, model), answer_asks))

    def _answers(self, asks: Sequence[Ask], model: str) -> Conversation[list[Answer]]:
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
            self._known.clear()  # a cleared prior costs one prompt if it is needed again
        for request, answer in zip(new, answers[len(asks) :], strict=True):
            priors[request] = answer.log_probs
            if not np.isnan(answer.log_probs).any():  # a failed prior is not cached
                self._known[model, request] = answer.log_probs
        return [
            self._calibrated(answer, ask, np.mean([priors[r] for r in neutral[place]], axis=0))
            if isinstance(ask, LabelAsk)
            else answer
            for place, (ask, answer) in enumerate(zip(asks, answers[: len(asks)], strict=True))
        ]

    def _calibrated(self, answer: Answer, ask: LabelAsk, prior: NDArray[np.float64]) -> Answer:
        weight = ask.neutral_weight if self.weight is None else self.weight
        # Without a prior the answer stays unscored: an uncalibrated score has another scale.
        return Answer(
            answer.log_probs - weight * prior,
            tokens=answer.tokens,
            floored=answer.floored,
            parts={"conditional": answer.log_probs, "prior": prior},
        )
