"""The inputs of the two evaluation protocols, without the targets.

*Discrimination*: the target and sampled unseen items, shuffled; every qualifying user counts.
*End to end*: the user alone; whether the retriever reaches the target is part of the result.
They answer different questions and belong in different tables.

Give ``user`` (and ``item_ids``) to a scorer, build its index from ``training_catalog``, and keep
``target`` for the metric.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from llmrec.catalog import Catalog, Split
from llmrec.errors import OptionError
from llmrec.records import User

Part = Literal["validation", "test"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A user as known before the held-out interaction, and the item of that interaction."""

    user: User
    target: str


@dataclass(frozen=True, slots=True)
class CandidateList:
    """``HeldOut`` with the items to order: the target and its negatives, shuffled."""

    user: User
    target: str
    item_ids: tuple[str, ...]


def training_catalog(catalog: Catalog, split: Split) -> Catalog:
    """Return the catalog without held-out rows: popularity then counts train rows only.

    A review goes too where its user met its item in a row that is not a training row, and where it
    was written after the last training row: behind a time split's cut nothing is known yet. Reviews
    without a user id or a time stay, as nothing ties them to a held-out row or moment.
    """
    last = max((row.timestamp for row in split.train if row.timestamp is not None), default=None)
    train = {(row.user_id, row.item_id) for row in split.train}
    held = {(row.user_id, row.item_id) for row in catalog.interactions} - train
    reviews = tuple(
        row
        for row in catalog.reviews
        if (row.user_id, row.item_id) not in held
        and (last is None or row.timestamp is None or row.timestamp <= last)
    )
    return replace(catalog, interactions=split.train, reviews=reviews)


def end_to_end_users(
    catalog: Catalog, split: Split, *, which: Part = "test"
) -> tuple[HeldOut, ...]:
    """Return every user that has a target in this part, by user id.

    A user's history holds the train rows, and for a test target the validation row too: a real
    recommender would know it. Popularity is never counted from it (``training_catalog``).

    Args:
        catalog: The whole catalog.
        split: A split of this catalog.
        which: The part whose rows are the targets.

    Raises:
        OptionError: ``which`` is neither validation nor test.
    """
    if which not in ("validation", "test"):
        raise OptionError(f"which is {which!r}; allowed are 'validation' and 'test'.")
    targets = split.test if which == "test" else split.validation
    known = split.train if which == "validation" else (*split.train, *split.validation.values())
    before = replace(catalog, interactions=known)
    return tuple(
        HeldOut(before.user(user_id), row.item_id) for user_id, row in sorted(targets.items())
    )


def discrimination_lists(
    catalog: Catalog,
    split: Split,
    *,
    which: Part = "test",
    negatives: int = 19,
    seed: int,
) -> tuple[CandidateList, ...]:
    """Return for each user that qualifies the target among sampled items, in shuffled order.

    The negatives are drawn uniformly, without repeats, from the items that the user never met in
    any of the catalog's rows, whichever part they are in. A user qualifies who is among
    ``end_to_end_users`` and has at least ``negatives`` such items. Each user's draws depend on the
    seed, the part and the user id alone, so a list stays the same whichever other users there are.

    Args:
        catalog: The whole catalog.
        split: A split of this catalog.
        which: The part whose rows are the targets.
        negatives: Sampled items per list; the list holds one more.
        seed: Seed of samples and order.

    Raises:
        OptionError: ``negatives`` is below 1, ``which`` is unknown, or no user qualifies.
    """
    if negatives < 1:
        raise OptionError(f"negatives is {negatives}; allowed is 1 or more.")
    met: defaultdict[str, set[str]] = defaultdict(set)
    for row in catalog.interactions:
        met[row.user_id].add(row.item_id)
    lists = []
    for person in end_to_end_users(catalog, split, which=which):
        user_id = person.user.user_id
        elsewhere = met[user_id] - {person.target}
        pool = [item_id for item_id in catalog.items if item_id not in elsewhere]
        if len(pool) <= negatives:
            continue
        # Neither the place nor the order of the pool depends on which item is the target.
        rng = _user_rng(seed, which, user_id)
        place = int(rng.integers(negatives + 1))
        drawn = [pool[row] for row in rng.permutation(len(pool))]
        item_ids = [item_id for item_id in drawn if item_id != person.target][:negatives]
        item_ids.insert(place, person.target)
        lists.append(CandidateList(person.user, person.target, tuple(item_ids)))
    if not lists:
        raise OptionError(
            f"no user has a {which} target and {negatives} unseen items "
            f"in a catalogue of {len(catalog.items)}.",
            hint="Ask for fewer negatives, or split so that this part has targets.",
        )
    return tuple(lists)


def _user_rng(seed: int, which: Part, user_id: str) -> np.random.Generator:
    """Return the user's own generator, the same on every machine and in every process."""
    digest = hashlib.sha256(f"{seed}\0{which}\0{user_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
