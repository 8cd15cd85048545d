"""Can items that nobody is known to have met be found? MovieLens, by modality.

    python eval/joint_cold_start.py DATA        # DATA: the folder movielens_mm

One item in ten has no training interaction (cold_start_split): half are targets of validation, half
of the test. A user's target is the last of the user's rows with such an item; it is ranked among
the new items of its part, and among all items but the history's. Popularity knows nothing of new
items. Writes results/joint_cold_start.json and .md (among new items), joint_cold_start_all.* (among
all). A killed run goes on where it stopped.
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
)
from joint_movielens import fused_name, simple_rows
from joint_results import write_results

from llmrec import Catalog
from llmrec.catalog import cold_start_split
from llmrec.items.fusion import FusionConfig
from llmrec.models import cache_folder

SHARE = 0.1
# What a fusion could rely on less, so that it serves items that nobody has met.
VARIANTS = {
    "fusion, all, half of the identities": FusionConfig(identity_dropout=0.5),
    "fusion, all, no identities": FusionConfig(identities=False),
}


def main() -> None:
    """Rank, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seeds-of-parts", type=int, default=1, help="of single ones and pairs")
    parser.add_argument("--kept", type=Path, default=cache_folder() / "eval" / "joint_cold.jsonl")
    options = parser.parse_args()
    catalog = Catalog.from_folder(options.data, columns=columns_of(options.data))
    case = load_case(catalog, cold_start_split(catalog, SHARE, SEED))
    new = new_items(case)

    def rank_all(score: Callable[[str], Scores]) -> Mapping[str, Ranks]:
        scores = {which: score(which) for which in PARTS}
        among = {f"{which} new": case.rank(scores[which], which, new[which]) for which in PARTS}
        return {**among, "test all": case.rank(scores["test"], "test")}

    kept = KeptRanks(options.kept)
    fused: dict[str, list[dict[str, Ranks]]] = {}
    for names in reversed(subsets(tuple(case.modalities))):
        whole = len(names) == len(case.modalities)
        fused[fused_name(names, case)] = [
            trained(
                case,
                names,
                kept,
                rank_all,
                config=replace(FusionConfig(), seed=seed),
                split=f"cold start {SHARE} {SEED}",
            )
            for seed in range(options.seeds if whole else options.seeds_of_parts)
        ]
    for name, config in VARIANTS.items():
        split = f"cold start {SHARE} {SEED}"
        names = tuple(case.modalities)
        fused[name] = [trained(case, names, kept, rank_all, config=config, split=split)]
    for among, out in (("new", "joint_cold_start"), ("all", "joint_cold_start_all")):

        def ranked(scores: Scores, which: str, among: str = among) -> Ranks:
            return case.rank(scores, which, new[which] if among == "new" else None)

        rows, about = simple_rows(case, ranked)
        for name, found in reversed(fused.items()):
            rows[name] = [ranks[f"test {among}"] for ranks in found]
            quality_new = float(np.mean([quality(ranks["validation new"]) for ranks in found]))
            about[name] = {"seeds": len(found), "validation new": round(quality_new, 4)}
        command = f"python eval/joint_cold_start.py DATA --seeds {options.seeds}"
        write(case, rows, about, out, among, int(new["test"].sum()), command)


def new_items(case: Case) -> dict[str, np.ndarray]:
    """The items of each part that no training row has: bool [items]."""
    split = case.split
    found = {}
    for which, targets in (("validation", split.validation), ("test", split.test)):
        other = split.test if which == "validation" else split.validation
        ids = split.held_out_items - {row.item_id for row in other.values()}
        ids |= {row.item_id for row in targets.values()}
        found[which] = np.array([item_id in ids for item_id in case.item_ids])
    return found


def write(
    case: Case,
    rows: Mapping[str, list[Ranks]],
    about: Mapping[str, Mapping[str, str | int | float]],
    out: str,
    among: str,
    new: int,
    command: str,
) -> None:
    """Compare each modality with text alone, and fusions with concatenations."""
    text, fused, together = "untrained, text", "fusion, all", "concatenation, all"
    pairs = [(name, text) for name in rows if name.startswith("untrained, ") and name != text]
    pairs += [(together, text), (fused, together), (fused, "fusion, text"), ("fusion, text", text)]
    pairs += [pair for name in VARIANTS for pair in ((name, together), (name, fused))]
    write_results(
        out,
        f"Items that nobody is known to have met, ranked among {among} items",
        {
            "users": len(case.held["test"]),
            "items ranked": new if among == "new" else len(case.item_ids),
            "items without a training row": len(case.split.held_out_items),
            "training rows": len(case.training.interactions),
            "command": command,
            "fingerprint": case.catalog.fingerprint,
            "seed": SEED,
        },
        {name: rank_metrics(seeds) for name, seeds in rows.items()},
        pairs,
        about,
    )


if __name__ == "__main__":
    main()
