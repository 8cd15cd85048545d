"""Candidates side by side in one prompt, each with a label: which label does the model answer?"""

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
"""Stands for a candidate where there is no other item (Zhao et al. 2021)."""

LONG = 8
"""From so many places on, what the items in them are is little beside the places themselves; in a
shorter group it is taken off by asking about two orders (of a pair, exactly)."""


@dataclass
class LabelledGroups:
    """Asks for labels of groups of one question's candidates.

    ``shortened`` is the most history items that had to be left out of a prompt, ``unanswered``
    counts groups to which the model gave no label. ``judged`` are the places of candidates that
    stood in a group with an answer.
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
        """Ask for the label of the best of each group of places, all in one round."""
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
        """Ask for the order of each group: its places by the probability of their labels."""
        answers = yield from self.ask(groups)
        return [order_of(answer) for answer in answers]

    def best(self, groups: Sequence[Sequence[int]]) -> Conversation[list[int]]:
        """Ask for the best of each group."""
        answers = yield from self.ask(groups)
        return [best_of(*pair) for pair in zip(answers, groups, strict=True)]

    def prompts(self, groups: Sequence[Sequence[int]]) -> tuple[Prompt, ...]:
        """Write a prompt a group."""
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
        """What the answers come to; the place of who was not judged is no judgement.

        Args:
            scores: One a candidate.
            judged: Whose places are; None takes who stood in an answered group.
        """
        if self.unanswered:
            places = self.judged if judged is None else judged
            scores = np.where(np.isin(np.arange(len(scores)), list(places)), scores, np.nan)
        return Judgement(scores, fallbacks=self.fallbacks)

    @property
    def fallbacks(self) -> dict[str, int]:
        """What did not go as asked."""
        counts = {"history_shortened": self.shortened, "no_answer": self.unanswered}
        return {name: n for name, n in counts.items() if n}

    @cached_property
    def _writer(self) -> PromptWriter:
        return writer_of(self.template, self.question, self.model, room=self.room)

    def neutral_prompts(self, n: int) -> tuple[Prompt, ...]:
        """Write the prompt of a group of n other items than the candidates, once for each n.

        Of a short group it is written in two orders, of which one begins in the middle of the
        other. Items too long for the model give way to `BLANK`: the candidates themselves did fit.
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
    """Other items of the catalogue, drawn by who the candidates are and not by their order.

    Neither candidates nor of the history. All are `BLANK` where the pool has not so many: a prior
    of some places with items and some without would be of that difference.
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
    """Places of a group by the probability of their label, best first; unanswered: as they were."""
    if np.isnan(answer.log_probs).all():
        return list(range(len(answer.log_probs)))
    return [int(place) for place in np.argsort(-answer.log_probs, kind="stable")]


def best_of(answer: Answer, group: Sequence[int]) -> int:
    """Which of a group has the most probable label; of equals, the one that was given first."""
    values = np.nan_to_num(answer.log_probs, nan=-np.inf)
    return max(range(len(group)), key=lambda place: (values[place], -group[place]))


def check_sizes(strategy: str, **sizes: tuple[int, int, int]) -> None:
    """Check that each number, given as (value, least, most), is allowed.

    Raises:
        OptionError: One is not.
    """
    for name, (value, least, most) in sizes.items():
        if not least <= value <= most:
            raise OptionError(
                f"{strategy}: {name}={value}; allowed is {least} to {most}.",
                hint=f"A prompt can label at most {MOST_LABELS} candidates."
                if most == MOST_LABELS
                else "",
            )
