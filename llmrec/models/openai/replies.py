"""A server's reply: checked for its shape first, then read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt
from scipy.special import logsumexp

from llmrec.models.labels import spellings

LogProb = Annotated[float, Field(le=1e-3, allow_inf_nan=False)]
"""Rounding may leave the logarithm of a certainty a little above 0."""
_UNKNOWN = -9999.0
"""What servers write for a token of which they do not know more than that it is improbable."""
_ROUNDING = 1e-7
"""Probabilities that add up to 1 may leave as much by rounding alone."""
Listed: TypeAlias = list[tuple[str, float]]


class WrongReplyError(ValueError):
    """A reply that has not got what was asked for."""


class _Token(BaseModel):
    token: str
    logprob: LogProb
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None = None

    @property
    def text(self) -> str:
        if self.bytes:
            return bytes(self.bytes).decode("utf-8", errors="replace")
        return _plain(self.token)


class _Place(_Token):
    top_logprobs: list[_Token] = []


class _ByPlace(BaseModel):
    """Log-probabilities as chats have them (and llama.cpp everywhere)."""

    content: list[_Place]


class _ByColumn(BaseModel):
    """Log-probabilities as completions have them."""

    tokens: list[str]
    token_logprobs: list[LogProb | None]
    top_logprobs: list[dict[str, LogProb] | None] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message | None = None
    text: str | None = None
    logprobs: _ByPlace | _ByColumn | None = None


class _PromptDetails(BaseModel):
    cached_tokens: NonNegativeInt | None = None


class _Usage(BaseModel):
    prompt_tokens: NonNegativeInt = 0
    completion_tokens: NonNegativeInt | None = None
    prompt_tokens_details: _PromptDetails | None = None

    @property
    def cached(self) -> int:
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class Reply(BaseModel):
    """What a chat or a completion is answered with."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage = _Usage()
    system_fingerprint: str | None = None

    def written(self) -> tuple[str, bool]:
        """The text, and whether the model ended it by itself.

        Raises:
            WrongReplyError: There is none.
        """
        choice = self.choices[0]
        text = choice.message.content if choice.message else choice.text
        if text is None or choice.finish_reason not in {"stop", "length"}:
            raise WrongReplyError(f"no text, but finish_reason {choice.finish_reason!r}")
        return text, choice.finish_reason == "stop"

    def first_place(self) -> Listed:
        """Tokens that might begin the answer, each with its log-probability.

        Raises:
            WrongReplyError: There are none.
        """
        given = self.choices[0].logprobs
        listed: Listed = []
        if isinstance(given, _ByPlace) and given.content:
            first = given.content[0]
            every = first.top_logprobs
            listed = [(token.text, token.logprob) for token in every]
            if (first.text, first.logprob) not in listed and every:
                listed.append((first.text, first.logprob))
        elif isinstance(given, _ByColumn) and given.top_logprobs and given.top_logprobs[0]:
            listed = [(_plain(text), value) for text, value in given.top_logprobs[0].items()]
        listed = [(text, value) for text, value in listed if value > _UNKNOWN]
        if not listed:
            raise WrongReplyError("it has no top_logprobs of the first token")
        return listed

    def columns(self) -> tuple[list[str], list[float | None]]:
        """Every token with its log-probability: of the prompt too, where it was echoed.

        Raises:
            WrongReplyError: There are none.
        """
        given = self.choices[0].logprobs
        if isinstance(given, _ByPlace):
            return [one.text for one in given.content], [one.logprob for one in given.content]
        if given is None or len(given.tokens) != len(given.token_logprobs):
            raise WrongReplyError("it has no log-probability for each token")
        return [_plain(token) for token in given.tokens], list(given.token_logprobs)


def _plain(token: str) -> str:
    """The text of a token; some servers write the vocabulary's sign for a space."""
    return f" {token[1:]}" if token.startswith(("\u0120", "\u2581")) else token


def read_labels(listed: Listed, labels: Sequence[str]) -> tuple[NDArray[np.float64], int]:
    """Log-probability of each label, its listed spellings summed, and how many are not listed.

    A label that is not listed stands at the lowest log-probability that is, or at what the listed
    ones leave of 1 where that is less: no spelling of it is more probable. All NaN where none is
    listed: then nothing is known of their order.
    """
    masses = [[value for text, value in listed if text in spellings(label)] for label in labels]
    missing = sum(not mass for mass in masses)
    if missing == len(labels):
        return np.full(len(labels), np.nan), 0
    rest = 1.0 - math.fsum(math.exp(value) for _, value in listed)
    bound = min(*(value for _, value in listed), math.log(max(rest, _ROUNDING)))
    return np.array([logsumexp(mass) if mass else bound for mass in masses]), missing


def read_echo(reply: Reply, text: str, continuation: str) -> NDArray[np.float64]:
    """Log-probability of each token of the end of an echoed text.

    Raises:
        WrongReplyError: The text was not echoed, or a token spans where the continuation begins.
    """
    tokens, values = reply.columns()
    echoed, start = "".join(tokens), 0
    # A token of its own may stand before the text, and one may have been written after it.
    while start < len(tokens) and not echoed.startswith(text):
        echoed, start = echoed[len(tokens[start]) :], start + 1
    ends = np.cumsum([len(token) for token in tokens[start:]]).tolist()
    edge = len(text) - len(continuation)
    if len(text) not in ends or (edge and edge not in ends):
        raise WrongReplyError("it does not echo the text in tokens that begin where the title does")
    first = start + (ends.index(edge) + 1 if edge else 0)
    return _exact(values[first : start + ends.index(len(text)) + 1])


def read_echoed_ids(reply: Reply, n_prompt: int, n_tokens: int) -> NDArray[np.float64]:
    """The same, where ``n_tokens`` tokens were sent, of which ``n_prompt`` are the prompt.

    Raises:
        WrongReplyError: There are fewer tokens.
    """
    _, values = reply.columns()
    return _exact(values[n_prompt:n_tokens], n_tokens - n_prompt)


def _exact(values: Sequence[float | None], n: int | None = None) -> NDArray[np.float64]:
    known = [value for value in values if value is not None and value > _UNKNOWN]
    if not known or len(known) < len(values) or (n is not None and len(known) != n):
        raise WrongReplyError("a token has no log-probability")
    return np.array(known)
