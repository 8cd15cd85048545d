"""Graded: how much would this user like this item, from 0 to 4?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import softmax

from llmrec.models import LanguageModel
from llmrec.prompting import DEFAULT_TEMPLATES, Template, load_template
from llmrec.reranking.pointwise import label_each
from llmrec.reranking.strategy import Conversation, Judgement, Question

GRADES = ("0", "1", "2", "3", "4")


def _default_template() -> Template:
    return load_template(DEFAULT_TEMPLATES["graded"])


@dataclass(frozen=True)
class Graded:
    """The grade from 0 to 4 that is to be expected as the answer, one prompt a candidate.

    score = sum of g * p(g), p over the five grades alone (Zhuang et al. 2024, "Beyond Yes and No").
    """

    template: Template = field(default_factory=_default_template)
    name: str = "graded"

    @property
    def key(self) -> str:
        """Name and content of the template."""
        return f"{self.name}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask about each candidate by itself."""
        asks, rendered = label_each(self.template, question, model, GRADES)
        answers = yield asks
        table = np.stack([answer.log_probs for answer in answers])
        scores = softmax(table, axis=1) @ np.arange(len(GRADES), dtype=np.float64)
        return Judgement(scores, fallbacks=rendered.fallbacks)
