"""What a model with weights at hand is asked: log-probabilities in token sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from scipy.special import logsumexp

from llmrec.errors import ModelError, OptionError
from llmrec.models.labels import label_tokens
from llmrec.models.protocol import ContinuationRequest, LabelRequest, LogProbs, TextTokenizer
from llmrec.records import Prompt


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


class SequenceScorer(TextTokenizer, Protocol):
    """A model that scores token sequences."""

    @property
    def name(self) -> str:
        """For messages."""

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a whole prompt up to where the answer begins."""

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """``values[i]`` is ``[len(tokens) - start + len(alternatives)]``, in that order."""


def score_labels(model: SequenceScorer, requests: Sequence[LabelRequest]) -> LogProbs:
    """Log-probability of each label: all spellings of it that are one token, summed.

    Raises:
        ModelError: A label has no single token of its own.
    """
    sequences, spellings = [], []
    for request in requests:
        tokens = [label_tokens(model, label) for label in request.labels]
        every = [token for some in tokens for token in some]
        for (one, some), (other, more) in combinations(zip(request.labels, tokens, strict=True), 2):
            if set(some) & set(more):
                raise ModelError(
                    f"{model.name} has one token for {one} and {other}: it cannot tell them apart.",
                    hint="Use the likelihood strategy, which needs no labels.",
                )
        prompt = tuple(model.encode_prompt(request.prompt))
        sequences.append(ScoredSequence((*prompt, every[0]), len(prompt), tuple(every[1:])))
        spellings.append(np.cumsum([len(some) for some in tokens])[:-1])
    answers = model.log_probs(sequences)
    values = tuple(
        np.array([logsumexp(some) for some in np.split(value, ends)])
        for value, ends in zip(answers.values, spellings, strict=True)
    )
    lengths = tuple(len(sequence.tokens) - 1 for sequence in sequences)
    return LogProbs(values, answers.usage, answers.fallbacks, lengths)


def score_continuations(model: SequenceScorer, requests: Sequence[ContinuationRequest]) -> LogProbs:
    """Log-probability of each token of the continuations."""
    sequences = []
    for request in requests:
        prompt, space = without_last_space(request.prompt)
        before = model.encode_prompt(prompt)
        after = model.encode(space + request.continuation)
        sequences.append(ScoredSequence((*before, *after), len(before)))
    answers = model.log_probs(sequences)
    lengths = tuple(len(sequence.tokens) for sequence in sequences)
    return LogProbs(answers.values, answers.usage, answers.fallbacks, lengths)


def without_last_space(prompt: Prompt) -> tuple[Prompt, str]:
    """Take a plain prompt's last space off: tokenizers put it at the front of the next word."""
    if prompt.text is None or not prompt.text.endswith(" "):
        return prompt, ""
    return Prompt(prompt.system, prompt.user, prompt.text[:-1]), " "
