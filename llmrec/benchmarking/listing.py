"""Whom a benchmark asks about, and which items they order: never with the target in sight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from llmrec.benchmarking.plan import USUAL_USERS, BenchmarkPlan
from llmrec.benchmarking.records import UserList, stored_scores
from llmrec.catalog import Catalog, leave_one_out
from llmrec.errors import OptionError
from llmrec.evaluation import discrimination_lists
from llmrec.retrieval import Index, Retriever, hold_out


@dataclass(frozen=True)
class Asked:
    """An index that knows none of the targets, and the lists.

    ``qualifying`` users have a target; ``lists`` are of those that were drawn.
    """

    known: Index
    lists: tuple[UserList, ...]
    qualifying: int


def lists_of(index: Index, plan: BenchmarkPlan, *, progress: bool = False) -> Asked:
    """Hold each user's target out and make the lists of the users that are drawn.

    Fewer users are the first of more, so that a run can be extended.

    Raises:
        OptionError: Fewer users qualify than are asked for, or there are fewer items than
            candidates.
    """
    if plan.candidates > len(index.items):
        raise OptionError(
            f"candidates is {plan.candidates}; the index has {len(index.items)} items.",
            hint="Ask for fewer candidates.",
        )
    known, targets = hold_out(index, plan.part)
    known = replace(known, weights={})  # those were fitted on these very targets
    if plan.protocol == "discrimination":
        catalog = Catalog(index.items, tuple(index.interactions))
        split = leave_one_out(catalog, min_train=2)
        found = discrimination_lists(
            catalog, split, which=plan.part, negatives=plan.candidates - 1, seed=plan.seed
        )
        sampled = {one.user.user_id: one.item_ids for one in found}
        qualifying = sorted(sampled)
    else:
        sampled, qualifying = {}, sorted(targets)
    if len(qualifying) < (plan.users or 1):
        raise OptionError(
            f"users is {plan.users or 'not given'}; {len(qualifying)} have an interaction that can "
            "be held out.",
            hint=f"Ask for {len(qualifying)} or fewer." if qualifying else "Take another index.",
        )
    drawn = plan.users or USUAL_USERS
    order = np.random.default_rng(plan.seed).permutation(len(qualifying))[:drawn]
    popularity = Counter(row.item_id for row in known.interactions)
    retriever = Retriever(known)
    lists = []
    bar = tqdm(order, desc="Making lists", unit="user", disable=None if progress else True)
    for user_id in (qualifying[place] for place in bar):
        user = known.user(user_id)
        if user_id in sampled:
            scored = {c.item_id: c for c in retriever.candidates(user, sampled[user_id])}
            candidates = [scored[item_id] for item_id in sampled[user_id]]
        else:
            candidates = list(retriever.retrieve(user, plan.candidates))
        ids = tuple(candidate.item_id for candidate in candidates)
        lists.append(
            UserList(
                user_id,
                targets[user_id],
                ids,
                stored_scores([candidate.score for candidate in candidates]),
                tuple(float(popularity[item_id]) for item_id in ids),
                len(user.history),
                popularity[targets[user_id]],
                targets[user_id] in ids,
            )
        )
    return Asked(known, tuple(lists), len(qualifying))
