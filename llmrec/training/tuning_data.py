"""What a language model is tuned on: histories as windows of titles, and lists of candidates.

A list belongs to a user's row that its retriever does not know (``out_of_fold_lists``). In-sample
lists would be a lie: the row's own count in popularity, neighbours and co-occurrence lifts the
target, and the model would learn to trust the retriever more than it deserves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from llmrec.errors import DataError, OptionError
from llmrec.models import TextTokenizer
from llmrec.models.prompt_tokenizer import PromptTokenizer
from llmrec.prompting import Budget, Context, PromptWriter, Template
from llmrec.records import Interaction, Item, Prompt, User
from llmrec.reranking.gate import Scale, catalogue_scale
from llmrec.retrieval.weights import standardise
from llmrec.training.packed_rows import Segment
from llmrec.training.tuning_settings import TuningSettings

Rows = NDArray[np.int64]
FEWEST_VALIDATION = 20
"""Validation lists that a tuning needs."""
Write: TypeAlias = Callable[[User, Rows], Segment]
"""Writes a user's prompt, with scores of the items of these rows, as a strategy asks it."""


@dataclass(frozen=True, eq=False)
class TuningList:
    """A user before an event, and candidates in the retriever's order.

    Attributes:
        user: The user, whose history ends before the event.
        items: Item rows, int64 [n].
        retrieval: The retriever's scores, float64 [n].
        target: Place of the target among them.
        teacher: Scores of a stronger ranker, float64 [n], to learn instead of the target.
    """

    user: User
    items: Rows
    retrieval: NDArray[np.float64]
    target: int
    teacher: NDArray[np.float64] | None = None

    def drawn(self, sizes: tuple[int, int], draw: np.random.Generator) -> TuningList:
        """The target with other candidates: half the retriever's top, half drawn from the rest.

        Their order is drawn too. ``sizes`` are the least and the most candidates with the target.
        """
        others = np.delete(np.arange(len(self.items)), self.target)
        n = min(len(others), int(draw.integers(sizes[0], sizes[1] + 1)) - 1)
        top, rest = others[: n // 2], others[n // 2 :]
        chosen = np.concatenate([[self.target], top, draw.permutation(rest)[: n - len(top)]])
        return self._only(draw.permutation(chosen))

    def top(self, n: int) -> TuningList | None:
        """The retriever's first n; None where the target is not among them."""
        return None if self.target >= n else self._only(np.arange(len(self.items))[:n])

    def _only(self, places: Rows) -> TuningList:
        return TuningList(
            self.user,
            self.items[places],
            self.retrieval[places],
            int(np.flatnonzero(places == self.target)[0]),
            None if self.teacher is None else self.teacher[places],
        )

    def wished(self, temperature: float) -> NDArray[np.float64]:
        """The probability that each candidate should have.

        The target's is 1; by a teacher, a softmax over its scores, standardised in the list.
        """
        wish = np.zeros(len(self.items))
        wish[self.target] = 1.0
        if self.teacher is not None:
            wish[:] = softmax(standardise(self.teacher) / temperature)
        return wish


@dataclass(frozen=True, eq=False)
class TuningData:
    """Everything a tuning reads.

    Attributes:
        strategy: Whose prompts are written: likelihood, pointwise or listwise.
        write: Writes them.
        popularity: Training interactions by item row, int64 [n_items].
        windows: Histories, with loss on their titles.
        lists: Training lists, out of fold.
        validation: Lists of other rows, to judge by; the target among the first 20.
        content: Identifies the items' texts.
    """

    strategy: str
    write: Write
    popularity: NDArray[np.int64]
    windows: Sequence[Segment] = ()
    lists: Sequence[TuningList] = ()
    validation: Sequence[TuningList] = ()
    content: str = ""

    @cached_property
    def scale(self) -> Scale:
        """Scale of log(1 + popularity) over the catalogue."""
        return catalogue_scale(self.popularity)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256, in hex, of all of it."""
        digest = hashlib.sha256(f"{self.strategy} {self.content}".encode())
        digest.update(self.popularity.tobytes())
        for window in self.windows:
            digest.update(window.prompt.tobytes())
        for entry in (*self.lists, *self.validation):
            history = [row.item_id for row in entry.user.history]
            digest.update("\0".join([entry.user.user_id, *history]).encode())
            teacher = np.empty(0) if entry.teacher is None else entry.teacher
            for part in (entry.items, entry.retrieval, np.array(entry.target), teacher):
                digest.update(part.tobytes())
        return digest.hexdigest()


def check_data(data: TuningData, settings: TuningSettings) -> None:
    """Check that data suit the settings.

    Raises:
        OptionError: The prompts are those of another strategy.
        DataError: There is nothing to train on, or too little to validate on.
    """
    if data.strategy != settings.strategy:
        raise OptionError(
            f"The prompts are those of {data.strategy}; {settings.objective} needs those of "
            f"{settings.strategy}."
        )
    if not settings.on_lists and not data.windows:
        raise DataError("There are no histories to train on.", hint="Add an interactions file.")
    if settings.on_lists and not data.lists:
        raise DataError(
            "No training list holds its target among the candidates.",
            hint="Give users with longer histories, or take the objective next-title.",
        )
    if len(data.validation) < FEWEST_VALIDATION:
        raise DataError(
            f"{len(data.validation)} validation lists hold their target; {FEWEST_VALIDATION} or "
            "more are needed to choose between the tuned model and its base.",
            hint="Give more users with four items or more.",
        )


@dataclass(frozen=True)
class GrowingPrompt:
    """A template whose prompt grows by each title: start, title, break, title, break...

    Such templates (``likelihood/list``, ``numbered``, ``titles``) write a history as one text in
    which every title is predicted from those before it. ``breaks[i]`` follows the title number i,
    counted from 0.
    """

    start: str
    breaks: tuple[str, ...]

    @classmethod
    def of(cls, template: Template, tokenizer: TextTokenizer, longest: int) -> GrowingPrompt:
        """Find start and breaks by rendering histories of marks.

        Raises:
            OptionError: The template's prompt does not grow that way.
        """
        marks = [f"zq{number}qz" for number in range(longest)]
        context = Context(items={mark: Item(mark, title=mark) for mark in marks})
        texts = []
        for n in range(longest + 1):
            user = User("", history=tuple(Interaction("", mark) for mark in marks[:n]))
            budget = Budget(history_items=longest, title=64)
            writer = PromptWriter(
                template=template, user=user, tokenizer=tokenizer, budget=budget, context=context
            )
            texts.append(writer.without_candidate().prompts[0].text or "")
        breaks = []
        for before, after, mark in zip(texts, texts[1:], marks, strict=False):
            if not before or not after.startswith(before + mark):
                raise OptionError(
                    f"The template {template.name} does not go on from title to title: it cannot "
                    "be trained by the objective next-title.",
                    hint="Take likelihood/list or likelihood/numbered, or the objective list.",
                )
            breaks.append(after[len(before + mark) :])
        return cls(texts[0], tuple(breaks))

    def window(self, titles: Sequence[str], tokenizer: PromptTokenizer) -> Segment:
        """One or more titles after each other, all learned with the space before and the end."""
        text, spans = self.start, []
        for place, title in enumerate(titles):
            start = len(text) - text.endswith(" ")
            text += title
            spans.append((start, len(text) + 1))
            text += "\n" if place + 1 == len(titles) else self.breaks[place]
        encoded = tokenizer.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        mark = "a"  # what is put before every text: the beginning of text, if any
        first = tokenizer.encode_prompts([Prompt("", "", mark)])[0][: -len(tokenizer.encode(mark))]
        tokens, added = [*first, *encoded["input_ids"]], len(first)
        learned = np.zeros(len(tokens), dtype=bool)
        ends = np.array([end for _, end in encoded["offset_mapping"]])
        for start, stop in spans:
            learned[added:] |= (ends > start) & (ends <= stop)
        learned[0] = False
        return Segment(np.array(tokens, dtype=np.int32), learned=learned)


def windows_of(
    sequences: Sequence[Rows],
    titles: Sequence[str],
    tokenizer: PromptTokenizer,
    growing: GrowingPrompt,
    *,
    size: int = 40,
) -> Iterator[Segment]:
    """Cut users' item rows, oldest first, into windows of at most ``size`` titles.

    A window of a long history begins anew: its first titles have few before them, as in a user
    with a short history.
    """
    for sequence in sequences:
        shown = [titles[row] for row in sequence if titles[row]]
        for start in range(0, len(shown), size):
            yield growing.window(shown[start : start + size], tokenizer)
