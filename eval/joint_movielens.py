"""What each modality and their fusion are worth on MovieLens, beside Cornac's multimodal models.

    python eval/joint_movielens.py DATA         # DATA: the folder movielens_mm

Leave-one-out by time; every item but the history's is ranked; popularity and training see training
rows only, reviews are by nobody in the data. Settings are chosen on validation targets. A trained
row is the mean, user by user, of several seeds. `--peers PYTHON` names the interpreter of the
environment that `python eval/peers.py FOLDER` makes; without it the peers' rows are those kept.
Writes results/joint_movielens.json and .md. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from data_sets import columns_of
from joint import (
    PARTS,
    SEED,
    Case,
    KeptRanks,
    Ranks,
    Scores,
    load_case,
    quality,
    rank_metrics,
    subsets,
    trained,
    untrained,
    with_popularity,
)
from joint_results import write_results
from peers import PEERS, peer_ranks

from llmrec import Catalog
from llmrec.catalog import leave_one_out
from llmrec.items.fusion import FusionConfig
from llmrec.models import cache_folder

NOTE = (
    "The fusion reads a history in its order and knows the validation row of a test user from it. "
    "Cornac's models read no order; they are fitted on the validation rows too before the test. "
    "VBPR of Cornac 3.0.1 adds a column to a row, which scores every pair of a batch with every "
    "other pair's visual bias; `corrected` says whether that is repaired, and is chosen like any "
    "setting. AMR is VBPR trained with adversarial perturbations of the features. `fusion, none` "
    "knows items by who met them alone: what it lacks to `fusion, all` is what text, reviews and "
    "pictures add."
)


def main() -> None:
    """Rank, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", type=Path, help="Python of the peers' environment")
    parser.add_argument("--only", choices=["peers", "trained"], help="make and keep these rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seeds-of-parts", type=int, default=1, help="of single ones and pairs")
    parser.add_argument("--kept", type=Path, default=cache_folder() / "eval" / "joint.jsonl")
    parser.add_argument("--out", default="joint_movielens")
    options = parser.parse_args()
    catalog = Catalog.from_folder(options.data, columns=columns_of(options.data))
    case = load_case(catalog, leave_one_out(catalog))
    kept = KeptRanks(options.kept)
    rows: dict[str, list[Ranks]] = {}
    about: dict[str, dict[str, str | int | float]] = {}
    if options.only != "trained":
        for peer in PEERS:
            found, settings = peer_ranks(case, peer, kept, options.peers)
            rows[peer.name], about[peer.name] = [ranks["test"] for ranks in found], settings
    if options.only != "peers":
        parts = subsets(tuple(case.modalities))[:-1]
        for names in [tuple(case.modalities), (), *reversed(parts)]:
            main_row = len(names) in (0, len(case.modalities))
            seeds = range(options.seeds if main_row else options.seeds_of_parts)
            found = [
                trained(
                    case,
                    names,
                    kept,
                    lambda score: {which: case.rank(score(which), which) for which in PARTS},
                    config=replace(FusionConfig(), seed=seed),
                    split="leave-one-out",
                )
                for seed in seeds
            ]
            name = fused_name(names, case)
            rows[name] = [ranks["test"] for ranks in found]
            about[name] = {
                "seeds": len(found),
                "validation": float(np.mean([quality(ranks["validation"]) for ranks in found])),
            }
    if not options.only:
        simple, how = simple_rows(case, case.rank)
        rows, about = {**simple, **dict(reversed(rows.items()))}, {**about, **how}
        report(case, rows, about, options.out)


def fused_name(names: tuple[str, ...], case: Case) -> str:
    """Name a trained row; without any modality it knows items by who met them alone."""
    if not names:
        return "fusion, none (identities alone)"
    return f"fusion, {'all' if len(names) == len(case.modalities) else ' + '.join(names)}"


def simple_rows(
    case: Case, ranked: Callable[[Scores, str], Ranks]
) -> tuple[dict[str, list[Ranks]], dict[str, dict[str, str | int | float]]]:
    """Everything without training."""
    shape = (len(case.held["test"]), len(case.item_ids))
    rows = {
        "random": [ranked(np.zeros(shape), "test")],
        "popularity": [ranked(np.tile(case.popularity, (shape[0], 1)), "test")],
    }
    about: dict[str, dict[str, str | int | float]] = {}
    for names in subsets(tuple(case.modalities)):
        ranks, how = untrained(case, names, ranked)
        whole = len(names) == len(case.modalities)
        name = "concatenation, all" if whole else f"untrained, {' + '.join(names)}"
        rows[name], about[name] = [ranks["test"]], how.about(names)
    ranks, more = with_popularity(case, names, how, ranked)
    rows["concatenation, all + popularity"] = [ranks["test"]]
    about["concatenation, all + popularity"] = {**how.about(names), **more}
    return rows, about


def report(
    case: Case,
    rows: Mapping[str, list[Ranks]],
    about: Mapping[str, Mapping[str, str | int | float]],
    out: str,
) -> None:
    """Compare the fusion of all with the rest, and write."""
    fused = "fusion, all"
    rivals = ["concatenation, all", "concatenation, all + popularity", "popularity"]
    rivals += [name for name in rows if name.startswith("fusion, ") and name != fused]
    rivals += [peer.name for peer in PEERS if peer.name in rows]
    write_results(
        out,
        "Modalities and their fusion on MovieLens",
        {
            "users": len(case.held["test"]),
            "items": len(case.item_ids),
            "training rows": len(case.training.interactions),
            **{f"coverage {n}": round(m.coverage, 3) for n, m in case.modalities.items()},
            "command": "python eval/joint_movielens.py DATA",
            "fingerprint": case.catalog.fingerprint,
            "seed": SEED,
        },
        {name: rank_metrics(seeds) for name, seeds in rows.items()},
        [(fused, name) for name in rivals],
        about,
        NOTE,
    )


if __name__ == "__main__":
    main()
