"""Pointwise: one prompt per candidate, answered by Yes or No, or by a grade from 0 to 4."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.special import softmax

from llmrec.models import LabelRequest, LanguageModel
from llmrec.prompting import PromptWriter, Rendered, Template
from llmrec.records import Item, Prompt
from llmrec.reranking.strategy import (
    Conversation,
    Judgement,
    LabelAsk,
    Question,
    default_template,
    judgement_of,
    without_user,
    writer_of,
)

GRADES = ("0", "1", "2", "3", "4")
HISTORY_PRIOR = 0.5
"""Default factor of the prior that calibration subtracts for a single candidate."""


@dataclass(frozen=True)
class Pointwise:
    """Log-odds of Yes against No as the first answer token, one prompt per candidate.

    All one-token spellings of a label ("Yes", "yes", " Yes"...) are summed:
    score = log sum p(spellings of Yes) - log sum p(spellings of No).
    """

    template: Template = field(default_factory=default_template("pointwise"))
    name: str = "pointwise"

    @property
    def key(self) -> str:
        """Name and content of the template."""
        return f"{self.name}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Score each candidate with its own prompt."""
        asks, rendered = label_each(self.template, question, model, ("Yes", "No"))
        answers = yield asks
        return judgement_of(answers, lambda table: table[:, 0] - table[:, 1], rendered.fallbacks)


@dataclass(frozen=True)
class Graded:
    """The expected grade from 0 to 4, one prompt per candidate.

    score = sum of g * p(g), p over the five grades alone (Zhuang et al. 2024, "Beyond Yes and No").
    """

    template: Template = field(default_factory=default_template("graded"))
    name: str = "graded"

    @property
    def key(self) -> str:
        """Name and content of the template."""
        return f"{self.name}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Score each candidate with its own prompt."""
        asks, rendered = label_each(self.template, question, model, GRADES)
        answers = yield asks
        grades = np.arange(len(GRADES), dtype=np.float64)
        return judgement_of(
            answers, lambda table: softmax(table, axis=1) @ grades, rendered.fallbacks
        )


def label_each(
    template: Template, question: Question, model: LanguageModel, labels: tuple[str, ...]
) -> tuple[list[LabelAsk], Rendered]:
    """Ask one prompt per candidate; the neutral prompt has an empty history."""
    rendered = writer_of(template, question, model).for_each(question.candidates)
    neutral = writer_of(template, without_user(question), model)
    asks = [
        LabelAsk(LabelRequest(prompt, labels), partial(_neutral, neutral, item), HISTORY_PRIOR)
        for prompt, item in zip(rendered.prompts, question.candidates, strict=True)
    ]
    return asks, rendered


def _neutral(writer: PromptWriter, item: Item) -> tuple[Prompt, ...]:
    return writer.for_each([item]).prompts
