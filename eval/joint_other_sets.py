"""The joint representation on gift cards, Chinese books and artists with friends: a short table.

    python eval/joint_other_sets.py FOLDER      # amazon_gift_cards, douban_books_mm, ...

Leave-one-out, every item but the history's is ranked. Reviews by users whose row is held out are
not read. Artists have no times, and the file orders a user's rows by how often they listened, so
the last row would say something: rows are shuffled with a seed first, and the two held out are
random ones. The offline text encoder knows English: Chinese books show what that costs. Tags of
artists and genres of books were made of all users' tags, those of held-out rows too. Writes
results/joint_NAME.json and .md. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from data_sets import SETS, DataSet
from joint import (
    PARTS,
    POPULARITY_WEIGHTS,
    SEED,
    Case,
    KeptRanks,
    Ranks,
    Scores,
    content_scores,
    load_case,
    quality,
    rank_metrics,
    trained,
)
from joint_movielens import simple_rows
from joint_results import write_results
from scipy.sparse import csr_matrix

from llmrec import Catalog
from llmrec.catalog import Split, leave_one_out
from llmrec.items.fusion import FusionConfig
from llmrec.models import cache_folder
from llmrec.retrieval import standardise


def main() -> None:
    """Rank, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kept", type=Path, default=cache_folder() / "eval" / "joint_other.jsonl")
    options = parser.parse_args()
    name = options.data.name
    chosen = SETS[name]
    catalog, split = read(options.data, chosen)
    case = load_case(catalog, split)
    rows, about = simple_rows(case, case.rank)
    if len(case.modalities) == 1:
        rows["text + popularity"] = rows.pop("concatenation, all + popularity")
        about["text + popularity"] = about.pop("concatenation, all + popularity")
        rows["text"], about["text"] = (
            rows.pop("concatenation, all"),
            about.pop("concatenation, all"),
        )
    together = "text" if len(case.modalities) == 1 else "concatenation, all"
    kept, seeds = KeptRanks(options.kept), range(chosen.seeds)
    rows["fusion, all"] = [
        trained(
            case,
            tuple(case.modalities),
            kept,
            lambda score: {which: case.rank(score(which), which) for which in PARTS},
            config=replace(FusionConfig(), seed=seed, epochs=chosen.epochs),
            split="leave-one-out",
        )["test"]
        for seed in seeds
    ]
    about["fusion, all"] = {"seeds": len(rows["fusion, all"]), "epochs at most": chosen.epochs}
    known = f"{together} + popularity"
    pairs = [("fusion, all", other) for other in (together, known, "popularity")]
    if catalog.friends:
        friends = f"{known} + friends"
        ranks, weight = with_friends(case, about[known])
        rows[friends], about[friends] = [ranks], {**about[known], "friends_weight": weight}
        pairs.append((friends, known))
    write_results(
        f"joint_{name}",
        f"Modalities and their fusion on {name}",
        {
            "users": len(case.held["test"]),
            "items": len(case.item_ids),
            "training rows": len(case.training.interactions),
            **{f"coverage {n}": round(m.coverage, 3) for n, m in case.modalities.items()},
            "command": f"python eval/joint_other_sets.py {name}",
            "fingerprint": catalog.fingerprint,
            "seed": SEED,
        },
        {row: rank_metrics(found) for row, found in rows.items()},
        pairs,
        about,
        chosen.note,
    )


def read(folder: Path, chosen: DataSet) -> tuple[Catalog, Split]:
    """Read and split; rows without times are shuffled first."""
    catalog = Catalog.from_folder(folder, columns=chosen.columns)
    if all(row.timestamp is None for row in catalog.interactions):
        order = np.random.default_rng(SEED).permutation(len(catalog.interactions))
        shuffled = tuple(catalog.interactions[row] for row in order)
        catalog = replace(catalog, interactions=shuffled)
    return catalog, leave_one_out(catalog)


def with_friends(case: Case, settings: dict[str, str | int | float]) -> tuple[Ranks, float]:
    """The retriever's two signals and friends: test ranks and the weight chosen on validation."""
    popular = float(settings["popularity_weight"]) * standardise(case.popularity)

    def scores(which: str) -> tuple[Scores, Scores]:
        content = content_scores(case, tuple(case.modalities), which, float(settings["half_life"]))
        met = friends_met(case, which)
        base = np.array([standardise(row) for row in content]) + popular
        return base, np.array([standardise(row) for row in met])

    base, friends = scores("validation")
    weights = (0.0, *POPULARITY_WEIGHTS)
    best = max(weights, key=lambda w: quality(case.rank(base + w * friends, "validation")))
    base, friends = scores("test")
    return case.rank(base + best * friends, "test"), best


def friends_met(case: Case, which: str) -> Scores:
    """Log of 1 + how many of a user's friends met an item in a training row."""
    users = {user_id: row for row, user_id in enumerate(case.catalog.user_ids)}
    train = case.training.interactions
    met = csr_matrix(
        (
            np.ones(len(train)),
            ([users[row.user_id] for row in train], [case.columns[row.item_id] for row in train]),
        ),
        shape=(len(users), len(case.item_ids)),
    )
    edges = [
        (row, users[friend])
        for row, held in enumerate(case.held[which])
        for friend in case.catalog.friends.get(held.user.user_id, ())
        if friend in users
    ]
    rows, columns = np.array(edges).T
    known = csr_matrix((np.ones(len(edges)), (rows, columns)), (len(case.held[which]), len(users)))
    return np.asarray(np.log1p((known @ met).toarray()), dtype=np.float64)


if __name__ == "__main__":
    main()
