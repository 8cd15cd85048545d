"""Whether a probability of a model means what it says, for scores that are probabilities.

A candidate's outcome is whether it is the target, which one in twenty is: a model that says "Yes"
of everything it likes is not calibrated to that, and this says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from llmrec.benchmarking.ranking import Scores
from llmrec.benchmarking.records import UserList
from llmrec.benchmarking.summary import ReliabilityBin

BINS = 10


def reliability(
    settings: Mapping[str, str | int | bool],
    lists: Sequence[UserList],
    scores: Sequence[Scores | None],
) -> tuple[ReliabilityBin, ...]:
    """Sort the judged candidates by probability into bins of as many each, lowest first.

    Empty where the row's scores are no probabilities: they are the log-odds of Yes of ``pointwise``
    and the log-probabilities of labels of ``listwise``, uncalibrated (what calibration takes off
    leaves no probability) and of whole lists.
    """
    predicted, observed = [], []
    for entry, values in zip(lists, scores, strict=True):
        if values is None:
            continue
        probabilities = _probabilities(settings, values)
        if probabilities is None:
            return ()
        predicted.append(probabilities)
        observed.append(np.array([item == entry.target for item in entry.candidates], dtype=float))
    if not predicted:
        return ()
    all_predicted, all_observed = np.concatenate(predicted), np.concatenate(observed)
    judged = ~np.isnan(all_predicted)
    order = np.argsort(all_predicted[judged], kind="stable")
    return tuple(
        ReliabilityBin(
            float(all_predicted[judged][part].mean()),
            float(all_observed[judged][part].mean()),
            len(part),
        )
        for part in np.array_split(order, BINS)
        if len(part)
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error: the bins' mean distance of probability and share, in [0, 1].

    After Nguyen and O'Connor 2015, "Posterior calibration and exploratory analysis for natural
    language processing models": bins of as many candidates each.
    """
    weights = [entry.candidates for entry in bins]
    return float(np.average([abs(b.predicted - b.observed) for b in bins], weights=weights))


def _probabilities(
    settings: Mapping[str, str | int | bool], values: Scores
) -> NDArray[np.float64] | None:
    """A probability a candidate, [n], NaN where it was not judged; None where there is none."""
    table = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    strategy = settings.get("strategy")
    if settings.get("calibrate"):
        return None
    if strategy == "pointwise":
        return np.asarray(expit(table))
    if strategy == "listwise" and not bool((table > 0).any()):  # above 0 it is a place, of windows
        return np.asarray(softmax(table))  # all NaN where any is: of part of a list it is none
    return None
