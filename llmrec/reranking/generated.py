"""Listwise, written out: in which order would this user choose these candidates?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from llmrec.models import MOST_LABELS, GenerationRequest, LanguageModel
from llmrec.prompting import DEFAULT_TEMPLATES, Template, load_template
from llmrec.reranking.groups import LabelledGroups, check_sizes
from llmrec.reranking.listwise import by_place
from llmrec.reranking.ordering import sliding_windows
from llmrec.reranking.parse_order import Fault, parse_order
from llmrec.reranking.strategy import Conversation, Judgement, Question

TOKENS_A_LABEL, TOKENS_BESIDE = 10, 16
"""Room for an answer: an order takes three to six tokens a label, a list a few more."""


def _default_template() -> Template:
    return load_template(DEFAULT_TEMPLATES["listwise-generated"])


@dataclass(frozen=True)
class ListwiseGenerated:
    """The order of all candidates' labels as the model writes it (Sun et al. 2023, "RankGPT").

    A model that can be held to an order is, so that its answer is always whole; what another one
    writes is read by `parse_order`, and what is wrong with it is counted (``answer_missing``...).
    More than ``window`` candidates go through windows that slide from the end to the head. A score
    is the place counted from the end; candidates that the model never names share the lowest. Where
    no label can be read a window stays as it was, and who stood in no other is not judged.

    Args:
        template: A listwise-generated template.
        window: How many candidates stand in one prompt.
        step: How far the window moves.
        name: What the score is called in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=_default_template)
    window: int = 20
    step: int = 10
    name: str = "listwise-generated"

    def __post_init__(self) -> None:
        check_sizes(
            self.name, window=(self.window, 2, MOST_LABELS), step=(self.step, 1, self.window - 1)
        )

    @property
    def key(self) -> str:
        """Name, settings and content of the template."""
        return f"{self.name}/{self.window}-{self.step}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask for the order of each window."""
        n = len(question.candidates)
        if n == 1:
            return Judgement(np.zeros(1))
        room = TOKENS_BESIDE + TOKENS_A_LABEL * min(n, self.window)
        groups = LabelledGroups(self.template, question, model, room)
        counts: Counter[str] = Counter()
        judged, named = set[int](), set[int]()
        windows = sliding_windows(n, self.window, self.step)
        (group,) = next(windows)
        while True:
            labels = groups.labels(len(group))
            (prompt,) = groups.prompts([group])
            (answer,) = yield [GenerationRequest(prompt, room, labels)]
            parsed = parse_order(answer.text, labels, finished=answer.finished)
            counts.update(f"answer_{fault}" for fault in parsed.faults if fault != Fault.OK)
            if parsed.named:
                judged.update(group)
                named.update(group[place] for place in parsed.order[: parsed.named])
            try:
                (group,) = windows.send([parsed.order])
            except StopIteration as stop:
                scores = by_place(stop.value, n)
                scores[list(judged - named)] = 0.0  # below all places
                scores[list(set(range(n)) - judged)] = np.nan
                return Judgement(scores, fallbacks={**groups.fallbacks, **counts})
