"""Likelihood: how probable is this title as what comes after the user's history?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llmrec.errors import OptionError
from llmrec.language_models import LanguageModel, ScoredSequence
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Prompt,
    Template,
    field_text,
    load_template,
    render_prompts,
)
from llmrec.records import Usage, User
from llmrec.reranking.strategy import Judgement, Question

Tokens = tuple[int, ...]


def _default_template() -> Template:
    return load_template(DEFAULT_TEMPLATES["likelihood"])


@dataclass(frozen=True)
class Likelihood:
    """Log-probability of a candidate's title after the history, corrected for length and prior.

    score = (log p(title | history) - prior_weight * log p(title)) / tokens ** length_power

    The prior is what the model thinks of a title whoever the user is: well-known and short titles
    are likely everywhere. log p(title) is asked with the same template and an empty history, once a
    title.

    Args:
        template: A likelihood template; the title begins where it ends.
        prior_weight: 0 keeps the plain likelihood, 1 gives pointwise mutual information.
        length_power: 0 sums over the title's tokens, 1 takes their mean.
        name: What the score is called in a ranking's signals.

    Raises:
        OptionError: A number is negative or not finite.
    """

    template: Template = field(default_factory=_default_template)
    prior_weight: float = 0.5
    length_power: float = 0.0
    name: str = "likelihood"
    _priors: dict[tuple[str, Tokens], float] = field(
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

    def judge(self, model: LanguageModel, question: Question) -> Judgement:
        """Score every candidate; one whose title says nothing cannot be judged.

        Raises:
            PromptError: The template cannot be rendered.
            PromptTooLongError: The prompt does not fit the model even without history.
        """
        room = model.max_length - question.budget.title - 1
        rendered = render_prompts(
            self.template,
            user=question.user,
            items=question.items,
            candidates=(),
            tokenizer=model,
            budget=question.budget,
            background=question.background,
            fits=lambda prompt: len(model.encode_prompt(_unspaced(prompt)[0])) <= room,
        )
        prompt, space = _unspaced(rendered.prompts[0])
        titles = [
            tuple(model.encode(space + text)) if text else ()
            for text in (
                field_text(item.name, question.budget.title, model) for item in question.candidates
            )
        ]
        there = [i for i, title in enumerate(titles) if title]
        answers = model.log_probs(
            _continued(model.encode_prompt(prompt), [titles[i] for i in there])
        )
        given = np.array([value.sum() for value in answers.values])
        priors, prior_usage = self._prior(model, question, [titles[i] for i in there])
        lengths = np.array([len(titles[i]) for i in there], dtype=np.float64)
        scores = np.full(len(titles), np.nan)
        scores[there] = (given - self.prior_weight * priors) / lengths**self.length_power
        fallbacks = {**answers.fallbacks, **rendered.fallbacks}
        return Judgement(scores, answers.usage + prior_usage, fallbacks)

    def _prior(
        self, model: LanguageModel, question: Question, titles: Sequence[Tokens]
    ) -> tuple[np.ndarray, Usage]:
        """Log-probability of each title for a user of whom nothing is known."""
        usage = Usage()
        if self.prior_weight == 0:
            return np.zeros(len(titles)), usage
        new = [
            title
            for title in dict.fromkeys(titles)
            if (f"{model.name}@{model.revision}", title) not in self._priors
        ]
        if new:
            nobody = render_prompts(
                self.template,
                user=User(""),
                items=question.items,
                candidates=(),
                tokenizer=model,
                budget=question.budget,
            )
            prompt, _ = _unspaced(nobody.prompts[0])
            answers = model.log_probs(_continued(model.encode_prompt(prompt), new))
            usage = answers.usage
            for title, value in zip(new, answers.values, strict=True):
                self._priors[f"{model.name}@{model.revision}", title] = float(value.sum())
        known = [self._priors[f"{model.name}@{model.revision}", title] for title in titles]
        return np.array(known), usage


def _unspaced(prompt: Prompt) -> tuple[Prompt, str]:
    """Move a plain prompt's last space to the title: tokenizers put it at the front of a word."""
    if prompt.text is None or not prompt.text.endswith(" "):
        return prompt, ""
    return Prompt(prompt.system, prompt.user, prompt.text[:-1]), " "


def _continued(prompt: Sequence[int], titles: Sequence[Tokens]) -> list[ScoredSequence]:
    return [ScoredSequence((*prompt, *title), len(prompt)) for title in titles]
