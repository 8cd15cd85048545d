"""Requests to one model of an OpenAI-compatible server, and its replies.

Requests have limits of number and time; failed ones are retried. Replies are validated, then read.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeAlias
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, AliasPath, BaseModel, Field, NonNegativeInt, ValidationError
from scipy.special import logsumexp

from llmrec.errors import ModelError
from llmrec.models.labels import spellings

if TYPE_CHECKING:
    from openai import OpenAI

Body: TypeAlias = Mapping[str, object]
CHAT, COMPLETIONS = "/chat/completions", "/completions"
_REFUSED = frozenset({400, 404, 405, 413, 415, 422, 501})
KEY, OPENAI_KEY = "LLMREC_API_KEY", "OPENAI_API_KEY"
LogProb = Annotated[float, Field(le=1e-3, allow_inf_nan=False)]
"""Rounding may leave the logarithm of a certainty a little above 0."""
_UNKNOWN = -9999.0
"""Servers report this value for a token with an unknown, low probability."""
_ROUNDING = 1e-7
"""Probabilities that add up to 1 may leave as much by rounding alone."""
_CONTENT = AliasPath("message", "content")
_CACHED = AliasPath("prompt_tokens_details", "cached_tokens")
Listed: TypeAlias = list[tuple[str, float]]


class RefusedError(Exception):
    """The server does not accept such a request."""


class FailedError(Exception):
    """A request failed after all retries; ``status`` is 0 where no response came."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class WrongReplyError(ValueError):
    """A reply without the requested content."""


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
    """Log-probabilities in the format of chats (llama.cpp: of completions too)."""

    content: list[_Place]


class _ByColumn(BaseModel):
    """Log-probabilities in the format of completions."""

    tokens: list[str]
    token_logprobs: list[LogProb | None]
    top_logprobs: list[dict[str, LogProb] | None] | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    text: str | None = Field(default=None, validation_alias=AliasChoices(_CONTENT, "text"))
    logprobs: _ByPlace | _ByColumn | None = None


class ReplyUsage(BaseModel):
    """Tokens of a reply, as the server counts them."""

    prompt_tokens: NonNegativeInt = 0
    completion_tokens: NonNegativeInt | None = None
    cached_tokens: NonNegativeInt | None = Field(default=None, validation_alias=_CACHED)


class Reply(BaseModel):
    """The response to a chat or a completion."""

    choices: list[_Choice] = Field(min_length=1)
    usage: ReplyUsage = ReplyUsage()
    system_fingerprint: str | None = None

    def written(self) -> tuple[str, bool]:
        """The text, and whether the model ended it.

        Raises:
            WrongReplyError: There is none.
        """
        choice = self.choices[0]
        text = choice.text
        if text is None or choice.finish_reason not in {"stop", "length"}:
            raise WrongReplyError(f"no text, but finish_reason {choice.finish_reason!r}")
        return text, choice.finish_reason == "stop"

    def first_place(self) -> Listed:
        """Likely first tokens of the answer, each with its log-probability.

        Raises:
            WrongReplyError: There are none.
        """
        given = self.choices[0].logprobs
        listed: Listed = []
        if isinstance(given, _ByPlace) and given.content:
            first = given.content[0]
            listed = [(token.text, token.logprob) for token in first.top_logprobs]
            if listed and (first.text, first.logprob) not in listed:
                listed.append((first.text, first.logprob))
        elif isinstance(given, _ByColumn) and given.top_logprobs and given.top_logprobs[0]:
            listed = [(_plain(text), value) for text, value in given.top_logprobs[0].items()]
        listed = [(text, value) for text, value in listed if value > _UNKNOWN]
        if not listed:
            raise WrongReplyError("it has no top_logprobs of the first token")
        return listed

    def columns(self) -> tuple[list[str], list[float | None]]:
        """Every token with its log-probability, those of an echoed prompt included.

        Raises:
            WrongReplyError: There are none.
        """
        given = self.choices[0].logprobs
        if isinstance(given, _ByPlace):
            return [one.text for one in given.content], [one.logprob for one in given.content]
        if given is None or len(given.tokens) != len(given.token_logprobs):
            raise WrongReplyError("it has no log-probability for each token")
        return [_plain(token) for token in given.tokens], list(given.token_logprobs)


