"""Pointwise: would this user choose this item, Yes or No?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp

from llmrec.errors import ModelError
from llmrec.language_models import LanguageModel, ScoredSequence
from llmrec.prompting import DEFAULT_TEMPLATES, Template, load_template, render_prompts
from llmrec.reranking.strategy import Judgement, Question


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

    def judge(self, model: LanguageModel, question: Question) -> Judgement:
        """Score every candidate.

        Raises:
            ModelError: The model's tokenizer has no single token of its own for Yes or for No.
            PromptError: The template cannot be rendered.
            PromptTooLongError: A prompt does not fit the model even without history.
        """
        yes, no = label_tokens(model, "Yes"), label_tokens(model, "No")
        labels = (*yes, *no)
        if set(yes) & set(no):
            raise ModelError(
                f"{model.name} has one token for Yes and No: it knows neither.",
                hint="Use the likelihood strategy, which needs no labels.",
            )
        rendered = render_prompts(
            self.template,
            user=question.user,
            items=question.items,
            candidates=question.candidates,
            tokenizer=model,
            budget=question.budget,
            background=question.background,
            fits=lambda prompt: len(model.encode_prompt(prompt)) < model.max_length,
        )
        prompts = [tuple(model.encode_prompt(prompt)) for prompt in rendered.prompts]
        answers = model.log_probs(
            [ScoredSequence((*prompt, labels[0]), len(prompt), labels[1:]) for prompt in prompts]
        )
        table = np.stack(answers.values)
        scores = logsumexp(table[:, : len(yes)], axis=1) - logsumexp(table[:, len(yes) :], axis=1)
        return Judgement(scores, answers.usage, {**answers.fallbacks, **rendered.fallbacks})


def label_tokens(model: LanguageModel, label: str) -> tuple[int, ...]:
    """The spellings of a label that are a single token, without repeats.

    Raises:
        ModelError: There is none.
    """
    words = (label, label.lower(), label.upper())
    spellings = [model.encode(space + word) for word in words for space in ("", " ")]
    tokens = dict.fromkeys(tokens[0] for tokens in spellings if len(tokens) == 1)
    if not tokens:
        raise ModelError(
            f"{model.name} has no single token for {label!r} in any spelling.",
            hint="Use the likelihood strategy, which needs no labels.",
        )
    return tuple(tokens)
