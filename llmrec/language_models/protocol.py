"""What every later room may ask of a causal language model, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.prompting import Prompt, TextTokenizer
from llmrec.records import Usage


@dataclass(frozen=True, slots=True)
class ScoredSequence:
    """A token sequence and where in it scores are asked for.

    The log-probability of each of ``tokens[start:]``, given all tokens before it, is asked for, and
    that of each of ``alternatives`` in the place of the last token. So labels ("Yes", "No") and
    whole titles are asked for in the same way: a prompt followed by them.

    Raises:
        OptionError: ``start`` leaves nothing to condition on, or nothing to score.
    """

    tokens: tuple[int, ...]
    start: int
    alternatives: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise OptionError(
                f"start={self.start} for a sequence of {len(self.tokens)} tokens: "
                f"allowed is 1 to {len(self.tokens) - 1}.",
                hint="Put at least one token before, and one token at, the scored position.",
            )


@dataclass(frozen=True, slots=True)
class LogProbs:
    """What was asked, natural logarithms, one float64 array a sequence.

    ``values[i]`` is ``[len(tokens) - start + len(alternatives)]``, in that order.
    """

    values: tuple[NDArray[np.float64], ...]
    usage: Usage
    fallbacks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Generated:
    """Decoded continuations, one a prompt, special tokens left out."""

    texts: tuple[str, ...]
    usage: Usage
    fallbacks: Mapping[str, int] = field(default_factory=dict)


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

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a whole prompt: through the chat template, up to where the answer begins."""

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Log-probabilities of the asked positions of every sequence, in the order given."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generated:
        """Continue every prompt by at most ``max_new_tokens`` tokens."""
