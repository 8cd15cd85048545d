"""Listwise: many candidates in one prompt, ordered by one token or by a written answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from llmrec.models import MOST_LABELS, GenerationRequest, LanguageModel
from llmrec.prompting import Template
from llmrec.reranking.groups import LabelledGroups, check_sizes
from llmrec.reranking.ordering import sliding_windows, top_down
from llmrec.reranking.parse_order import OrderFault, parse_order
from llmrec.reranking.strategy import Conversation, Judgement, Question, default_template, relay

TOKENS_A_LABEL, TOKENS_BESIDE = 10, 16
"""Answer tokens per label: an order takes three to six, a list a few more."""


@dataclass(frozen=True)
class Listwise:
    """Candidates by the log-probability of their label as the first answer token.

    Up to ``window`` candidates take one prompt and one forward pass, without generation (Reddy et
    al. 2024, "FIRST"). For more, a window slides from the end of the list to its head; the best
    ``window - step`` of each window enter the next. A score is then the place counted from the end.

    Args:
        template: A listwise template.
        window: Candidates per prompt.
        step: How far the window moves.
        name: Name of the score in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=default_template("listwise"))
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
        """Ask for the best label of each window."""
        n = len(question.candidates)
        if n == 1:
            return Judgement(np.zeros(1))
        groups = LabelledGroups(self.template, question, model)
        if n <= self.window:
            (answer,) = yield from groups.ask([range(n)])
            return replace(groups.judgement(answer.log_probs), parts=answer.parts)
        windows = sliding_windows(n, self.window, self.step)
        return groups.judgement(by_place((yield from relay(windows, groups.orders)), n))


@dataclass(frozen=True)
class Tournament:
    """Listwise windows that share a pivot; candidates above it are compared again.

    Unlike sliding windows, all windows run in one round, and most candidates are scored once (Parry
    et al. 2024, "Top-down partitioning"). A score is the place counted from the end.

    Args:
        template: A listwise template.
        top: How many of the best to order.
        window: Candidates per prompt.
        name: Name of the score in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=default_template("tournament"))
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
        """Ask for the best label of each window."""
        n = len(question.candidates)
        groups = LabelledGroups(self.template, question, model)
        rounds = top_down(n, self.top, self.window)
        return groups.judgement(by_place((yield from relay(rounds, groups.orders)), n))


@dataclass(frozen=True)
class ListwiseGenerated:
    """The model writes the order of the candidates' labels (Sun et al. 2023, "RankGPT").

    Constrained decoding guarantees a complete order if the model supports it; otherwise
    `parse_order` reads the text and faults are counted (``answer_missing``...). More than
    ``window`` candidates take sliding windows, from the end to the head. A score is the place
    counted from the end; candidates that the model never names share the lowest. A window without a
    readable label keeps its order; candidates only in such windows get NaN.

    Args:
        template: A listwise-generated template.
        window: Candidates per prompt.
        step: How far the window moves.
        name: Name of the score in a ranking's signals.

    Raises:
        OptionError: A number is out of range.
    """

    template: Template = field(default_factory=default_template("listwise-generated"))
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
            if not answer.fault:  # else there is no answer to find faults in
                counts.update(f"answer_{each}" for each in parsed.faults if each != OrderFault.OK)
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


def by_place(order: list[int], n: int) -> np.ndarray:
    """Scores of a partial order of n places, counted from the end; the others share the lowest."""
    scores = np.zeros(n)
    scores[order] = np.arange(n, n - len(order), -1.0)
    return scores
