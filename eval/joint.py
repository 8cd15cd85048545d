"""What each modality and their fusion add, beside popularity and Cornac's multimodal models.

    python eval/joint.py DATA [--seeds N]    # movielens_mm, amazon_gift_cards, douban_books_mm, ...
    python eval/joint.py DATA --new-items    # items without a training interaction

Leave-one-out; every item but the history's is ranked; popularity and training see training rows
only, reviews of held-out rows are not read. Settings are chosen on validation targets. A trained
row is the mean, user by user, of several seeds. ``--peers PYTHON`` adds Cornac's models; it names
the interpreter of the environment that ``python eval/peers/environment.py cornac FOLDER`` makes.

``--new-items``: one item in ten has no training interaction (``cold_start_split``): half are
targets of validation, half of the test. A user's target is the last of the user's rows with such an
item; it is ranked among the new items of its part, and among all items but the history's.

Tags of artists and genres of books were made of all users' tags, those of held-out rows too. Writes
results/joint_DATA.json and .md, or joint_DATA_new_items.* (among new items) and
joint_DATA_new_items_all.* (among all). A killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from data_sets import KEPT, SEED, DataSet, Kept, kept_in, read, set_of, write_results
from joint_rows import (
    PARTS,
    Case,
    Ranks,
    Scores,
    load_case,
    quality,
    rank_metrics,
    simple_rows,
    subsets,
    trained,
    with_friends,
)
from peers.cornac_models import PEERS, peer_ranks

from llmrec.catalog import cold_start_split, leave_one_out
from llmrec.evaluation import compare_rows, markdown_table
from llmrec.items.fusion import FusionConfig

About = dict[str, dict[str, str | int | float]]
Rows = dict[str, list[Ranks]]
SHARE = 0.1
FUSED, TOGETHER = "fusion, all", "concatenation, all"
KNOWN = f"{TOGETHER} + popularity"
# A fusion that relies less on identities ranks items without interactions better.
VARIANTS: dict[str, dict[str, object]] = {
    "fusion, all, half of the identities": {"identity_dropout": 0.5},
    "fusion, all, no identities": {"identities": False},
}
NOTE = (
    "The fusion reads a history in its order and knows the validation row of a test user from it. "
    "Cornac's models read no order; they are fitted on the validation rows too before the test. "
    "VBPR of Cornac 3.0.1 adds a column to a row, which scores every pair of a batch with every "
    "other pair's visual bias; `corrected` says whether that is repaired, and is chosen like any "
    "setting. AMR is VBPR trained with adversarial perturbations of the features. `fusion, none` "
    "knows items by who met them alone: its difference to `fusion, all` is what text, reviews and "
    "pictures add."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Rank, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--new-items", action="store_true", help="evaluate new items")
    parser.add_argument("--seeds", type=int, help="seeds of the fusion of all modalities")
    parser.add_argument("--epochs", type=int, help="maximum epochs")
    parser.add_argument("--peers", type=Path, help="Python of the peers' environment")
    parser.add_argument("--kept", type=Path, default=KEPT / "joint.jsonl")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    usual = set_of(options.data)
    seeds, epochs = options.seeds or usual.seeds, options.epochs or usual.epochs
    chosen = replace(usual, seeds=seeds, epochs=epochs)
    catalog = read(options.data)
    name, command = options.data.name, f"python eval/joint.py {options.data.name} --seeds {seeds}"
    with kept_in(options.kept) as kept:
        if options.new_items:
            case = load_case(catalog, cold_start_split(catalog, SHARE, SEED))
            tables = new_item_tables(case, chosen, kept)
            command, name = f"{command} --new-items", f"{name}_new_items"
        else:
            case = load_case(catalog, leave_one_out(catalog))
            tables = {"": leave_one_out_table(case, chosen, kept, options.peers)}
    for ending, (rows, pairs, about) in tables.items():
        compared = compare_rows(
            {row: rank_metrics(found) for row, found in rows.items()}, pairs, seed=SEED, about=about
        )
        facts = {
            "users": len(case.held["test"]),
            "items": len(case.item_ids),
            "items without a training row": len(case.split.held_out_items),
            "training rows": len(case.training.interactions),
            **{f"coverage {n}": round(m.coverage, 3) for n, m in case.modalities.items()},
            "fingerprint": catalog.fingerprint,
        }
        note = NOTE if chosen.parts else chosen.note
        text = (
            f"# Modalities and their fusion on {name}{ending.replace('_', ' among ')}\n\n"
            f"`{command}`, seed {SEED}\n\n"
            + "".join(f"- {key}: {value}\n" for key, value in facts.items())
            + "\nIntervals are 95 %, paired by user; p as found and corrected by Holm over the "
            f"table. Trained rows are each user's mean over their seeds. {note}\n\n"
            f"{markdown_table(compared)}\nSettings, chosen on validation targets:\n\n"
            + "".join(
                f"- {row.name}: {', '.join(f'{k} {v}' for k, v in row.about.items())}\n"
                for row in compared
                if row.about
            )
        )
        document = {"about": {"command": command, **facts}, "rows": compared}
        write_results(f"joint_{name}{ending}", text, document, options.out)


def leave_one_out_table(
    case: Case, chosen: DataSet, kept: Kept, python: Path | None
) -> tuple[Rows, list[tuple[str, str]], About]:
    """Rows, pairs to compare, and each row's settings."""
    rows, about = simple_rows(case, case.rank)
    whole = tuple(case.modalities)
    parts = [*subsets(whole)[:-1], ()] if chosen.parts else []
    for names in [*parts, whole]:
        found = [
            trained(
                case,
                names,
                kept,
                lambda score: {which: case.rank(score(which), which) for which in PARTS},
                config=replace(FusionConfig(), seed=seed, epochs=chosen.epochs),
                split="leave-one-out",
            )
            for seed in range(chosen.seeds if names in (whole, ()) else 1)
        ]
        name = fused_name(names, case)
        rows[name] = [ranks["test"] for ranks in found]
        about[name] = {
            "seeds": len(found),
            "epochs at most": chosen.epochs,
            "validation": round(float(np.mean([quality(r["validation"]) for r in found])), 4),
        }
    if python is not None:
        for peer in reversed(PEERS):
            made, settings = peer_ranks(case, peer, kept, python)
            rows[peer.name], about[peer.name] = [ranks["test"] for ranks in made], settings
    rivals = [TOGETHER, KNOWN, "popularity"]
    rivals += [name for name in rows if name.startswith("fusion, ") and name != FUSED]
    rivals += [peer.name for peer in PEERS if peer.name in rows]
    pairs = [(FUSED, name) for name in rivals]
    if case.catalog.friends:
        friends = f"{KNOWN} + friends"
        ranks, weight = with_friends(case, about[KNOWN])
        rows[friends], about[friends] = [ranks], {**about[KNOWN], "friends_weight": weight}
        pairs.append((friends, KNOWN))
    return rows, pairs, about


