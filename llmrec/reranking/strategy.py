"""What every way to rank with a language model takes and gives.

A strategy is a conversation: a generator that yields prompts with what is asked of them, is sent
the model's answers, and returns a score a candidate. So it says nothing of how it is run, and the
same few lines are asked for one user or many at a time, shuffled or calibrated (see ``asking``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmrec.models import (
    ContinuationRequest,
    GenerationRequest,
    LabelRequest,
    LanguageModel,
)
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Budget,
    Context,
    PromptWriter,
    Template,
    load_template,
)
from llmrec.records import Item, Prompt, Usage, User


@dataclass(frozen=True, slots=True)
class Question:
    """A user's candidates, and what prompts may say about them.

    ``context`` holds every item of the history.
    """

    user: User
    candidates: tuple[Item, ...]
    context: Context = field(default_factory=Context)
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One score a candidate, float64 ``[candidates]``, higher is better; NaN: could not be judged.

    Scores of one judgement compare with each other, not with those of another strategy or user.
    ``fallbacks`` counts by name what did not go as asked.
    """

    scores: NDArray[np.float64]
    usage: Usage = field(default_factory=Usage)
    fallbacks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelAsk:
    """A prompt that is answered with a label, and how to ask what would be answered anyway.

    ``neutral`` makes the same prompt about something else (other candidates, for a list; no
    history, for a single candidate), in one wording or several; calibration takes
    ``neutral_weight`` of their mean log-probabilities off.
    """

    request: LabelRequest
    neutral: Callable[[], tuple[Prompt, ...]]
    neutral_weight: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one prompt.

    ``log_probs`` is ``[labels]`` or ``[tokens of the continuation]``, all NaN where there was no
    answer; ``text`` is what it wrote, ``finished`` whether it ended by itself. ``tokens`` counts
    those of prompt and answer; ``floored`` labels whose value is only an upper bound; ``fault``
    names why there is no answer.
    """

    log_probs: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    text: str = ""
    finished: bool = True
    tokens: int = 0
    floored: int = 0
    fault: str = ""


Ask: TypeAlias = LabelAsk | LabelRequest | ContinuationRequest | GenerationRequest
Request: TypeAlias = LabelRequest | ContinuationRequest | GenerationRequest
T = TypeVar("T")
Asked = TypeVar("Asked")
Told = TypeVar("Told")
Conversation: TypeAlias = Generator[Sequence[Ask], Sequence[Answer], T]


class Strategy(Protocol):
    """A way to ask a language model which candidates suit a user."""

    @property
    def name(self) -> str:
        """What scores of this strategy are called in a ranking's signals."""

    @property
    def key(self) -> str:
        """What tells its scores from those of other settings and templates; for fitted weights."""

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Score every candidate of the question; the judgement's usage is left to who asks.

        ``model`` is there to be counted with (tokens, labels): it is asked by yielding.

        Raises:
            PromptError: The template cannot be rendered.
            PromptTooLongError: A prompt does not fit the model even without history.
            ModelError: The model has no labels that are one token each.
        """


def relay(
    inner: Generator[Asked, Told, T], answer: Callable[[Asked], Conversation[Told]]
) -> Conversation[T]:
    """Run a generator each of whose questions is answered by a conversation of its own."""
    told: Told | None = None
    while True:
        try:
            asked = next(inner) if told is None else inner.send(told)
        except StopIteration as stop:
            result: T = stop.value
            return result
        told = yield from answer(asked)


def request_of(ask: Ask) -> Request:
    """What the model is asked."""
    return ask.request if isinstance(ask, LabelAsk) else ask


def writer_of(
    template: Template, question: Question, model: LanguageModel, *, room: int = 1
) -> PromptWriter:
    """Write a question's prompts so that ``room`` tokens are left for the answer."""
    return PromptWriter(
        template=template,
        user=question.user,
        context=question.context,
        tokenizer=model,
        budget=question.budget,
        fits=lambda prompt: model.count_tokens(prompt) + room <= model.max_length,
    )


def question_about(
    context: Context, user: User, item_ids: Sequence[str], budget: Budget
) -> Question:
    """Ask about items by their ids.

    Raises:
        KeyError: The context does not hold an item.
    """
    return Question(user, tuple(context.items[item_id] for item_id in item_ids), context, budget)


def default_template(strategy: str) -> Callable[[], Template]:
    """Return what loads a strategy's default template."""
    return lambda: load_template(DEFAULT_TEMPLATES[strategy])


def nobody(question: Question) -> Question:
    """The same question about a user of whom nothing is known."""
    return replace(question, user=User(""))
