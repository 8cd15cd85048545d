"""Likelihood: the log-probability of a candidate's title after the user's history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.models import ContinuationRequest, LanguageModel
from llmrec.prompting import Template, field_text
from llmrec.reranking.strategy import (
    Conversation,
    Judgement,
    Question,
    default_template,
    without_user,
    writer_of,
)


@dataclass(frozen=True)
class Likelihood:
    """Log-probability of a title after the history, corrected for length and prior.

    score = (log p(title | history) - prior_weight * log p(title)) / tokens ** length_power

    The end of the title counts: the line break, or the end of turn in a chat; without it a title
    would be at least as likely as every longer one that it begins. The prior corrects for
    well-known and short titles, which are likely for every user. It uses the same template with an
    empty history, once per title. Parts: ``conditional``, ``prior`` (unless its weight is 0) and
    ``length`` (tokens with the end).

    Args:
        template: A likelihood template; the title follows its end.
        prior_weight: 0 keeps the plain likelihood, 1 gives pointwise mutual information.
        length_power: 0 sums over the title's tokens, 1 takes their mean.
        name: Name of the score in a ranking's signals.

    Raises:
        OptionError: A number is negative or not finite.
    """

    template: Template = field(default_factory=default_template("likelihood"))
    prior_weight: float = 0.5
    length_power: float = 0.0
    name: str = "likelihood"
    _priors: dict[tuple[str, str], float] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name in ("prior_weight", "length_power"):
            value: float = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise OptionError(f"{name}={value}: allowed is 0 or more.", hint="Usual is 0 to 1.")

    @property
    def key(self) -> str:
        """Name, settings and content of the template."""
        settings = f"{self.prior_weight:g}/{self.length_power:g}"
        return f"{self.name}/{settings}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Score every title after one prompt; an empty title gets NaN."""
        room = question.budget.title + 1
        rendered = writer_of(self.template, question, model, room=room).without_candidate()
        titles = [
            field_text(item.name, question.budget.title, model) for item in question.candidates
        ]
        there = [i for i, title in enumerate(titles) if title]
        known = [titles[i] for i in there]
        answers = yield [
            ContinuationRequest(rendered.prompts[0], title, end=True) for title in known
        ]
        given = np.array([answer.log_probs.sum() for answer in answers])
        lengths = np.array([len(answer.log_probs) for answer in answers], dtype=np.float64)
        priors = yield from self._prior(model, question, known)
        parts = {"conditional": given, "prior": priors, "length": lengths + 0 * given}
        if self.prior_weight == 0:
            del parts["prior"]

        def placed(values: NDArray[np.float64]) -> NDArray[np.float64]:
            full = np.full(len(titles), np.nan)
            full[there] = values
            return full

        scores = (given - self.prior_weight * priors) / lengths**self.length_power
        return Judgement(
            placed(scores),
            fallbacks=rendered.fallbacks,
            parts={name: placed(values) for name, values in parts.items()},
        )

    def _prior(
        self, model: LanguageModel, question: Question, titles: Sequence[str]
    ) -> Conversation[NDArray[np.float64]]:
        """Log-probability of each title for a user without history."""
        if self.prior_weight == 0:
            return np.zeros(len(titles))
        reader = f"{model.name}@{model.revision}"
        priors = {t: self._priors[reader, t] for t in titles if (reader, t) in self._priors}
        new = [title for title in dict.fromkeys(titles) if title not in priors]
        if new:
            writer = writer_of(self.template, without_user(question), model)
            prompt = writer.without_candidate().prompts[0]
            answers = yield [ContinuationRequest(prompt, title, end=True) for title in new]
            for title, answer in zip(new, answers, strict=True):
                priors[title] = float(answer.log_probs.sum())
                if not np.isnan(priors[title]):  # a failed prior is not cached
                    self._priors[reader, title] = priors[title]
        return np.array([priors[title] for title in titles])
