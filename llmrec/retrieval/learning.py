"""Fit the retriever's weights on an index: predict each user's last interaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from tqdm import tqdm

from llmrec.catalog import Catalog, leave_one_out
from llmrec.errors import DataError, check_count, check_kind, one_of
from llmrec.retrieval.index import Index
from llmrec.retrieval.retriever import Retriever
from llmrec.retrieval.signals import history_rows
from llmrec.retrieval.weights import FittedWeights, SignalList, fit_weights

LEARNED = ("content", "co_occurrence", "keywords", "popularity", "friends")
"""The signals that are tried where none are named, beside ``sequence`` where there is a fusion."""


def hold_out(
    index: Index, part: Literal["test", "validation"] = "test"
) -> tuple[Index, Mapping[str, str]]:
    """Take each user's last interaction out of an index, and the review of it.

    A user qualifies with at least four items; one met more than once counts at the first meeting.

    Args:
        index: That knows all interactions.
        part: Whether the last one is the target, or (``validation``) the one before it: then both
            are taken out.

    Returns:
        The index that knows none of them, and the item id of each target by user id.
    """
    check_kind("index", index, Index, "an Index", "Open a folder with Index.open(INDEX).")
    one_of("part", part, ("test", "validation"))
    split = leave_one_out(Catalog(index.items, tuple(index.interactions)), min_train=2)
    rows = split.test if part == "test" else split.validation
    targets = {user_id: row.item_id for user_id, row in rows.items()}
    held = {(row.user_id, row.item_id) for row in (*rows.values(), *split.test.values())}
    known = replace(
        index,
        # A user's row before the last one is the newest of those left, and ties keep this order.
        interactions=(*split.train, *(split.validation.values() if part == "test" else ())),
        reviews=tuple(
            review for review in index.reviews if (review.user_id, review.item_id) not in held
        ),
    )
    return known, targets


def learn_weights(
    index: Index,
    *,
    names: Sequence[str] | None = None,
    users: int | None = 5_000,
    negatives: int = 2_000,
    seed: int = 0,
    progress: bool = False,
) -> FittedWeights:
    """Learn the retriever's weights on each user's last interaction, known to no signal.

    The conditional logit of :func:`~llmrec.retrieval.weights.fit_weights` over the items the
    user has not met, or a uniform sample of them, which leaves its estimates consistent (McFadden,
    "Modelling the choice of residential location", 1978). A weight is never negative, and zero
    unless the likelihood-ratio test keeps the signal.

    Args:
        index: Whose users; it is not changed. Keep the result with
            ``index.with_weights(WEIGHTS_KEY, fitted.weights)``.
        names: Signals to weigh; None takes `LEARNED`, and ``sequence`` where the index has a
            fusion. It must not have been trained on the users' last interactions: `llmrec train
            fusion` and `llmrec index --train-sequence` hold them out.
        users: So many users at most, drawn by ``seed``; None takes all.
        negatives: Items sampled for a list beside the target.
        seed: Seed of both draws.
        progress: Show a progress bar on stderr if it is a terminal.

    Raises:
        OptionError: A number is below 1, or there is no such signal.
        DataError: No user has four items.
    """
    if users is not None:
        check_count("users", users)
    check_count("negatives", negatives)
    if names is None:
        names = LEARNED if index.fusion is None else (*LEARNED, "sequence")
    known, targets = hold_out(index)
    retriever = Retriever(known, weights=dict.fromkeys(names, 1.0))
    if not targets:
        raise DataError(
            "No user has four items: there is nothing to learn retrieval weights on.",
            hint="The default weights are used.",
        )
    rng = np.random.default_rng(seed)
    ordered = sorted(targets)
    drawn = [ordered[i] for i in rng.permutation(len(ordered))[:users]]
    lists = []
    for user_id in tqdm(drawn, desc="Scoring", unit="user", disable=None if progress else True):
        user = known.user(user_id)
        unseen = np.ones(len(known.items), dtype=bool)
        target = known.row(targets[user_id])
        unseen[[*history_rows(known, user), target]] = False
        rows = rng.permutation(np.flatnonzero(unseen))[:negatives]
        rows = np.concatenate([[target], rows])
        values = {name: scores[rows] for name, scores in retriever.signals(user).items()}
        lists.append(SignalList(values, 0))
    return fit_weights(lists, optional=tuple(names))
