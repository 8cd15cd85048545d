"""Validation of a language model as it is used: nDCG@10 of its parts under a gate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from llmrec.evaluation import ndcg_at, target_ranks
from llmrec.models.hardware import halve_until_it_fits
from llmrec.models.prefix_scoring import input_device
from llmrec.records import User
from llmrec.reranking.gate import (
    BY,
    POPULARITY,
    RETRIEVAL,
    GateLists,
    features,
)
from llmrec.reranking.gate_fit import CONTROL, conditional_logit
from llmrec.training.packed_rows import Segment, batches_of, longer_than_window, segment_scores
from llmrec.training.tuning_data import TuningData, TuningList

CONDITIONAL, PRIOR, LENGTH = "likelihood.conditional", "likelihood.prior", "likelihood.length"
_RIDGE = 1e-2
"""Squared-weight penalty a list."""
_SAME = 1e-3
"""Log-probabilities this close are the same."""
_TRIED = 8
"""Lists that are timed."""
_PRIORS_AT_ONCE = 32
"""Titles that share one bare prompt in a row."""


def gate_features(strategy: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Features that do not read what is tuned, and those that do."""
    if strategy != "likelihood":
        return CONTROL, _with_product(strategy)
    return (*CONTROL, *_with_product(PRIOR), *_with_product(LENGTH)), _with_product(CONDITIONAL)


def _with_product(name: str) -> tuple[str, str]:
    return name, f"{name}{BY}{POPULARITY}"


@dataclass(frozen=True)
class Limits:
    """Tokens of a row and of a batch, and whether matrix products are in bfloat16."""

    row_tokens: int
    batch_tokens: int
    half: bool

    @classmethod
    def of(cls, model: PreTrainedModel) -> Limits:
        """What suits the device: on a CPU, attention in long rows costs more than it saves."""
        if input_device(model).type == "cuda":
            return cls(1024, 32_768, half=True)
        return cls(512, 2048, half=False)

    def products(self) -> AbstractContextManager[object]:
        """Compute matrix products in this precision."""
        return torch.autocast("cuda", torch.bfloat16) if self.half else nullcontext()


@dataclass(frozen=True)
class Validated:
    """nDCG@10 of lists, [lists], each by weights of the other half; the weights of all of them.

    ``collapsed`` is the share of lists whose candidates all have one score.
    """

    gate: NDArray[np.float64]
    control: NDArray[np.float64]
    weights: Mapping[str, float]
    collapsed: float

    @property
    def ndcg(self) -> float:
        """Mean of the gate."""
        return float(self.gate.mean())


@torch.inference_mode()
def all_scores(
    model: PreTrainedModel, segments: Sequence[Segment], limits: Limits, *, whole: bool = False
) -> list[NDArray[np.float64]]:
    """Scores of every segment's answers or labels, in the order given."""
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(segments)
    whole = whole or longer_than_window(model, segments)

    def compute(batch_tokens: int) -> None:
        for batch in batches_of(segments, limits.row_tokens, batch_tokens):
            rows = [[segments[number] for number in row] for row in batch]
            with limits.products():
                scores = segment_scores(model, rows, whole=whole)
            numbers = [number for row in batch for number in row]
            for number, score in zip(numbers, scores, strict=True):
                found[number] = score.double().cpu().numpy()

    halve_until_it_fits(
        compute, limits.batch_tokens, unit="token", name="validation", least=limits.row_tokens
    )
    return found


def title_priors(
    model: PreTrainedModel,
    data: TuningData,
    lists: Sequence[TuningList],
    limits: Limits,
    *,
    whole: bool = False,
) -> NDArray[np.float64]:
    """Log-probability without a history of every title in the lists, [n_items]; NaN elsewhere."""
    priors = np.full(len(data.popularity), np.nan)
    if data.strategy != "likelihood":
        return priors
    rows = np.unique(np.concatenate([entry.items for entry in lists]))
    groups = [rows[at : at + _PRIORS_AT_ONCE] for at in range(0, len(rows), _PRIORS_AT_ONCE)]
    segments = [data.write(User(""), group) for group in groups]
    for group, scores in zip(groups, all_scores(model, segments, limits, whole=whole), strict=True):
        priors[group] = scores
    return priors


