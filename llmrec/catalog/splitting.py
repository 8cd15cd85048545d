"""Split a catalogue's interactions into training rows and held-out targets.

A split never leaks a target: no training row has the user and the item of a target. Of repeated
interactions of a user with an item the first counts; the later rows are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from llmrec.catalog.catalog import Catalog, by_time, by_user, seconds
from llmrec.errors import DataError, OptionError
from llmrec.records import Interaction


@dataclass(frozen=True, slots=True)
class Split:
    """A split of a catalogue's interactions.

    Args:
        train: Training rows, in file order.
        validation: User id -> target for choosing settings.
        test: User id -> target for reporting.
        left_out: Rows in none of the three, in file order: repeated interactions, and rows that
            would leak a target.
        held_out_items: The items of :func:`cold_start_split` without a training row.
    """

    train: tuple[Interaction, ...]
    validation: Mapping[str, Interaction]
    test: Mapping[str, Interaction]
    left_out: tuple[Interaction, ...] = ()
    held_out_items: frozenset[str] = frozenset()


def leave_one_out(catalog: Catalog, *, min_train: int = 3) -> Split:
    """Hold out each user's last row for the test and the one before it for validation.

    Rows are ordered by time, ties and rows without a time by file order. All rows of a user with
    fewer than ``min_train + 2`` rows are training rows.

    Raises:
        OptionError: ``min_train`` is below 1.
    """
    if min_train < 1:
        raise OptionError(f"min_train is {min_train}; allowed is 1 or more.")
    validation: dict[str, Interaction] = {}
    test: dict[str, Interaction] = {}
    train: set[Interaction] = set()
    for user_id, rows in _first_rows(catalog.interactions).items():
        kept = len(rows)
        if kept >= min_train + 2:
            kept -= 2
            validation[user_id], test[user_id] = rows[kept:]
        train.update(rows[:kept])
    return _split(catalog, train, validation, test)


def global_time_split(
    catalog: Catalog, cut: float, *, validation_cut: float | None = None
) -> Split:
    """Train on the rows before one moment; each user's first row from then on is the target.

    Args:
        catalog: The catalogue; every interaction needs a timestamp.
        cut: Start of the test, in seconds since 1970; a number between 0 and 1 is the share of
            the rows before it.
        validation_cut: An earlier moment, given in the same way. Training rows end there, and each
            user's first row between the two is the validation target. None: no validation.

    A target's user has at least one training row; the target's item is new to the user.

    Raises:
        DataError: An interaction has no timestamp, or there are no interactions.
        OptionError: The cuts are not in order, or nothing comes before or after one.
    """
    times = np.array([row.timestamp for row in catalog.interactions if row.timestamp is not None])
    untimed = len(catalog.interactions) - len(times)
    if untimed or not len(times):
        raise DataError(
            f"A time split needs a timestamp in every interaction; {untimed:,} of "
            f"{len(catalog.interactions):,} have none.",
            hint="Use leave_one_out, which uses file order where there is no time.",
        )
    test_start = _moment(cut, times)
    train_end = test_start if validation_cut is None else _moment(validation_cut, times)
    if not times.min() < train_end <= test_start <= times.max():
        raise OptionError(
            f"The cuts {validation_cut} and {cut} leave nothing on one side: moments between "
            f"{times.min() + 1} and {times.max()} are allowed, validation_cut before cut.",
        )
    validation: dict[str, Interaction] = {}
    test: dict[str, Interaction] = {}
    train: set[Interaction] = set()
    for user_id, rows in _first_rows(catalog.interactions).items():
        before = [row for row in rows if seconds(row) < train_end]
        train.update(before)
        for row in rows if before else ():
            if seconds(row) >= test_start:
                test.setdefault(user_id, row)
            elif seconds(row) >= train_end:
                validation.setdefault(user_id, row)
    return _split(catalog, train, validation, test)


def cold_start_split(catalog: Catalog, share: float, seed: int) -> Split:
    """Hold out items as if they were new: none of their rows is in ``train``.

    Half of the items held out, drawn by ``seed``, are for validation and half for the test; a
    user's target is the last of the user's rows with such an item, and the user has at least one
    training row. Training rows may be later than the target.

    Args:
        catalog: The catalogue.
        share: The share of the items with interactions to hold out, between 0 and 1.
        seed: Random seed; the same seed holds out the same items.

    Raises:
        OptionError: ``share`` is not between 0 and 1, or holds out fewer than two items or all.
    """
    items = sorted({row.item_id for row in catalog.interactions})
    n_out = round(share * len(items)) if 0 < share < 1 else 0
    if not 2 <= n_out < len(items):
        raise OptionError(
            f"share is {share}: {n_out} of {len(items):,} items with interactions would be held "
            "out; allowed is a share between 0 and 1 that holds out at least two and not all.",
        )
    drawn = np.random.default_rng(seed).permutation(len(items))[:n_out]
    for_validation = frozenset(items[i] for i in drawn[: n_out // 2])
    for_test = frozenset(items[i] for i in drawn[n_out // 2 :])
    validation: dict[str, Interaction] = {}
    test: dict[str, Interaction] = {}
    train: set[Interaction] = set()
    for user_id, rows in _first_rows(catalog.interactions).items():
        known = [row for row in rows if row.item_id not in for_validation | for_test]
        train.update(known)
        for row in rows if known else ():
            if row.item_id in for_validation:
                validation[user_id] = row
            elif row.item_id in for_test:
                test[user_id] = row
    return _split(catalog, train, validation, test, for_validation | for_test)


def _split(
    catalog: Catalog,
    train: set[Interaction],
    validation: Mapping[str, Interaction],
    test: Mapping[str, Interaction],
    held_out_items: frozenset[str] = frozenset(),
) -> Split:
    waiting = train | set(validation.values()) | set(test.values())
    kept, left_out = [], []
    for row in catalog.interactions:
        if row not in waiting:  # one that equals an earlier row too
            left_out.append(row)
            continue
        waiting.remove(row)
        if row in train:
            kept.append(row)
    return Split(
        tuple(kept),
        MappingProxyType(validation),
        MappingProxyType(test),
        tuple(left_out),
        held_out_items,
    )


def _first_rows(interactions: Iterable[Interaction]) -> dict[str, list[Interaction]]:
    """Group by user, oldest first, keeping a user's first row with each item."""
    rows_of: dict[str, list[Interaction]] = {}
    for user_id, rows in by_user(interactions).items():
        first: dict[str, Interaction] = {}
        for row in by_time(rows):
            first.setdefault(row.item_id, row)
        rows_of[user_id] = list(first.values())
    return rows_of


def _moment(cut: float, times: np.ndarray) -> float:
    return float(np.quantile(times, cut, method="lower")) if 0 < cut < 1 else cut
