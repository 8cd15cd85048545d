"""Label and continuation requests as scored token sequences, for models that score sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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

    def encode_texts(self, texts: Sequence[str]) -> Sequence[NDArray[np.int32]]:
        """Tokens of plain texts."""

    def encode_prompts(self, prompts: Sequence[Prompt]) -> Sequence[NDArray[np.int32]]:
        """Tokens of whole prompts up to where the answer begins."""

    def encode_end(self) -> list[int]:
        """Tokens that end the answer to a chat."""

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """``values[i]`` is ``[len(tokens) - start + len(alternatives)]``, in that order."""


def score_labels(model: SequenceScorer, requests: Sequence[LabelRequest]) -> LogProbs:
    """Log-probability of each label: its spellings that are one token, summed.

    Raises:
        ModelError: A label has no single token of its own.
    """
    if not requests:
        return model.log_probs([])

    @cache
    def tokens_of(labels: tuple[str, ...]) -> list[tuple[int, ...]]:
        tokens = [label_tokens(model, label) for label in labels]
        for (one, some), (other, more) in combinations(zip(labels, tokens, strict=True), 2):
            if set(some) & set(more):
                raise ModelError(
                    f"{model.name} has one token for {one} and {other}: it cannot tell them apart.",
                    hint="Use the likelihood strategy, which needs no labels.",
                )
        return tokens

    prompts = model.encode_prompts([request.prompt for request in requests])
    sequences: list[ScoredSequence] = []
    sizes: list[int] = []
    for request, prompt in zip(requests, prompts, strict=True):
        tokens = tokens_of(request.labels)
        first, *others = (token for some in tokens for token in some)
        whole = np.append(prompt, np.int32(first))
        sequences.append(ScoredSequence(whole, len(prompt), tuple(others)))
        sizes += [len(some) for some in tokens]
    found = model.log_probs(sequences)
    starts = np.append(0, np.cumsum(sizes)[:-1]).astype(np.int64)
    summed = np.logaddexp.reduceat(np.concatenate(found.values), starts)
    ends = np.cumsum([len(request.labels) for request in requests])
    lengths = tuple(len(sequence.tokens) - 1 for sequence in sequences)
    return replace(found, values=tuple(np.split(summed, ends[:-1])), tokens=lengths)


def score_continuations(model: SequenceScorer, requests: Sequence[ContinuationRequest]) -> LogProbs:
    """Log-probability of each token of the continuations."""
    split = [request.split() for request in requests]
    prompts = model.encode_prompts([prompt for prompt, _ in split])
    texts = model.encode_texts([continuation for _, continuation in split])
    turn_end = np.array(model.encode_end(), dtype=np.int32)
    sequences = []
    for request, before, after in zip(requests, prompts, texts, strict=True):
        chat = request.prompt.text is None
        end = turn_end if request.end and chat else turn_end[:0]
        sequences.append(ScoredSequence(np.concatenate([before, after, end]), len(before)))
    lengths = tuple(len(sequence.tokens) for sequence in sequences)
    return replace(model.log_probs(sequences), tokens=lengths)