def gate_lists(
    data: TuningData,
    lists: Sequence[TuningList],
    segments: Sequence[Segment],
    priors: NDArray[np.float64],
    scores: Sequence[NDArray[np.float64]] = (),
) -> GateLists:
    """Lists as a gate reads them; without ``scores`` they lack what is tuned."""
    sizes = np.array([len(entry.items) for entry in lists])
    longest = int(sizes.max())

    def table(values: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
        full = np.full((len(lists), longest), np.nan)
        for line, some in zip(full, values, strict=True):
            line[: len(some)] = some
        return full

    signals = {RETRIEVAL: table(entry.retrieval for entry in lists)}
    if data.strategy == "likelihood":
        signals[PRIOR] = table(priors[entry.items] for entry in lists)
        signals[LENGTH] = table(
            np.array([float(len(title)) for title in segment.answers]) for segment in segments
        )
    if scores:
        signals[gate_features(data.strategy)[1][0]] = table(scores)
    return GateLists(
        signals,
        table(data.popularity[entry.items].astype(np.float64) for entry in lists),
        np.zeros(len(lists)),
        sizes,
        np.array([entry.target for entry in lists]),
    )


def columns(data: TuningData, lists: GateLists, names: Sequence[str]) -> NDArray[np.float64]:
    """Features by name, [lists, longest, features]."""
    scales = {POPULARITY: data.scale}
    return np.stack(features(lists, names, scales), axis=-1)


def fit(
    table: NDArray[np.float64], there: NDArray[np.bool_], targets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weights of the conditional logit with a ridge: the target is the choice.

    Args:
        table: Features, [lists, longest, features].
        there: Places that hold a candidate, [lists, longest].
        targets: Place of each target, [lists].
    """
    values = table - table[np.arange(len(table)), targets][:, None]
    weights, _ = conditional_logit(np.where(there[..., None], values, 0.0), there, _RIDGE)
    return weights


def validate(
    model: PreTrainedModel,
    data: TuningData,
    limits: Limits,
    *,
    seed: int = 0,
    whole: bool = False,
) -> Validated:
    """Score the validation lists, fit the gate on one half of them, judge on the other, and back.

    The model alone changes from one validation to the next: halves and ties are drawn by ``seed``.
    """
    lists = data.validation
    given, flat = judged(model, data, lists, limits, whole=whole)
    there, targets = given.there, np.array([entry.target for entry in lists])
    order = np.random.default_rng(seed).permutation(len(lists))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    fixed, learned = gate_features(data.strategy)
    found = []
    for names in ((*fixed, *learned), CONTROL):
        table = columns(data, given, names)
        scores = np.full(table.shape[:2], np.nan)
        for held, rest in (halves, halves[::-1]):
            scores[held] = table[held] @ fit(table[rest], there[rest], targets[rest])
        scores = np.where(there, scores, np.nan)
        found.append(ndcg_at(target_ranks(scores, targets, seed=seed), 10))
    weights = fit(columns(data, given, (*fixed, *learned)), there, targets)
    named = dict(zip((*fixed, *learned), map(float, weights), strict=True))
    return Validated(found[0], found[1], named, flat)


def judged(
    model: PreTrainedModel,
    data: TuningData,
    lists: Sequence[TuningList],
    limits: Limits,
    *,
    whole: bool = False,
) -> tuple[GateLists, float]:
    """Lists with their scores as a gate reads them; the share of them that score all alike."""
    segments = [data.write(entry.user, entry.items) for entry in lists]
    scores = all_scores(model, segments, limits, whole=whole)
    priors = title_priors(model, data, lists, limits, whole=whole)
    flat = float(np.mean([np.ptp(some) < _SAME for some in scores]))
    return gate_lists(data, lists, segments, priors, scores), flat


def lists_in_time(
    model: PreTrainedModel, data: TuningData, limits: Limits, seconds: float, *, whole: bool = False
) -> int:
    """How many validation lists are judged in so many seconds, as some of them tell."""
    some = data.validation[:_TRIED]
    began = time.monotonic()
    judged(model, data, some, limits, whole=whole)
    return int(seconds * len(some) / (time.monotonic() - began))
