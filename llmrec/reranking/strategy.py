"""The interface of strategies.

A strategy is a conversation: a generator that yields requests, receives the model's answers, and
returns one score per candidate. It does not call the model itself, so the same code runs for one
user or many, shuffled or calibrated (see ``driver``).
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
    """A user, candidates and context for prompts; ``context`` holds all items of the history."""

    user: User
    candidates: tuple[Item, ...]
    context: Context = field(default_factory=Context)
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of one strategy, float64 ``[candidates]``, higher is better, NaN for unscored.

    Scores are comparable only within one judgement. ``parts`` are what a gate weighs apart, each
    like ``scores``: ``conditional`` and ``prior`` are the score with the history and without it (or
    with other candidates), ``length`` is a title's tokens; empty where the score is all there is.
    ``fallbacks`` counts fallbacks by name. ``label_share`` is the probability of all labels of a
    prompt together, the mean of its prompts; None without labels.
    """

    scores: NDArray[np.float64]
    usage: Usage = field(default_factory=Usage)
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    label_share: float | None = None
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelAsk:
    """A prompt whose answer is a label, with its neutral prompts for calibration.

    ``neutral`` makes one or more content-free prompts (other candidates for a list, no history for
    a single candidate). Calibration subtracts ``neutral_weight`` times their mean
    log-probabilities.
    """

    request: LabelRequest
    neutral: Callable[[], tuple[Prompt, ...]]
    neutral_weight: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one prompt.

    ``log_probs`` is ``[labels]`` or ``[tokens of the continuation]``, all NaN without an answer.
    ``parts`` are a calibrated answer's own log-probabilities (``conditional``) and its ``prior``.
    ``text`` is the generated text, ``finished`` whether the model ended it. ``tokens`` counts
    prompt and answer, ``floored`` the labels whose value is only an upper bound. ``fault`` is the
    reason for a missing answer.
    """

    log_probs: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    text: str = ""
    finished: bool = True
    tokens: int = 0
    floored: int = 0
    fault: str = ""
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


Ask: TypeAlias = LabelAsk | LabelRequest | ContinuationRequest | GenerationRequest
Request: TypeAlias = LabelRequest | ContinuationRequest | GenerationRequest
T = TypeVar("T")
Asked = TypeVar("Asked")
Told = TypeVar("Told")
Conversation: TypeAlias = Generator[Sequence[Ask], Sequence[Answer], T]


class Strategy(Protocol):
    """A way to score candidates with a language model."""

    @property
    def name(self) -> str:
        """Name of the score in a ranking's signals."""

    @property
    def key(self) -> str:
        """Key of the strategy, its settings and template; fitted weights are stored under it."""

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        """Score every candidate of the question; the driver adds the usage.

        ``model`` only counts tokens and labels; yield a request to get an answer from it.

        Raises:
            PromptError: The template cannot be rendered.
            PromptTooLongError: A prompt does not fit the model even without history.
            ModelError: The model has no labels that are one token each.
        """


def relay(
    inner: Generator[Asked, Told, T], answer: Callable[[Asked], Conversation[Told]]
) -> Conversation[T]:
    """Run a generator; a conversation answers each of its requests."""
    reply: Told | None = None
    while True:
        try:
            request = next(inner) if reply is None else inner.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        reply = yield from answer(request)


def judgement_of(
    answers: Sequence[Answer],
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    fallbacks: Mapping[str, int],
) -> Judgement:
    """Judge by labels, one answer per candidate; ``score`` reads ``[candidates, labels]``."""
    parts = {
        name: score(np.stack([answer.parts[name] for answer in answers]))
        for name in answers[0].parts
    }
    scores = score(np.stack([answer.log_probs for answer in answers]))
    return Judgement(scores, fallbacks=fallbacks, parts=parts)


def request_of(ask: Ask) -> Request:
    """What the model is asked."""
    return ask.request if isinstance(ask, LabelAsk) else ask


def writer_of(
    template: Template, question: Question, model: LanguageModel, *, room: int = 1
) -> PromptWriter:
    """A prompt writer for a question that keeps ``room`` tokens for the answer."""
    return PromptWriter(
        template=template,
        user=question.user,
        context=question.context,
        tokenizer=model,
        budget=question.budget,
        fits=lambda prompts: max(model.count_tokens(prompts)) + room <= model.max_length,
    )


def question_about(
    context: Context, user: User, item_ids: Sequence[str], budget: Budget
) -> Question:
    """Make a question about items by id.

    Raises:
        KeyError: An item is not in the context.
    """
    return Question(user, tuple(context.items[item_id] for item_id in item_ids), context, budget)


def default_template(strategy: str) -> Callable[[], Template]:
    """Return a function that loads a strategy's default template."""
    return lambda: load_template(DEFAULT_TEMPLATES[strategy])


def without_user(question: Question) -> Question:
    """The same question for a user without history, profile and query."""
    return replace(question, user=User(""))
