"""How much a ranking hangs on the order in which candidates are given.

The same lists with the target at each of several places: nDCG@10 at each, how far apart the figures
stand, and how far they would if places did not matter (each user's values put in any order, a
permutation test). Used by rerank_strategies.py and order_bias_of_ways.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from movielens import Asked, KeptScores
from numpy.typing import NDArray
from scipy.stats import permutation_test
from tqdm import tqdm

from llmrec import Reranker, Retriever
from llmrec.evaluation import ndcg_at, target_ranks

SEED = 0
PLACES = (1, 5, 10, 15, 20)


def order_bias(
    kept: KeptScores,
    rerankers: Mapping[str, Reranker],
    retriever: Retriever,
    asked: Sequence[Asked],
) -> tuple[str, dict[str, object]]:
    """Table and figures, with intervals over users."""
    found: dict[str, object] = {}
    heads = " | ".join(f"at {place}" for place in PLACES)
    lines = [
        f"| row | {heads} | spread [95 %] | by chance | p |",
        "|---|" + "---:|" * (len(PLACES) + 3),
    ]
    for name, reranker in rerankers.items():
        tables = []
        for entry in tqdm(asked, desc=f"Places: {name}", disable=None):
            lists = [at_place(entry, place) for place in PLACES]
            judged = kept.judgements(reranker, retriever, lists)
            tables.append([np.nan_to_num(some.scores, nan=-np.inf) for some in judged])
        targets = np.array([place - 1 for place in PLACES])
        ranks = [
            target_ranks(np.array(table), targets, seed=SEED + row)
            for row, table in enumerate(tables)
        ]
        values = ndcg_at(np.array(ranks).ravel(), 10).reshape(len(asked), len(PLACES))
        means = values.mean(axis=0)
        draws = np.random.default_rng(SEED).integers(0, len(asked), (2000, len(asked)))
        low, high = (float(q) for q in np.quantile(spread_of(values[draws], 1), [0.025, 0.975]))
        spread = float(spread_of(values, 0))
        tested = permutation_test(
            tuple(values.T),
            lambda *columns, axis: spread_of(np.stack(columns, axis=-1), axis),
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=2000,
            rng=SEED,
        )
        chance = float(tested.null_distribution.mean())
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        lines.append(
            f"| {name} | {cells} | {spread:.3f} [{low:.3f}, {high:.3f}] | {chance:.3f} | "
            f"{tested.pvalue:.2g} |"
        )
        found[name] = {
            "ndcg@10": means.tolist(),
            "spread": spread,
            "interval": [low, high],
            "by chance": chance,
            "p": float(tested.pvalue),
        }
    note = (
        f"{len(asked)} users. By chance: the mean spread where each user's values stand in any "
        "order, p how often that is as large. Ways that see one candidate at a time, and shuffled "
        "ones, have none: they do not know the order that is given."
    )
    text = "## Order bias: nDCG@10 by the target's place in the list\n\n" + "\n".join(lines)
    return f"{text}\n\n{note}\n", found


def spread_of(values: NDArray[np.float64], users: int) -> NDArray[np.float64]:
    """How far apart the means over the axis of users stand, of values whose last is the place."""
    means = values.mean(axis=users if users >= 0 else users - 1)
    return np.asarray(np.ptp(means, axis=-1))


def at_place(entry: Asked, place: int) -> Asked:
    """The same list with its target moved to a place, counted from 1."""
    rest = [item_id for i, item_id in enumerate(entry.item_ids) if i != entry.target]
    rest.insert(place - 1, entry.item_ids[entry.target])
    return Asked(entry.user, tuple(rest), place - 1)