@dataclass(frozen=True)
class ServerClient:
    """Sends requests to one model of a server.

    OpenAI's client retries after 408, 409, 429 and 5xx, lost connections and timeouts, with
    exponential waits and jitter, and as the server's Retry-After asks.
    """

    openai: OpenAI = field(repr=False)
    model: str
    concurrency: int

    @classmethod
    def to(
        cls, base_url: str, model: str, *, concurrency: int, timeout: float, retries: int
    ) -> ServerClient:
        """Make a client; nothing is sent.

        Raises:
            ModelError: The client library is not installed.
        """
        try:
            import openai  # noqa: PLC0415
        except ImportError as error:
            raise ModelError(
                "A model of a server needs the package openai, which is not installed.",
                hint="Run `pip install 'llmrec[server]'`.",
            ) from error
        key = api_key(base_url) or "none"
        client = openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=retries)
        return cls(client, model, concurrency)

    @property
    def address(self) -> str:
        """The server's base URL."""
        return str(self.openai.base_url)

    def models(self) -> dict[str, Body]:
        """The models that the server lists; empty where it lists none.

        Raises:
            FailedError: The request failed after all retries.
        """
        try:
            listing = self._call(lambda: self.openai.get("/models", cast_to=object))
        except (RefusedError, WrongReplyError):
            return {}
        rows = listing.get("data") if isinstance(listing, dict) else None
        rows = rows if isinstance(rows, list) else []
        return {str(row.get("id")): row for row in rows if isinstance(row, dict)}

    def send(self, path: str, body: Body) -> Reply:
        """Send one request.

        Raises:
            RefusedError: The server does not accept it.
            FailedError: It failed after all retries.
            WrongReplyError: The response is malformed.
        """
        whole = {"model": self.model, **body}
        raw = self._call(lambda: self.openai.post(path, cast_to=object, body=whole))
        try:
            return Reply.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise WrongReplyError(f"its reply is malformed: {where}: {first['msg']}") from error

    def send_all(self, requests: Sequence[tuple[str, Body]]) -> list[Reply | Exception]:
        """Send requests concurrently: a reply each, or the error.

        If the first ones all fail, the rest is not sent: a server that is down would otherwise
        cost one timeout per request.
        """
        answered = threading.Event()
        failures: list[Exception] = []

        def send(request: tuple[str, Body]) -> Reply | Exception:
            if len(failures) >= 2 * self.concurrency and not answered.is_set():
                return failures[-1]
            try:
                reply = self.send(*request)
            except RefusedError as error:  # the next request may be accepted
                return error
            except (FailedError, WrongReplyError) as error:
                failures.append(error)
                return error
            answered.set()
            return reply

        with ThreadPoolExecutor(max_workers=self.concurrency) as pool:
            return list(pool.map(send, requests))

    def close(self) -> None:
        """Close the connections."""
        self.openai.close()

    def _call(self, request: Callable[[], object]) -> object:
        import openai  # noqa: PLC0415

        try:
            return request()
        except openai.APIStatusError as error:
            said = f"it answered {error.status_code}: {error.message[:300]}"
            if error.status_code in _REFUSED:
                raise RefusedError(said) from error
            raise FailedError(said, error.status_code) from error
        except openai.OpenAIError as error:
            why = f" ({error.__cause__})" if error.__cause__ else ""
            raise FailedError(f"{error}{why}") from error
        except ValueError as error:  # json's own error is one
            raise WrongReplyError(f"its reply is no JSON: {error}") from error


def api_key(base_url: str) -> str:
    """The key for a server, from the environment; empty if there is none.

    ``LLMREC_API_KEY`` is sent to any server, ``OPENAI_API_KEY`` only to OpenAI's: a key must not
    reach a server that it was not made for.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    own = parts.scheme == "https" and (host == "openai.com" or host.endswith(".openai.com"))
    return os.environ.get(KEY) or (os.environ.get(OPENAI_KEY, "") if own else "")


def _plain(token: str) -> str:
    """The text of a token; some servers write the vocabulary's sign for a space."""
    return f" {token[1:]}" if token.startswith(("\u0120", "\u2581")) else token


def read_labels(listed: Listed, labels: Sequence[str]) -> tuple[NDArray[np.float64], int]:
    """Log-probability of each label, its listed spellings summed, and how many are not listed.

    A label that is not listed gets an upper bound: the lowest listed log-probability, or the
    remaining probability if that is less. All are NaN if no label is listed: their order is
    unknown.
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
    # Servers may add a token before the text, and may have generated one after it.
    while start < len(tokens) and not echoed.startswith(text):
        echoed, start = echoed[len(tokens[start]) :], start + 1
    ends = np.cumsum([len(token) for token in tokens[start:]]).tolist()
    edge = len(text) - len(continuation)
    if len(text) not in ends or (edge and edge not in ends):
        raise WrongReplyError("it does not echo the text, or a token spans the title's beginning")
    first = start + (ends.index(edge) + 1 if edge else 0)
    return _exact(values[first : start + ends.index(len(text)) + 1])


def read_echoed_ids(reply: Reply, n_prompt: int, n_tokens: int) -> NDArray[np.float64]:
    """The same for a request of ``n_tokens`` tokens, of which ``n_prompt`` are the prompt.

    Raises:
        WrongReplyError: There are fewer tokens.
    """
    values = _exact(reply.columns()[1][n_prompt:n_tokens])
    if len(values) < n_tokens - n_prompt:
        raise WrongReplyError("it does not echo every token")
    return values


def _exact(values: Sequence[float | None]) -> NDArray[np.float64]:
    known = [value for value in values if value is not None and value > _UNKNOWN]
    if not known or len(known) < len(values):
        raise WrongReplyError("a token has no log-probability")
    return np.array(known)
