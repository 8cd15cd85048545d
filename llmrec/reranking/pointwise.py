"""Pointwise: would this user choose this item, Yes or No?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from llmrec.models import LabelRequest, LanguageModel
from llmrec.prompting import DEFAULT_TEMPLATES, PromptWriter, Rendered, Template, load_template
from llmrec.records import Item, Prompt
from llmrec.reranking.strategy import (
    Conversation,
    Judgement,
    LabelAsk,
    Question,
    nobody,
    writer_of,
)

HISTORY_PRIOR = 0.5
"""How much of what a model says of an item whoever the user is, calibration takes off."""


def _default_template() -> Template:
    return load_template(DEFAULT_TEMPLATES["pointwise"])


@dataclass(frozen=True)
class Pointwise:
    """Log-odds of Yes against No as the first token of the answer, one prompt a candidate.

    All spellings of a label that are one token of the model ("Yes", "yes", " Yes"...) are summed:
    score = log sum p(spellings of Yes) - log sum p(spellings of No).
    """

    template: Template = field(default_factory=_default_template)
    name: str = "pointwise"

    @property
    def key(self) -> str:
        """Name and content of the template."""
        return f"{self.name}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask about each candidate by itself."""
        asks, rendered = label_each(self.template, question, model, ("Yes", "No"))
        answers = yield asks
        table = np.stack([answer.log_probs for answer in answers])
        return Judgement(table[:, 0] - table[:, 1], fallbacks=rendered.fallbacks)


def label_each(
    template: Template, question: Question, model: LanguageModel, labels: tuple[str, ...]
) -> tuple[list[LabelAsk], Rendered]:
    """One prompt a candidate; neutral is the same prompt for a user of whom nothing is known."""
    rendered = writer_of(template, question, model).for_each(question.candidates)
    stranger = writer_of(template, nobody(question), model)
    asks = [
        LabelAsk(LabelRequest(prompt, labels), partial(_neutral, stranger, item), HISTORY_PRIOR)
        for prompt, item in zip(rendered.prompts, question.candidates, strict=True)
    ]
    return asks, rendered


def _neutral(writer: PromptWriter, item: Item) -> tuple[Prompt, ...]:
    return writer.for_each([item]).prompts
