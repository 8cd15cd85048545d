"""What each part of a fusion adds, on validation targets.

    python eval/ablate_fusion.py DATA [--seeds 2] [--users 1500]

Leave-one-out by time; training rows alone are learned from, the test rows are not read. A row is
the default with one change; its figure of a user is the mean over the seeds, and rows are compared
with the default user by user. The best epoch is chosen on the same targets in every row, so all
figures are a little high: compare differences. ``--users`` draws users, whose rows are then all
there are. Popularity, item-kNN, EASE and the classic head are
baselines. Writes results/ablate_fusion_DATA.json and .md; a killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from data_sets import KEPT, SEED, Kept, kept_in, read, write_results
from fusion_parts import PARTS, Part, without_profiles
from joint_rows import Case, Ranks, load_case, rank_metrics, trained
from peers import classic
from peers.linear import ease, item_knn, met_table, recent
from tqdm import tqdm

from llmrec import Catalog
from llmrec.catalog import leave_one_out
from llmrec.evaluation import compare_rows, markdown_table
from llmrec.items.fusion import FusionConfig


def some_users(catalog: Catalog, n: int | None) -> Catalog:
    """Draw users, and leave out what others did."""
    users = sorted({row.user_id for row in catalog.interactions})
    drawn = {users[i] for i in np.random.default_rng(SEED).permutation(len(users))[:n]}
    rows = tuple(row for row in catalog.interactions if row.user_id in drawn)
    reviews = tuple(review for review in catalog.reviews if review.user_id in drawn)
    return replace(catalog, interactions=rows, reviews=reviews) if n else catalog


def changed(case: Case, part: Part, name: str, config: FusionConfig, kept: Kept) -> Ranks:
    """Ranks of the validation targets by a fusion with one change."""
    catalog, split = part.told(case.catalog, case.split)
    told = Case(catalog, split, case.modalities)
    with part.in_place():
        ranks = trained(
            told,
            tuple(case.modalities) if part.modalities else (),
            kept,
            lambda score: {"validation": told.rank(score("validation"), "validation")},
            config=replace(config, **part.settings),
            split=f"leave-one-out, validation alone, {name}",
        )
    return ranks["validation"]


def baselines(case: Case) -> tuple[dict[str, Ranks], dict[str, float]]:
    """Ranks of the rows beside the fusions, and the classic head's own figures."""
    n, training = len(case.item_ids), case.training
    users = [training.user(user_id).history for user_id in training.user_ids]
    every = [
        np.array([case.columns[row.item_id] for row in history]) for history in users if history
    ]
    asked = [np.array(case.history(held)) for held in case.held["validation"]]
    met, latest = met_table(every, n), recent(asked, n, 5)
    vectors = np.concatenate([given.vectors for given in case.modalities.values()], axis=1)
    head = classic.train(vectors, every)
    scores = {
        "popularity": np.tile(met.sum(axis=0), (len(asked), 1)),
        "item-kNN, recent": latest @ item_knn(met),
        "EASE, recent": latest @ ease(met, 200),
        "classic head": np.array([head.scores(history) for history in asked]),
    }
    targets = [case.columns[held.target] for held in case.held["validation"]]
    ranks = {name: case.rank(some, "validation") for name, some in scores.items()}
    return ranks, classic.figures(head, asked, targets)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every variant, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=FusionConfig().epochs, help="maximum epochs")
    parser.add_argument("--users", type=int, help="number of users (default: all)")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="run only the default and this row"
    )
    parser.add_argument("--kept", type=Path, default=KEPT / "ablate_fusion.jsonl")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    name = options.data.name
    catalog = some_users(read(options.data), options.users)
    case = load_case(catalog, leave_one_out(catalog))
    simple, head = baselines(case)
    rows = {row: rank_metrics([ranks]) for row, ranks in simple.items()}
    chosen = {"default", *(options.only or PARTS)}
    with kept_in(options.kept) as kept:
        for change in tqdm([p for p in PARTS if p in chosen], desc="Parts", disable=None):
            part = PARTS[change]
            if part.told is without_profiles and not case.training.profiles:
                continue
            made = [
                changed(case, part, change, FusionConfig(seed=seed, epochs=options.epochs), kept)
                for seed in range(options.seeds)
            ]
            rows[change] = rank_metrics(made)
    pairs = [(row, "default") for row in rows if row != "default"]
    shown = {
        row: {metric: values[metric] for metric in ("recall@20", "ndcg@10")}
        for row, values in rows.items()
    }
    table = compare_rows(shown, pairs, seed=SEED)
    names = ", ".join(f"{m.name} ({m.encoder}, {m.coverage:.0%})" for m in case.modalities.values())
    command = f"python eval/ablate_fusion.py {name} --seeds {options.seeds}"
    command += f" --users {options.users}" if options.users else ""
    command += "".join(f' --only "{part}"' for part in options.only or ())
    command += f" --epochs {options.epochs}" if options.epochs < FusionConfig().epochs else ""
    text = (
        f"# Fusion, one change at a time, on validation targets\n\n`{command}`\n\n"
        f"Modalities: {names}. Mean over {options.seeds} seeds.\n\n{markdown_table(table)}\n"
        "Classic head, each target against one item never met: "
        f"{', '.join(f'{figure} {value:.3f}' for figure, value in head.items())}.\n"
    )
    document = {"command": command, "classic head": head, "rows": table}
    write_results(f"ablate_fusion_{name}", text, document, options.out)


if __name__ == "__main__":
    main()