def fused_name(names: tuple[str, ...], case: Case) -> str:
    """Name a trained row; without any modality it knows items by who met them alone."""
    if not names:
        return "fusion, none (identities alone)"
    return FUSED if len(names) == len(case.modalities) else f"fusion, {' + '.join(names)}"


def new_item_tables(
    case: Case, chosen: DataSet, kept: Kept
) -> dict[str, tuple[Rows, list[tuple[str, str]], About]]:
    """Tables among new items and among all, by the ending of their file."""
    new = new_items(case)

    def rank_all(score: Callable[[str], Scores]) -> Mapping[str, Ranks]:
        scores = {which: score(which) for which in PARTS}
        among = {f"{which} new": case.rank(scores[which], which, new[which]) for which in PARTS}
        return {**among, "test all": case.rank(scores["test"], "test")}

    def made(
        names: tuple[str, ...], seeds: int, change: Mapping[str, object]
    ) -> list[Mapping[str, Ranks]]:
        config = replace(FusionConfig(epochs=chosen.epochs), **change)  # type: ignore[arg-type]
        split = f"cold start {SHARE} {SEED}"
        return [
            trained(case, names, kept, rank_all, config=replace(config, seed=seed), split=split)
            for seed in range(seeds)
        ]

    whole = tuple(case.modalities)
    fused = {name: made(whole, 1, change) for name, change in VARIANTS.items()}
    for names in subsets(whole):
        fused[fused_name(names, case)] = made(names, chosen.seeds if names == whole else 1, {})
    tables = {}
    for among in ("new", "all"):

        def ranked(scores: Scores, which: str, among: str = among) -> Ranks:
            return case.rank(scores, which, new[which] if among == "new" else None)

        rows, about = simple_rows(case, ranked)
        for name, found in fused.items():
            rows[name] = [ranks[f"test {among}"] for ranks in found]
            quality_new = float(np.mean([quality(ranks["validation new"]) for ranks in found]))
            about[name] = {"seeds": len(found), "validation new": round(quality_new, 4)}
        text = f"untrained, {whole[0]}"
        pairs = [(name, text) for name in rows if name.startswith("untrained, ") and name != text]
        pairs += [(TOGETHER, text), (FUSED, TOGETHER)]
        pairs += [(FUSED, "fusion, text"), ("fusion, text", text)]
        pairs += [pair for name in VARIANTS for pair in ((name, TOGETHER), (name, FUSED))]
        pairs = [pair for pair in pairs if set(pair) <= rows.keys()]
        tables["" if among == "new" else "_all"] = rows, pairs, about
    return tables


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


if __name__ == "__main__":
    main()
