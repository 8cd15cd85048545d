"""Run conversations with a language model; each round sends all their prompts in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llmrec.models import (
    ContinuationRequest,
    GenerationRequest,
    LabelRequest,
    LanguageModel,
    LogProbs,
)
from llmrec.records import Usage
from llmrec.reranking.requests import Request
from llmrec.reranking.strategy import (
    Answer,
    Ask,
    Conversation,
    Judgement,
    LabelAsk,
    Question,
    Strategy,
    relay,
    request_of,
)

T = TypeVar("T")
LABEL_SHARE = 0.2
"""Mean probability of all labels of a prompt together under which they are reported."""
LEAST_TOGETHER, ROWS_OF_A_REQUEST = 8, 600
"""Fewest requests per call, and tokens that one of 20 candidates usually takes."""
USUAL_CANDIDATES = 64
"""Mean number of candidates above which a call takes fewer requests."""
LEAST = -1e4
"""Replaces the log-probability minus infinity, so that differences stay finite."""


def window_of(model: LanguageModel) -> int:
    """Requests to send in one call: enough for two rounds of what the model processes at once."""
    return max(LEAST_TOGETHER, 2 * model.max_rows // ROWS_OF_A_REQUEST)


def windows(requests: Sequence[Request], model: LanguageModel) -> Iterator[Sequence[Request]]:
    """Divide requests into those of one call; many candidates make fewer requests."""
    most = window_of(model)
    ends = np.cumsum([len(request.candidates) for request in requests])
    start = 0
    while start < len(requests):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + USUAL_CANDIDATES * most, side="right"))
        end = min(max(fitting, start + 1), start + most)
        yield requests[start:end]
        start = end


@dataclass
class _Tally:
    """What one conversation was answered."""

    prompts: int = 0
    tokens: int = 0
    label_shares: list[float] = field(default_factory=list)
    fallbacks: Counter[str] = field(default_factory=Counter)

    def ask(self, asks: Sequence[Ask]) -> Conversation[Sequence[Answer]]:
        """Pass requests on and count their answers."""
        answers = yield asks
        self.prompts += len(asks)
        self.tokens += sum(answer.tokens for answer in answers)
        self.fallbacks["labels_floored"] += sum(answer.floored for answer in answers)
        self.fallbacks.update(answer.fault for answer in answers if answer.fault)
        self.label_shares += [
            float(np.exp(answer.log_probs).sum())
            for ask, answer in zip(asks, answers, strict=True)
            if isinstance(ask, LabelAsk) and not np.isnan(answer.log_probs).any()
        ]
        return answers


@dataclass
class _Spent:
    """Usage of all conversations together."""

    usage: Usage = field(default_factory=Usage)
    fallbacks: Counter[str] = field(default_factory=Counter)


def judge(
    model: LanguageModel, strategy: Strategy, questions: Sequence[Question]
) -> tuple[Judgement, ...]:
    """Score several users' candidates with one strategy: one judgement per question.

    Each round sends the prompts of all questions in one call, so that they share prefixes. Usage is
    divided by each question's tokens and adds up to the total. A failed prompt is counted as a
    fallback of its question, a fallback of a whole call with the first question. Infinite scores
    become NaN and are counted.

    Raises:
        PromptError: The template cannot be rendered.
        PromptTooLongError: A prompt does not fit the model even without history.
        ModelError: The model cannot answer.
    """
    model = model.session()
    meters = [_Tally() for _ in questions]
    asked = [
        relay(strategy.ask(question, model), meter.ask)
        for question, meter in zip(questions, meters, strict=True)
    ]
    spent = _Spent()
    judgements = _run(together(asked), model, spent)
    shares = _shares(spent.usage, meters)
    judged = []
    for place, (judgement, share, meter) in enumerate(zip(judgements, shares, meters, strict=True)):
        fallbacks = Counter(judgement.fallbacks) + meter.fallbacks
        fallbacks["infinite"] += int(np.isinf(judgement.scores).sum())
        scores = _finite(judgement.scores)  # infinity would dominate all signals
        parts = {name: _finite(values) for name, values in judgement.parts.items()}
        share_of_labels = float(np.mean(meter.label_shares)) if meter.label_shares else None
        if share_of_labels is not None and share_of_labels < LABEL_SHARE:
            fallbacks["labels_improbable"] += len(meter.label_shares)
        if place == 0:
            fallbacks += spent.fallbacks
        judged.append(Judgement(scores, share, dict(+fallbacks), share_of_labels, parts))
    return tuple(judged)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isinf(values), np.nan, values)


def together(conversations: Sequence[Conversation[T]]) -> Conversation[list[T]]:
    """Run conversations in parallel: each round sends the requests of all unfinished ones."""
    results: dict[int, T] = {}
    asks: dict[int, Sequence[Ask]] = {}

    def advance(place: int, answers: Sequence[Answer] | None) -> None:
        conversation = conversations[place]
        try:
            asks[place] = next(conversation) if answers is None else conversation.send(answers)
        except StopIteration as stop:
            results[place] = stop.value
            asks.pop(place, None)

    for place in range(len(conversations)):
        advance(place, None)
    while asks:
        answers = yield [ask for some in asks.values() for ask in some]
        start = 0
        for place, some in list(asks.items()):
            advance(place, answers[start : start + len(some)])
            start += len(some)
    return [results[place] for place in range(len(conversations))]


def _run(conversation: Conversation[T], model: LanguageModel, spent: _Spent) -> T:
    answers: Sequence[Answer] | None = None
    while True:
        try:
            asks = next(conversation) if answers is None else conversation.send(answers)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answers = _answers(model, asks, spent)


def _answers(model: LanguageModel, asks: Sequence[Ask], spent: _Spent) -> list[Answer]:
    """Answer all requests with one model call per kind of request; equal ones are sent once."""
    requests = [request_of(ask) for ask in asks]
    distinct = dict.fromkeys(requests)
    answers: dict[object, Answer] = {}
    kinds: tuple[tuple[type, Callable[..., list[Answer]]], ...] = (
        (LabelRequest, _labels),
        (ContinuationRequest, _continuations),
        (GenerationRequest, _texts),
    )
    for kind, answered in kinds:
        some = [request for request in distinct if isinstance(request, kind)]
        if some:
            answers.update(zip(some, answered(model, some, spent), strict=True))
    return [answers[request] for request in requests]


def _labels(model: LanguageModel, requests: Sequence[LabelRequest], spent: _Spent) -> list[Answer]:
    return _scores(model.label_log_probs(requests), spent)


def _continuations(
    model: LanguageModel, requests: Sequence[ContinuationRequest], spent: _Spent
) -> list[Answer]:
    return _scores(model.continuation_log_probs(requests), spent)


def _scores(found: LogProbs, spent: _Spent) -> list[Answer]:
    spent.usage += found.usage
    spent.fallbacks.update(found.fallbacks)
    floored = found.floored or (0,) * len(found.values)
    faults = found.faults or ("",) * len(found.values)
    return [
        Answer(np.maximum(value, LEAST), tokens=n, floored=some, fault=fault)
        for value, n, some, fault in zip(found.values, found.tokens, floored, faults, strict=True)
    ]


def _texts(
    model: LanguageModel, requests: Sequence[GenerationRequest], spent: _Spent
) -> list[Answer]:
    found = model.generate(
        [request.prompt for request in requests],
        max_new_tokens=max(request.max_new_tokens for request in requests),
        orders_of=[request.order_of for request in requests],
    )
    spent.usage += found.usage
    spent.fallbacks.update(found.fallbacks)
    faults = found.faults or ("",) * len(requests)
    return [
        Answer(text=text, finished=finished, tokens=n, fault=fault)
        for text, finished, n, fault in zip(
            found.texts, found.finished, found.tokens, faults, strict=True
        )
    ]


def _shares(total: Usage, meters: Sequence[_Tally]) -> list[Usage]:
    """Share a usage out by tokens given; whole numbers are rounded so that they add up."""
    tokens = np.array([meter.tokens for meter in meters], dtype=np.float64)
    if not tokens.any():  # no answers, but seconds may have passed
        tokens = np.ones(len(meters))
    ends = np.cumsum(tokens) / max(tokens.sum(), 1.0)

    def split(amount: int) -> list[int]:
        return [int(n) for n in np.diff(np.rint(ends * amount), prepend=0.0)]

    whole = zip(
        split(total.tokens_given),
        split(total.tokens_forwarded),
        split(total.tokens_generated),
        split(total.forwards),
        np.diff(ends * total.seconds, prepend=0.0),
        meters,
        strict=True,
    )
    return [
        Usage(given, forwarded, generated, forwards, float(seconds), meter.prompts)
        for given, forwarded, generated, forwards, seconds, meter in whole
    ]
