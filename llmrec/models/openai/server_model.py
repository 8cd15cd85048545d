"""A model of an OpenAI-compatible server (vLLM, llama.cpp, SGLang...) as a `LanguageModel`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ModelError, OptionError, ServerError
from llmrec.models.labels import label_tokens
from llmrec.models.openai.capabilities import Capabilities, guided, probe, unwrapped
from llmrec.models.openai.client import (
    COMPLETIONS,
    Body,
    FailedError,
    RefusedError,
    Reply,
    ReplyUsage,
    ServerClient,
    WrongReplyError,
    read_echo,
    read_echoed_ids,
    read_labels,
)
from llmrec.models.prompt_tokenizer import EstimatedTokenizer, PromptTokenizer
from llmrec.models.protocol import (
    REQUEST_FAILED,
    REQUEST_REFUSED,
    ContinuationRequest,
    Generated,
    LabelRequest,
    LogProbs,
)
from llmrec.records import Prompt, Usage

logger = logging.getLogger(__name__)
T = TypeVar("T")

CONCURRENCY, TIMEOUT = 8, 60.0
"""Defaults: concurrent requests, and seconds without a response until a timeout."""
LONGEST = 8192
"""Maximum tokens per sequence if the server gives no limit."""
_WRAPPING = 16
"""Tokens of a JSON answer besides the order."""


@dataclass(frozen=True, slots=True)
class _Gathered(Generic[T]):
    """One entry per request, and the usage of all; a fault is "" where there is an answer."""

    values: tuple[T, ...]
    faults: tuple[str, ...]
    prompt_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    usage: Usage


@dataclass(frozen=True)
class OpenAIServerModel:
    """A model behind ``/chat/completions`` and ``/completions``; make one with `connect`.

    Labels are read from the likely tokens that the server lists. A label that is not listed gets an
    upper bound, counted in ``floored``. Requests without an answer are NaN, with a fault:
    ``request_failed`` after all retries, ``request_refused`` if the server rejects it,
    ``no_label_returned`` if no label is listed. If every request of a call fails, that is an error,
    unless all were rejected and the server accepted an earlier request of the session.

    ``reader`` counts tokens: the model's tokenizer, or an estimate. ``accepted`` is set once the
    server accepted a request of this session; None outside a session.
    """

    name: str
    revision: str
    max_length: int
    capabilities: Capabilities
    reader: PromptTokenizer | EstimatedTokenizer = field(repr=False)
    client: ServerClient = field(repr=False)
    accepted: Event | None = field(default=None, repr=False, compare=False)

    @classmethod
    def connect(
        cls,
        base_url: str,
        model: str,
        *,
        tokenizer: str | None = None,
        max_length: int | None = None,
        concurrency: int = CONCURRENCY,
        timeout: float = TIMEOUT,
        retries: int = 4,
    ) -> OpenAIServerModel:
        """Connect, and detect the server's capabilities once.

        The key is read from ``LLMREC_API_KEY``, or ``OPENAI_API_KEY`` for OpenAI's own server.

        Args:
            base_url: Up to ``/v1``.
            model: The model's name there.
            tokenizer: See `llmrec.load_model` for this and the next three.
            max_length: None asks the server.
            concurrency: Concurrent requests.
            timeout: Seconds.
            retries: Maximum retries of a failed request.

        Raises:
            OptionError: A number is not allowed.
            ModelNotFoundError: The server does not have the model, or there is no such tokenizer.
            ModelError: The server cannot be reached, or the client library is not installed.
        """
        numbers = {"max_length": max_length, "concurrency": concurrency, "timeout": timeout}
        for name, number in numbers.items():
            if number is not None and not 0 < number < math.inf:
                raise OptionError(f"{name}={number}: more than 0 is needed.")
        if retries < 0:
            raise OptionError(f"retries={retries}: allowed is 0 or more.")
        client = ServerClient.to(
            base_url, model, concurrency=concurrency, timeout=timeout, retries=retries
        )
        reader: PromptTokenizer | EstimatedTokenizer = EstimatedTokenizer()
        named: tuple[int, ...] = ()
        try:
            if tokenizer is not None:
                reader = PromptTokenizer.from_pretrained(tokenizer)
                named = label_tokens(reader, "Yes") + label_tokens(reader, "No")
            found, fingerprint, served_length = probe(client, named)
        except ModelError:
            client.close()
            raise
        length = max_length or served_length
        if length is None:
            logger.warning("%s does not say how long a prompt may be: %d tokens", base_url, LONGEST)
        return cls(
            name=f"openai:{base_url}#{model}",
            revision="@".join(part for part in (model, fingerprint) if part),
            max_length=length or LONGEST,
            capabilities=found,
            reader=reader,
            client=client,
        )

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the server reads as control tokens."""
        return self.reader.special_tokens

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text; without a tokenizer, a number per estimated token."""
        return self.reader.encode(text)

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` of at most ``n_tokens`` tokens."""
        return self.reader.cut(text, n_tokens)

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of tokens of each prompt up to where the answer begins; sends no request."""
        return self.reader.count_tokens(prompts)

    @property
    def max_rows(self) -> int:
        """Enough for the connections; the server forms its own batches."""
        return 8192

    def session(self) -> OpenAIServerModel:
        """The same connections; servers cache the prompts' common prefix themselves."""
        return replace(self, accepted=Event())

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label as the first token, its listed spellings summed."""
        floored = [0] * len(requests)
        sent = [self._label_request(request) for request in requests]

        def read(reply: Reply, place: int) -> NDArray[np.float64]:
            values, missing = read_labels(reply.first_place(), requests[place].labels)
            if "logprob_token_ids" in sent[place][1] and (missing or np.isnan(values).any()):
                raise WrongReplyError("it does not list the tokens that were named to it")
            floored[place] = missing
            return values

        found = self._gather(
            [request.prompt for request in requests],
            sent,
            read,
            [np.full(len(request.labels), np.nan) for request in requests],
        )
        faults = tuple(
            fault or ("no_label_returned" if np.isnan(value).all() else "")
            for fault, value in zip(found.faults, found.values, strict=True)
        )
        return LogProbs(
            found.values,
            found.usage,
            tokens=found.prompt_tokens,
            floored=tuple(floored),
            faults=faults,
        )

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuations, from the server's echo."""
        echoes = [self._echo_request(request) for request in requests]
        found = self._gather(
            [request.prompt for request in requests],
            [(COMPLETIONS, body) for body, _ in echoes],
            lambda reply, place: echoes[place][1](reply),
            [np.full(max(1, len(self.encode(some.continuation))), np.nan) for some in requests],
        )
        return LogProbs(found.values, found.usage, tokens=found.prompt_tokens, faults=found.faults)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        """Continue every prompt; orders of labels are constrained where possible."""
        orders = orders_of or [()] * len(prompts)
        guide = self.capabilities.guide
        wrapping = _WRAPPING if guide == "json_schema" else 0
        sampled: Body = {"temperature": temperature, "seed": seed} if temperature else {}

        def read(reply: Reply, place: int) -> tuple[str, bool]:
            text, finished = reply.written()
            return (unwrapped(text) if orders[place] and wrapping else text), finished

        found = self._gather(
            prompts,
            [
                self._request(
                    prompt,
                    max_new_tokens + (wrapping if order else 0),
                    {**sampled, **(guided(guide, order) if order else {})},
                )
                for prompt, order in zip(prompts, orders, strict=True)
            ],
            read,
            [("", False)] * len(prompts),
        )
        return Generated(
            tuple(text for text, _ in found.values),
            found.usage,
            finished=tuple(finished for _, finished in found.values),
            tokens=tuple(map(sum, zip(found.prompt_tokens, found.answer_tokens, strict=True))),
            faults=found.faults,
        )

    def _request(self, prompt: Prompt, tokens: int, extra: Body) -> tuple[str, Body]:
        path, body = self.capabilities.request(prompt, tokens, extra)
        if path == COMPLETIONS and not self.capabilities.completions:
            raise ModelError(
                f"{self.name} takes chats, not plain text.", hint="Use a template of a chat."
            )
        return path, body

    def _label_request(self, request: LabelRequest) -> tuple[str, Body]:
        """The request for one token of an answer, with its alternatives."""
        able = self.capabilities
        chat = request.prompt.text is None and able.chat
        width = able.chat_listed if chat else able.text_listed
        if width == 0:
            raise ModelError(
                f"{self.name} gives no log-probabilities for {'chats' if chat else 'plain text'}, "
                "which labels are read from.",
                hint="Use the strategy listwise-generated, which reads what a model writes, or a "
                "server that gives them (vLLM, llama.cpp).",
            )
        if not chat:
            return self._request(request.prompt, 1, {"logprobs": width})
        extra: dict[str, object] = {"logprobs": True, "top_logprobs": width}
        if able.label_tokens and isinstance(self.reader, PromptTokenizer):
            tokens = [label_tokens(self.reader, label) for label in request.labels]
            extra["logprob_token_ids"] = [token for some in tokens for token in some]
        return self._request(request.prompt, 1, extra)

    def _echo_request(
        self, request: ContinuationRequest
    ) -> tuple[Body, Callable[[Reply], NDArray[np.float64]]]:
        """The request for a text's log-probabilities, and the function that reads its reply.

        With a tokenizer, the text is sent as tokens, the same as for a local model.
        """
        if self.capabilities.echo is None:
            raise ModelError(
                f"{self.name} does not give log-probabilities of a text it is given, which the "
                "likelihood strategy needs.",
                hint="Use a pointwise, graded or listwise strategy, or a server that echoes "
                "prompts with their log-probabilities (vLLM, SGLang).",
            )
        prompt, continuation = request.split()
        if prompt.text is None:
            raise ModelError(
                f"{self.name} scores what follows a plain text, not what follows a chat.",
                hint="Use a template that is one plain text, as those of likelihood are.",
            )
        sent: Body = {
            "echo": True,
            "logprobs": 1,
            "max_tokens": self.capabilities.echo,
            "temperature": 0.0,
        }
        if isinstance(self.reader, PromptTokenizer):
            before = self.reader.encode_prompts([prompt])[0].tolist()
            tokens = before + self.reader.encode(continuation)
            return (
                {"prompt": tokens, **sent},
                lambda reply: read_echoed_ids(reply, len(before), len(tokens)),
            )
        text = prompt.text + continuation
        return {"prompt": text, **sent}, lambda reply: read_echo(reply, text, continuation)

    def _gather(
        self,
        prompts: Sequence[Prompt],
        requests: Sequence[tuple[str, Body]],
        read: Callable[[Reply, int], T],
        empty: Sequence[T],
    ) -> _Gathered[T]:
        """Send all requests and read each reply; ``empty`` has the values without an answer.

        Raises:
            ServerError: Every request failed; they may succeed later.
            ModelError: The server rejects every request, and accepted none of this session.
        """
        started = time.perf_counter()
        outcomes = self.client.send_all(requests)
        seconds = time.perf_counter() - started
        values, faults, failures = list(empty), [""] * len(empty), []
        for place, outcome in enumerate(outcomes):
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                values[place] = read(outcome, place)
            except (RefusedError, FailedError, WrongReplyError) as error:
                refused = isinstance(error, RefusedError)
                faults[place] = REQUEST_REFUSED if refused else REQUEST_FAILED
                failures.append(error)
        if failures:
            n, last = len(failures), failures[-1]
            logger.warning("%d of %d requests failed: %s", n, len(requests), last)
            rejected = REQUEST_FAILED not in faults
            known = self.accepted is not None and self.accepted.is_set()
            if n == len(requests) and not (rejected and known):
                raise (ModelError if rejected else ServerError)(
                    f"All {n} requests to {self.client.address} failed, the last one because "
                    f"{last}.",
                    hint="Check that the server runs and is not overloaded; "
                    "fewer requests at a time (concurrency) or a longer timeout may help.",
                ) from last
        if self.accepted is not None and not all(faults):
            self.accepted.set()
        used = [some.usage if isinstance(some, Reply) else ReplyUsage() for some in outcomes]
        given = sum(some.prompt_tokens for some in used)
        written = tuple(some.completion_tokens or 0 for some in used)
        cached = sum(min(some.cached_tokens or 0, some.prompt_tokens) for some in used)
        counts = zip(used, prompts, strict=True)
        return _Gathered(
            tuple(values),
            tuple(faults),
            tuple(some.prompt_tokens or self.count_tokens([prompt])[0] for some, prompt in counts),
            written,
            Usage(given, given - cached, sum(written), len(requests), seconds),
        )
