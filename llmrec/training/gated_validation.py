"""Validation of a language model as it is used: nDCG@10 of its parts under a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from llmrec.evaluation import ndcg_at, target_ranks
from llmrec.models.prefix_scoring import input_device
from llmrec.reranking.gate import (
    BY,
    POPULARITY,
    RETRIEVAL,
    GateLists,
    features,
)
from llmrec.reranking.gate_fit import CONTROL, conditional_logit
from llmrec.training.packed_rows import Segment, batches_of, segment_scores
from llmrec.training.tuning_data import TuningData, TuningList

CONDITIONAL, PRIOR, LENGTH = "likelihood.conditional", "likelihood.prior", "likelihood.length"
FIXED = (*CONTROL, PRIOR, f"{PRIOR}{BY}{POPULARITY}", LENGTH, f"{LENGTH}{BY}{POPULARITY}")
"""Features that do not read the conditional likelihood."""
LEARNED = (CONDITIONAL, f"{CONDITIONAL}{BY}{POPULARITY}")
"""Those that do."""
_RIDGE = 1e-2
"""Squared-weight penalty a list."""
_SAME = 1e-3
"""Log-probabilities this close are the same."""
_PRIORS_AT_ONCE = 32
"""Titles that share one bare prompt in a row."""


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

    ``collapsed`` is the share of lists whose titles are all equally likely after the history.
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
    """Scores of every segment's answers, in the order given."""
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(segments)
    for batch in batches_of(segments, limits.row_tokens, limits.batch_tokens):
        rows = [[segments[number] for number in row] for row in batch]
        with limits.products():
            scores = segment_scores(model, rows, whole=whole)
        numbers = [number for row in batch for number in row]
        for number, score in zip(numbers, scores, strict=True):
            found[number] = score.double().cpu().numpy()
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
    rows = np.unique(np.concatenate([entry.items for entry in lists]))
    groups = [rows[at : at + _PRIORS_AT_ONCE] for at in range(0, len(rows), _PRIORS_AT_ONCE)]
    segments = [
        Segment(data.bare, tuple(data.titles[row] for row in group.tolist())) for group in groups
    ]
    priors = np.full(len(data.popularity), np.nan)
    for group, scores in zip(groups, all_scores(model, segments, limits, whole=whole), strict=True):
        priors[group] = scores
    return priors


def gate_lists(
    data: TuningData,
    lists: Sequence[TuningList],
    priors: NDArray[np.float64],
    conditional: Sequence[NDArray[np.float64]] = (),
) -> GateLists:
    """Lists as a gate reads them; without ``conditional`` they lack that signal."""
    sizes = np.array([len(entry.items) for entry in lists])
    longest = int(sizes.max())

    def table(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        full = np.full((len(lists), longest), np.nan)
        for line, some in zip(full, values, strict=True):
            line[: len(some)] = some
        return full

    signals = {
        RETRIEVAL: table([entry.retrieval for entry in lists]),
        PRIOR: table([priors[entry.items] for entry in lists]),
        LENGTH: table(
            [np.array([float(len(data.titles[row])) for row in e.items.tolist()]) for e in lists]
        ),
    }
    if conditional:
        signals[CONDITIONAL] = table(conditional)
    return GateLists(
        signals,
        table([data.popularity[entry.items].astype(np.float64) for entry in lists]),
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
    segments = [data.segment(entry) for entry in lists]
    conditional = all_scores(model, segments, limits, whole=whole)
    given = gate_lists(
        data, lists, title_priors(model, data, lists, limits, whole=whole), conditional
    )
    there, targets = given.there, np.array([entry.target for entry in lists])
    order = np.random.default_rng(seed).permutation(len(lists))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    found = []
    for names in ((*FIXED, *LEARNED), CONTROL):
        table = columns(data, given, names)
        scores = np.full(table.shape[:2], np.nan)
        for held, rest in (halves, halves[::-1]):
            scores[held] = table[held] @ fit(table[rest], there[rest], targets[rest])
        scores = np.where(there, scores, np.nan)
        found.append(ndcg_at(target_ranks(scores, targets, seed=seed), 10))
    names = (*FIXED, *LEARNED)
    weights = fit(columns(data, given, names), there, targets)
    flat = float(np.mean([np.ptp(scores) < _SAME for scores in conditional]))
    return Validated(found[0], found[1], dict(zip(names, map(float, weights), strict=True)), flat)
