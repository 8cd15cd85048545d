"""Prompts with several labelled candidates, and their label answers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError, PromptTooLongError
from llmrec.models import MOST_LABELS, LabelRequest, LanguageModel, labels_for
from llmrec.prompting import PromptWriter, Template
from llmrec.records import Item, Prompt
from llmrec.reranking.strategy import (
    Answer,
    Conversation,
    Judgement,
    LabelAsk,
    Question,
    writer_of,
)

BLANK = Item("\0blank", "N/A")
"""Content-free placeholder if the catalogue has too few other items (Zhao et al. 2021)."""

LONG = 8
"""Group size from which one neutral order is enough. In shorter groups the neutral items matter
more, so two orders are averaged (for a pair, the items cancel exactly)."""


@dataclass
class LabelledGroups:
    """Asks for the labels of groups of one question's candidates.

    ``shortened`` is the maximum number of history items cut from a prompt. ``unanswered`` counts
    groups without an answer. ``judged`` holds the places of candidates in an answered group.
    """

    template: Template
    question: Question
    model: LanguageModel
    room: int = 1
    shortened: int = 0
    unanswered: int = 0
    judged: set[int] = field(default_factory=set)
    _written: dict[int, tuple[Prompt, ...]] = field(default_factory=dict, repr=False)

    def ask(self, groups: Sequence[Sequence[int]]) -> Conversation[list[Answer]]:
        """Ask for each group's best label, all in one round."""
        prompts = self.prompts(groups)
        answers = yield [
            LabelAsk(
                LabelRequest(prompt, self.labels(len(group))),
                partial(self.neutral_prompts, len(group)),
                1.0,
            )
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        for answer, group in zip(answers, groups, strict=True):
            if np.isnan(answer.log_probs).all():
                self.unanswered += 1
            else:
                self.judged.update(group)
        return list(answers)

    def orders(self, groups: Sequence[Sequence[int]]) -> Conversation[list[list[int]]]:
        """Ask for each group's order: its places by label probability."""
        answers = yield from self.ask(groups)
        return [order_of(answer) for answer in answers]

    def best(self, groups: Sequence[Sequence[int]]) -> Conversation[list[int]]:
        """Ask for the best of each group."""
        answers = yield from self.ask(groups)
        return [best_of(*pair) for pair in zip(answers, groups, strict=True)]

    def prompts(self, groups: Sequence[Sequence[int]]) -> tuple[Prompt, ...]:
        """Write one prompt per group."""
        candidates = self.question.candidates
        shown = [[candidates[place] for place in group] for group in groups]
        rendered = self._writer.for_groups(shown, self.labels(max(map(len, groups))))
        self.shortened = max(self.shortened, rendered.history_given - rendered.history_kept)
        return rendered.prompts

    def labels(self, n: int) -> tuple[str, ...]:
        """Labels of a group of n."""
        return labels_for(self.model, n)

    def judgement(
        self, scores: NDArray[np.float64], judged: Collection[int] | None = None
    ) -> Judgement:
        """Make a judgement of the scores; candidates without an answer get NaN.

        Args:
            scores: ``[candidates]``.
            judged: Places with a score; None takes those in an answered group.
        """
        if self.unanswered:
            places = self.judged if judged is None else judged
            scores = np.where(np.isin(np.arange(len(scores)), list(places)), scores, np.nan)
        return Judgement(scores, fallbacks=self.fallbacks)

    @property
    def fallbacks(self) -> dict[str, int]:
        """Fallbacks by name."""
        counts = {"history_shortened": self.shortened, "no_answer": self.unanswered}
        return {name: n for name, n in counts.items() if n}

    @cached_property
    def _writer(self) -> PromptWriter:
        return writer_of(self.template, self.question, self.model, room=self.room)

    def neutral_prompts(self, n: int) -> tuple[Prompt, ...]:
        """Write neutral prompts for a group of n items; cached by n.

        A short group is written in two orders; the second is rotated by half. `BLANK` replaces
        items that are too long for the model.
        """
        if n not in self._written:
            try:
                self._written[n] = self._about(stand_ins(self.question, n))
            except PromptTooLongError:
                self._written[n] = self._about([BLANK] * n)
        return self._written[n]

    def _about(self, items: list[Item]) -> tuple[Prompt, ...]:
        n, half = len(items), len(items) // 2
        groups = [items, [*items[half:], *items[:half]]] if n < LONG else [items]
        return self._writer.for_groups(groups, self.labels(n)).prompts


def stand_ins(question: Question, n: int) -> list[Item]:
    """Draw n items that are neither candidates nor in the history.

    The draw depends on the set of candidates, not on their order. All are `BLANK` if there are
    fewer than n items: a mix would measure the difference between items and blanks.
    """
    known = {item.item_id for item in question.candidates}
    known |= {row.item_id for row in question.user.history}
    pool = question.context.pool
    seed = hashlib.sha256("\0".join(sorted(known)).encode()).digest()
    draws = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    drawn = draws.choice(len(pool), min(len(pool), n + len(known)), replace=False) if pool else ()
    others = [pool[place] for place in drawn if pool[place] not in known][:n]
    return (
        [question.context.items[item_id] for item_id in others] if len(others) == n else [BLANK] * n
    )


def order_of(answer: Answer) -> list[int]:
    """Places of a group by label probability, best first; unchanged without an answer."""
    if np.isnan(answer.log_probs).all():
        return list(range(len(answer.log_probs)))
    return [int(place) for place in np.argsort(-answer.log_probs, kind="stable")]


def best_of(answer: Answer, group: Sequence[int]) -> int:
    """The place with the most probable label; ties go to the first."""
    values = np.nan_to_num(answer.log_probs, nan=-np.inf)
    return max(range(len(group)), key=lambda place: (values[place], -group[place]))


def check_sizes(strategy: str, **sizes: tuple[int, int, int]) -> None:
    """Raise an OptionError unless each (value, least, most) is within its range."""
    for name, (value, least, most) in sizes.items():
        if not least <= value <= most:
            raise OptionError(
                f"{strategy}: {name}={value}; allowed is {least} to {most}.",
                hint=f"A prompt can label at most {MOST_LABELS} candidates."
                if most == MOST_LABELS
                else "",
            )
