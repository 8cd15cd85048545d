"""Setwise: which of a few candidates is the best?"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.models import MOST_LABELS, LanguageModel
from llmrec.prompting import Template
from llmrec.reranking.groups import LabelledGroups, check_sizes
from llmrec.reranking.listwise import by_place
from llmrec.reranking.ordering import top_by_best
from llmrec.reranking.strategy import Conversation, Judgement, Question, default_template, relay


@dataclass(frozen=True)
class Setwise:
    """The best ``top`` candidates by heapsort; each comparison is a prompt with ``ways`` of them.

    The model answers with the label of the best (Zhuang et al. 2024, "Setwise"). A score is the
    place counted from the end; candidates outside the top share the lowest.

    Args:
        template: A setwise template.
        ways: Candidates per prompt.
        top: How many of the best to order.
        name: Name of the score in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=default_template("setwise"))
    ways: int = 4
    top: int = 10
    name: str = "setwise"

    def __post_init__(self) -> None:
        check_sizes(self.name, ways=(self.ways, 3, MOST_LABELS), top=(self.top, 1, 1000))

    @property
    def key(self) -> str:
        """Name, settings and content of the template."""
        return f"{self.name}/{self.ways}-{self.top}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask for the best of each group that heapsort compares."""
        n = len(question.candidates)
        groups = LabelledGroups(self.template, question, model)
        heap = top_by_best(n, self.top, self.ways)
        return groups.judgement(by_place((yield from relay(heap, groups.best)), n))
