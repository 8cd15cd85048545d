"""Listwise, one token: which of these candidates comes first?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from llmrec.models import MOST_LABELS, LanguageModel
from llmrec.prompting import DEFAULT_TEMPLATES, Template, load_template
from llmrec.reranking.groups import LabelledGroups, check_sizes
from llmrec.reranking.ordering import sliding_windows
from llmrec.reranking.strategy import Conversation, Judgement, Question, relay


def _default_template() -> Template:
    return load_template(DEFAULT_TEMPLATES["listwise"])


@dataclass(frozen=True)
class Listwise:
    """Labels of all candidates ordered by their log-probability as the first token of the answer.

    One prompt and one forward for up to ``window`` candidates, nothing is generated (Reddy et al.
    2024, "FIRST"). More candidates go through windows that slide from the end to the head: the best
    ``window - step`` of each stand in the next, so that every candidate is compared with those that
    reach the head. Then a score is the place counted from the end.

    Args:
        template: A listwise template.
        window: How many candidates stand in one prompt.
        step: How far the window moves.
        name: What the score is called in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=_default_template)
    window: int = 20
    step: int = 10
    name: str = "listwise"

    def __post_init__(self) -> None:
        check_sizes(
            self.name, window=(self.window, 2, MOST_LABELS), step=(self.step, 1, self.window - 1)
        )

    @property
    def key(self) -> str:
        """Name, settings and content of the template."""
        return f"{self.name}/{self.window}-{self.step}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask for the first of each window."""
        n = len(question.candidates)
        if n == 1:
            return Judgement(np.zeros(1))
        groups = LabelledGroups(self.template, question, model)
        if n <= self.window:
            (answer,) = yield from groups.ask([range(n)])
            return groups.judgement(answer.log_probs)
        windows = sliding_windows(n, self.window, self.step)
        return groups.judgement(by_place((yield from relay(windows, groups.orders)), n))


def by_place(order: list[int], n: int) -> np.ndarray:
    """Scores of an order of some of n places, counted from the end; the others share the lowest."""
    scores = np.zeros(n)
    scores[order] = np.arange(n, n - len(order), -1.0)
    return scores
