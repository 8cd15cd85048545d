"""Tournament: windows against a pivot, then only what beats it."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.models import MOST_LABELS, LanguageModel
from llmrec.prompting import DEFAULT_TEMPLATES, Template, load_template
from llmrec.reranking.groups import LabelledGroups, check_sizes
from llmrec.reranking.listwise import by_place
from llmrec.reranking.ordering import top_down
from llmrec.reranking.strategy import Conversation, Judgement, Question, relay


def _default_template() -> Template:
    return load_template(DEFAULT_TEMPLATES["tournament"])


@dataclass(frozen=True)
class Tournament:
    """One-token listwise windows that all hold a pivot; what beats it is compared again.

    Of 100 candidates most are asked once, and their windows in one round, where sliding windows
    follow one another (Parry et al. 2024, "Top-down partitioning"). A score is the place counted
    from the end.

    Args:
        template: A listwise template.
        top: How many of the best are wanted.
        window: How many candidates stand in one prompt.
        name: What the score is called in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=_default_template)
    top: int = 10
    window: int = 20
    name: str = "tournament"

    def __post_init__(self) -> None:
        check_sizes(
            self.name, window=(self.window, 3, MOST_LABELS), top=(self.top, 1, self.window - 1)
        )

    @property
    def key(self) -> str:
        """Name, settings and content of the template."""
        return f"{self.name}/{self.window}-{self.top}/{self.template.sha256[:12]}"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Ask for the first of each window."""
        n = len(question.candidates)
        groups = LabelledGroups(self.template, question, model)
        rounds = top_down(n, self.top, self.window)
        return groups.judgement(by_place((yield from relay(rounds, groups.orders)), n))
