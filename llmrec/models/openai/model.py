"""A model of an OpenAI-compatible server (vLLM, llama.cpp, SGLang...), by the one protocol."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ModelError, OptionError
from llmrec.models.labels import label_tokens
from llmrec.models.openai.answers import Answers, gather
from llmrec.models.openai.asks import Asker
from llmrec.models.openai.capabilities import Capabilities, guided, unwrapped
from llmrec.models.openai.probing import Probe
from llmrec.models.openai.replies import Reply, WrongReplyError, read_labels
from llmrec.models.openai.sending import Ask, Sender
from llmrec.models.prompt_tokenizer import EstimatedTokenizer, PromptTokenizer
from llmrec.models.protocol import ContinuationRequest, Generated, LabelRequest, LogProbs
from llmrec.records import Prompt

logger = logging.getLogger(__name__)
T = TypeVar("T")

CONCURRENCY, TIMEOUT = 8, 60.0
"""Requests at the same time, and seconds of silence, where nothing else is asked for."""
LONGEST = 8192
"""Tokens a sequence may have where the server does not say."""
_WRAPPING = 16
"""Tokens that a JSON answer needs beside the order in it."""


@dataclass(frozen=True)
class OpenAIServerModel:
    """Asks a model behind ``/chat/completions`` and ``/completions``.

    Make one with `connect`. Labels are read from the likely tokens that the server lists; a label
    it does not list stands at an upper bound, counted in ``floored``. A request that fails, also
    when tried again, is NaN and counted as ``request_failed``, one that the server does not take as
    ``request_refused``; where the answer begins with none of the labels, as ``no_label_returned``.
    Where a call has nothing but such requests, that is an error, unless the session had one taken.

    Args:
        name: The reference it was made from.
        revision: Name and fingerprint of the model as the server reports them.
        max_length: Tokens a sequence may have.
        reader: Counts tokens: the model's tokenizer, or an estimate.
        capabilities: What the server was found to do.
    """

    name: str
    revision: str
    max_length: int
    capabilities: Capabilities
    reader: PromptTokenizer | EstimatedTokenizer = field(repr=False)
    sender: Sender = field(repr=False)
    model: str
    taken: Event | None = field(default=None, repr=False, compare=False)
    """Set once the server took a request of this session; None outside of one."""

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
        """Connect, and find out once what the server can do.

        The key is read from ``LLMREC_API_KEY``, or ``OPENAI_API_KEY`` for OpenAI's own server.

        Args:
            base_url: As far as ``/v1``.
            model: The model's name there.
            tokenizer: The model's tokenizer, by what `resolve_model` takes; None: tokens are
                estimated, generously.
            max_length: Tokens a sequence may have; None asks the server.
            concurrency: Requests at the same time.
            timeout: Seconds of silence until a request counts as failed.
            retries: How often a request that failed is sent again.

        Raises:
            OptionError: A number is not allowed.
            ModelNotFoundError: The server does not have the model, or the tokenizer cannot be had.
            ModelError: The server cannot be reached, or the client library is not installed.
        """
        numbers = {"max_length": max_length, "concurrency": concurrency, "timeout": timeout}
        for name, number in numbers.items():
            if number is not None and not 0 < number < math.inf:
                raise OptionError(f"{name}={number}: more than 0 is needed.")
        if retries < 0:
            raise OptionError(f"retries={retries}: allowed is 0 or more.")
        sender = Sender.to(base_url, concurrency=concurrency, timeout=timeout, retries=retries)
        reader: PromptTokenizer | EstimatedTokenizer = EstimatedTokenizer()
        named: tuple[int, ...] = ()
        try:
            if tokenizer is not None:
                reader = PromptTokenizer.from_pretrained(tokenizer)
                named = label_tokens(reader, "Yes") + label_tokens(reader, "No")
            served = Probe(sender, model, named).served()
        except ModelError:
            sender.close()
            raise
        length = max_length or served.max_length
        if length is None:
            logger.warning("%s does not say how long a prompt may be: %d tokens", base_url, LONGEST)
        return cls(
            name=f"openai:{base_url}#{model}",
            revision="@".join(part for part in (model, served.fingerprint) if part),
            max_length=length or LONGEST,
            capabilities=served.capabilities,
            reader=reader,
            sender=sender,
            model=model,
        )

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the server reads as control tokens."""
        return self.reader.special_tokens

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text; numbers that stand for pieces of it where they are estimated."""
        return self.reader.encode(text)

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of at most ``n_tokens`` tokens."""
        return self.reader.cut(text, n_tokens)

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt up to where the answer begins; nothing is asked of the server."""
        return self.reader.count_tokens(prompt)

    def session(self) -> OpenAIServerModel:
        """The same connections; servers keep what prompts begin with by themselves."""
        return replace(self, taken=Event())

    def close(self) -> None:
        """Give the connections back."""
        self.sender.close()

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label as the answer's first token, its listed spellings summed.

        Raises:
            ModelError: The server gives no log-probabilities, every request failed or was refused.
        """
        asks = [self._asker.labels(request) for request in requests]
        floored = [0] * len(requests)

        def read(reply: Reply, place: int) -> NDArray[np.float64]:
            values, missing = read_labels(reply.first_place(), requests[place].labels)
            if "logprob_token_ids" in asks[place].body and (missing or np.isnan(values).any()):
                raise WrongReplyError("it does not list the tokens that were named to it")
            floored[place] = missing
            return values

        found = self._gather(
            asks,
            read,
            otherwise=lambda place: np.full(len(requests[place].labels), np.nan),
            count=lambda place: self.count_tokens(requests[place].prompt),
        )
        faults = tuple(
            fault or ("no_label_returned" if np.isnan(value).all() else "")
            for fault, value in zip(found.faults, found.values, strict=True)
        )
        return LogProbs(
            found.values,
            found.usage,
            tokens=found.prompts,
            floored=tuple(floored),
            faults=faults,
        )

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuations, from the server's echo.

        Raises:
            ModelError: The server does not give them, a prompt is a chat, or every request failed
                or was refused.
        """
        echoes = [self._asker.continuation(request) for request in requests]
        found = self._gather(
            [echo.ask for echo in echoes],
            lambda reply, place: echoes[place].read(reply),
            otherwise=lambda place: np.full(
                max(1, len(self.encode(requests[place].continuation))), np.nan
            ),
            count=lambda place: self.count_tokens(requests[place].prompt),
        )
        return LogProbs(found.values, found.usage, tokens=found.prompts, faults=found.faults)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        """Continue every prompt; held to an order of labels where the server can do that.

        An answer that could not be had is empty, not finished and counted as the others are.

        Raises:
            ModelError: The server does not take such prompts, every request failed or was refused.
        """
        orders = orders_of or [()] * len(prompts)
        guide = self.capabilities.guide
        wrapping = _WRAPPING if guide == "json_schema" else 0
        sampled: dict[str, object] = {}
        if temperature:
            sampled = {"temperature": temperature, "seed": seed}
        asks = [
            self._asker.prompt(
                prompt,
                max_new_tokens + (wrapping if order else 0),
                sampled | (guided(guide, order) if order else {}),
            )
            for prompt, order in zip(prompts, orders, strict=True)
        ]

        def read(reply: Reply, place: int) -> tuple[str, bool]:
            text, finished = reply.written()
            return (unwrapped(text) if orders[place] and wrapping else text), finished

        found = self._gather(
            asks,
            read,
            otherwise=lambda _: ("", False),
            count=lambda place: self.count_tokens(prompts[place]),
        )
        return Generated(
            tuple(text for text, _ in found.values),
            found.usage,
            finished=tuple(finished for _, finished in found.values),
            tokens=tuple(map(sum, zip(found.prompts, found.written, strict=True))),
            faults=found.faults,
        )

    def _gather(
        self,
        asks: Sequence[Ask],
        read: Callable[[Reply, int], T],
        otherwise: Callable[[int], T],
        count: Callable[[int], int],
    ) -> Answers[T]:
        """Ask everything; once a session had a request taken, one that is not is no error."""
        tolerant = self.taken is not None and self.taken.is_set()
        found = gather(self.sender, asks, read, otherwise=otherwise, count=count, tolerant=tolerant)
        if self.taken is not None and not all(found.faults):
            self.taken.set()
        return found

    @property
    def _asker(self) -> Asker:
        return Asker(self.name, self.model, self.capabilities, self.reader)
