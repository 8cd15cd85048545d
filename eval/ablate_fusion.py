"""What each part of a fusion adds, on validation targets.

    python eval/ablate_fusion.py DATA [--seeds 2]        # DATA: movielens_mm, amazon_gift_cards

Leave-one-out by time; training rows alone are learned from, the test rows are not read. A row is
the default with one change; its figure of a user is the mean over the seeds, and rows are compared
with the default user by user. The best epoch is chosen on the same targets in every row, so all
figures are a little high: compare differences. Popularity, item-kNN, EASE and the classic head are
baselines. Writes results/ablate_fusion_DATA.json and .md; a killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from data_sets import KEPT, SEED, kept_in, read, write_results
from joint_rows import Case, Ranks, load_case, rank_metrics, trained
from peers import classic
from peers.linear import ease, item_knn, met_table, recent
from tqdm import tqdm

from llmrec.catalog import leave_one_out
from llmrec.evaluation import compare_rows, markdown_table
from llmrec.items.fusion import FusionConfig

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "without identities": {"identities": False},
    "without identity dropout": {"identity_dropout": 0.0},
    "half of the identities dropped": {"identity_dropout": 0.5},
    "without modality dropout": {"modality_dropout": 0.0},
    "without the transformer": {"layers": 0},
    "histories of 50": {"history": 50},
    "one layer": {"layers": 1},
    "128 dimensions": {"dimension": 128},
}


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
    parser.add_argument("--epochs", type=int, default=FusionConfig().epochs, help="at most")
    parser.add_argument("--only", choices=VARIANTS, action="append", help="beside the default")
    parser.add_argument("--kept", type=Path, default=KEPT / "ablate_fusion.jsonl")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args(arguments)
    name = options.data.name
    catalog = read(options.data)
    case = load_case(catalog, leave_one_out(catalog))
    simple, head = baselines(case)
    rows = {row: rank_metrics([ranks]) for row, ranks in simple.items()}
    chosen = {"default", *(options.only or VARIANTS)}
    with kept_in(options.kept) as kept:
        for variant in tqdm([v for v in VARIANTS if v in chosen], desc="Variants", disable=None):
            config = replace(FusionConfig(epochs=options.epochs), **VARIANTS[variant])  # type: ignore[arg-type]
            made = [
                trained(
                    case,
                    tuple(case.modalities),
                    kept,
                    lambda score: {"validation": case.rank(score("validation"), "validation")},
                    config=replace(config, seed=seed),
                    split="leave-one-out, validation alone",
                )
                for seed in range(options.seeds)
            ]
            rows[variant] = rank_metrics([ranks["validation"] for ranks in made])
    pairs = [(row, "default") for row in rows if row != "default"]
    shown = {
        row: {metric: values[metric] for metric in ("recall@20", "ndcg@10")}
        for row, values in rows.items()
    }
    table = compare_rows(shown, pairs, seed=SEED)
    names = ", ".join(f"{m.name} ({m.encoder}, {m.coverage:.0%})" for m in case.modalities.values())
    command = f"python eval/ablate_fusion.py {name} --seeds {options.seeds}"
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
