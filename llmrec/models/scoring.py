"""Label and continuation requests as scored token sequences, for models that score sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Protocol

import numpy as np
from scipy.special import logsumexp

from llmrec.errors import ModelError
from llmrec.models.labels import label_tokens
from llmrec.models.prefix_tree import ScoredSequence
from llmrec.models.protocol import ContinuationRequest, LabelRequest, LogProbs, TextTokenizer
from llmrec.records import Prompt


class SequenceScorer(TextTokenizer, Protocol):
    """A model that scores token sequences."""

    @property
    def name(self) -> str:
        """For messages."""

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a whole prompt up to where the answer begins."""

    def encode_end(self) -> list[int]:
        """Tokens that end the answer to a chat."""

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """``values[i]`` is ``[len(tokens) - start + len(alternatives)]``, in that order."""


def score_labels(model: SequenceScorer, requests: Sequence[LabelRequest]) -> LogProbs:
    """Log-probability of each label: its spellings that are one token, summed.

    Raises:
        ModelError: A label has no single token of its own.
    """
    sequences, splits = [], []
    for request in requests:
        tokens = [label_tokens(model, label) for label in request.labels]
        for (one, some), (other, more) in combinations(zip(request.labels, tokens, strict=True), 2):
            if set(some) & set(more):
                raise ModelError(
                    f"{model.name} has one token for {one} and {other}: it cannot tell them apart.",
                    hint="Use the likelihood strategy, which needs no labels.",
                )
        first, *others = (token for some in tokens for token in some)
        prompt = model.encode_prompt(request.prompt)
        sequences.append(ScoredSequence((*prompt, first), len(prompt), tuple(others)))
        splits.append(np.cumsum([len(some) for some in tokens])[:-1])
    found = model.log_probs(sequences)
    values = (
        np.array([logsumexp(some) for some in np.split(value, ends)])
        for value, ends in zip(found.values, splits, strict=True)
    )
    lengths = tuple(len(sequence.tokens) - 1 for sequence in sequences)
    return replace(found, values=tuple(values), tokens=lengths)


def score_continuations(model: SequenceScorer, requests: Sequence[ContinuationRequest]) -> LogProbs:
    """Log-probability of each token of the continuations."""
    sequences = []
    for request in requests:
        prompt, continuation = request.split()
        before = model.encode_prompt(prompt)
        end = model.encode_end() if request.end and prompt.text is None else ()
        tokens = (*before, *model.encode(continuation), *end)
        sequences.append(ScoredSequence(tokens, len(before)))
    lengths = tuple(len(sequence.tokens) for sequence in sequences)
    return replace(model.log_probs(sequences), tokens=lengths)
