"""The interface of a causal language model for all backends: requests, results, methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.records import Prompt, Usage

REQUEST_FAILED, REQUEST_REFUSED = "request_failed", "request_refused"
"""Why a request has no answer: it failed and may succeed later, or the server rejects it."""


class TextTokenizer(Protocol):
    """The part of a tokenizer that cuts texts to token budgets."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens."""

    def encode(self, text: str) -> Sequence[int]:
        """Tokens of plain text: none added, and no text read as a control token."""

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` of at most ``n_tokens`` tokens, whole characters."""


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """Asks for the probability of each label at the start of the answer.

    Raises:
        OptionError: There are fewer than two labels, or one stands twice.
    """

    prompt: Prompt
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise OptionError(
                f"The labels {', '.join(self.labels)} are not two or more, each once."
            )


@dataclass(frozen=True, slots=True)
class ContinuationRequest:
    """Asks for the log-probability of a text right after a prompt.

    A plain prompt's last space is read as the text's first: tokenizers put it there. With ``end``
    the end of the text is scored too: a line break after a plain prompt, the end of turn after a
    chat. Otherwise "Toy Story" is at least as probable as "Toy Story 2" after every prompt.

    Raises:
        OptionError: The text is empty.
    """

    prompt: Prompt
    continuation: str
    end: bool = False

    def __post_init__(self) -> None:
        if not self.continuation:
            raise OptionError("The continuation is empty: it needs at least one character.")

    def split(self) -> tuple[Prompt, str]:
        """The prompt without its last space, and the continuation with that space in front.

        The continuation of a plain prompt has the line break of ``end``; a chat's end of turn is
        no text.
        """
        text = self.prompt.text
        if text is None:
            return self.prompt, self.continuation
        continuation = self.continuation + "\n" * self.end
        if not text.endswith(" "):
            return self.prompt, continuation
        return replace(self.prompt, text=text[:-1]), f" {continuation}"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Asks for the greedy continuation of a prompt.

    ``order_of`` names labels: the answer has to be an order of them, written ``[B] > [A] > [C]``.
    Models that can constrain their output do; others generate any text.
    """

    prompt: Prompt
    max_new_tokens: int
    order_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Natural logarithms, one float64 array per request, in the order given.

    ``values[i]`` is ``[labels]`` or ``[tokens of the continuation]``, all NaN without an answer;
    ``faults[i]`` says why there is none ("": there is one; no faults at all: all have one).
    ``tokens[i]`` counts those of the prompt and what was scored after it, ``floored[i]`` the labels
    that stand at an upper bound. ``fallbacks`` counts what went wrong in the call as a whole.
    """

    values: tuple[NDArray[np.float64], ...]
    usage: Usage
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    tokens: tuple[int, ...] = ()
    floored: tuple[int, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generated:
    """Decoded continuations, one a prompt, without special tokens; empty without an answer.

    ``finished[i]``: the model ended its answer itself, it was not cut off. ``tokens[i]`` counts
    those of the prompt and its answer; ``fallbacks`` and ``faults`` are as in `LogProbs`.
    """

    texts: tuple[str, ...]
    usage: Usage
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    finished: tuple[bool, ...] = ()
    tokens: tuple[int, ...] = ()
    faults: tuple[str, ...] = ()


class LanguageModel(TextTokenizer, Protocol):
    """A causal language model with its tokenizer."""

    @property
    def name(self) -> str:
        """The reference it was loaded from."""

    @property
    def revision(self) -> str:
        """Identifies the weights."""

    @property
    def max_length(self) -> int:
        """The longest sequence it can read, in tokens."""

    @property
    def max_rows(self) -> int:
        """Tokens that it processes at once: callers with many requests send enough to fill that."""

    def session(self) -> LanguageModel:
        """The model for a series of calls: it may cache the prompts' common prefix between them."""

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, through the chat template, up to where the answer begins."""

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label as the beginning of the answer, its spellings summed.

        Raises:
            ModelError: A label has no single token of its own, a score is not a finite number, or
                every request failed.
            OutOfMemoryError: Not even a small batch fits.
        """

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuations.

        Raises:
            ModelError: The model cannot score texts, a score is not a finite number, or every
                request failed.
            OutOfMemoryError: Not even a small batch fits.
        """

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        """Continue every prompt; greedy at temperature 0, else sampled from ``seed``.

        Args:
            prompts: Chats or plain texts.
            max_new_tokens: Most tokens of an answer.
            temperature: 0 is greedy.
            seed: For sampling.
            orders_of: The labels of which each answer has to be an order (see
                `GenerationRequest`); empty: any text.

        Raises:
            ModelError: The model does not accept such prompts, or every request failed.
            OutOfMemoryError: Not even one prompt fits.
        """
