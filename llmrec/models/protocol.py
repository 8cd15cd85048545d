"""What every later room may ask of a causal language model, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.records import Prompt, Usage

REQUEST_FAILED, REQUEST_REFUSED = "request_failed", "request_refused"
"""Fallbacks of a request without an answer: another time it may get one, or it is not taken."""


class TextTokenizer(Protocol):
    """What cutting texts to token budgets needs of a tokenizer."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts that the tokenizer reads as one token with a meaning of its own."""

    def encode(self, text: str) -> Sequence[int]:
        """Tokens of a text, none added, special-token text read as ordinary text."""

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` with at most ``n_tokens`` tokens, whole characters."""


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """With which of these labels does the answer to a prompt begin?

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
    """How probable is this text as what comes right after a prompt?

    A plain prompt's last space is read as the text's first: tokenizers put it there.

    Raises:
        OptionError: The text is empty.
    """

    prompt: Prompt
    continuation: str

    def __post_init__(self) -> None:
        if not self.continuation:
            raise OptionError("There is no text whose probability could be asked.")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What does the model write after a prompt, greedily?

    ``order_of`` names labels: then the answer has to be an order of all of them, written
    ``[B] > [A] > [C]``. A model that can be held to it is; one that cannot writes freely.
    """

    prompt: Prompt
    max_new_tokens: int
    order_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Natural logarithms, one float64 array a request, in the order given.

    ``values[i]`` is ``[labels]``, or ``[tokens of the continuation]``. All NaN: no answer could be
    had, and ``faults[i]`` names why; it is "" where there is one, and ``faults`` is empty where all
    have one. ``fallbacks`` counts what befell the call as a whole. ``tokens[i]`` counts those of
    the whole prompt and what was scored after it. ``floored[i]`` counts labels of which is known
    only that they are no more probable than what stands there; it is empty where every value is
    exact.
    """

    values: tuple[NDArray[np.float64], ...]
    usage: Usage
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    tokens: tuple[int, ...] = ()
    floored: tuple[int, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generated:
    """Decoded continuations, one a prompt, special tokens left out.

    ``finished[i]`` says that the model ended its answer itself; False: it was cut off.
    ``tokens[i]`` counts those of the prompt and of the answer; ``faults[i]`` is as for `LogProbs`,
    and the text of a request without an answer is empty.
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
        """The reference it was loaded from, for reports."""

    @property
    def revision(self) -> str:
        """What identifies the weights, for reports and cache keys."""

    @property
    def max_length(self) -> int:
        """The longest sequence it can read, in tokens."""

    def session(self) -> LanguageModel:
        """The model for one conversation: it may keep what prompts begin with between calls."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a whole prompt, through the chat template, up to where the answer begins."""

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label as the beginning of the answer."""

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuation."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        """Continue every prompt by at most ``max_new_tokens`` tokens.

        ``orders_of[i]`` names the labels of which the i-th answer has to be an order (see
        `GenerationRequest`); empty: any text.
        """
