"""Recommending from a whole catalogue: the hybrid, its signals alone, and peers.

    python eval/full_ranking.py DATA [--seeds 3] [--without SASRec]
    python eval/full_ranking.py DATA --new-items [--seeds 3]

Leave-one-out by time (ties by the order of the file): each user's last row is the test, the one
before it validation; all items the user has not met are ranked. Settings, epochs and weights are
chosen on validation targets, by what was learned without them; for the test each row learns from
training and validation rows, the fusion from training rows alone. `ml_latest_small` is cut to its
5-core, as in Yue et al., "LlamaRec: Two-stage recommendation using large language models for
ranking" (2023). Rows with a fusion are each user's mean over the seeds. Writes
results/full_ranking_DATA.json and .md.

``--new-items``: one item in ten has no training row (`cold_start_split`); half of them, drawn, are
ranked among themselves, the target being the last that a user met. Peers without content have no
score there. Writes results/full_ranking_DATA_new_items.json and .md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from data_sets import KEPT, SEED, read, write_results
from forked import on_all_cores
from numpy.typing import NDArray
from peers.linear import ease, item_knn, met_table, recent
from peers.sasrec import SasRec, Settings, score, train
from scipy.sparse import csr_array

from llmrec import Catalog, Index, Retriever, TextEncoder, User
from llmrec.catalog import Split, cold_start_split, leave_one_out
from llmrec.evaluation import (
    compare_rows,
    end_to_end_users,
    markdown_table,
    ndcg_at,
    recall_at,
    target_ranks,
    training_catalog,
)
from llmrec.items import modalities_of
from llmrec.items.fusion import FusionConfig
from llmrec.retrieval import DEFAULT_WEIGHTS, FittedWeights, learn_weights, standardise
from llmrec.training import TrainedFusion, hold_out_last_rows, train_fusion

PUBLISHED = {
    "ml_latest_small": "LlamaRec, table 2: SASRec recall@10 .0993, nDCG@10 .0522; LRURec .1426, "
    ".0705; LlamaRec, reranked by Llama-2-7B, .1524, .0759.",
    "ml_1m": "HSTU (Zhai et al. 2024): SASRec with sampled softmax recall@10 .2853, nDCG@10 .1603; "
    "HSTU .3097, .1720; HSTU-large .3294, .1893.",
    "amazon_beauty_seq": "SASRec with full cross-entropy recall@10 .082 to .085, nDCG@10 .040 to "
    ".042; HSTU .0859, .0441; LRURec .0916, .0533; LlamaRec .0971, .0554.",
}
"""On the same data; other draws and machines, not paired."""
ALONE = ("popularity", "content", "keywords", "co_occurrence")
BEFORE, SEQUENCE, HYBRID = "hybrid without sequence", "sequence alone", "hybrid"
USERS_AT_ONCE = 500
SHARE = 0.1
"""Items that are new, of all."""
Table = NDArray[np.float64]  # [users, items]
Ranks = NDArray[np.float64]  # [users]


@dataclass(frozen=True)
class Users:
    """Users of a part of the split, their histories and targets as item rows."""

    users: tuple[User, ...]
    histories: tuple[NDArray[np.int64], ...]
    targets: NDArray[np.int64]
    left_out: NDArray[np.int64]
    """Item rows that are not ranked."""

    @classmethod
    def of(cls, catalog: Catalog, split: Split, which: Literal["validation", "test"]) -> Users:
        """The users of a part; their targets are ranked among new items where the split has any."""
        rows = {item_id: row for row, item_id in enumerate(catalog.items)}
        held = end_to_end_users(catalog, split, which=which)
        other = split.validation if which == "test" else split.test
        new = split.held_out_items - {row.item_id for row in other.values()}
        ranked = new or rows.keys()
        return cls(
            tuple(entry.user for entry in held),
            tuple(np.array([rows[r.item_id] for r in entry.user.history]) for entry in held),
            np.array([rows[entry.target] for entry in held]),
            np.array([row for item_id, row in rows.items() if item_id not in ranked], dtype=int),
        )

    def parts(self) -> Iterator[Users]:
        """Some users at a time: bounds memory."""
        for start in range(0, len(self.users), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            yield Users(self.users[part], self.histories[part], self.targets[part], self.left_out)

    def ranks(self, scores: Table) -> Ranks:
        """The target's rank among the items that the user has not met."""
        table = np.array(scores, dtype=np.float64)
        table[:, self.left_out] = -np.inf
        for row, history in enumerate(self.histories):
            table[row, history] = -np.inf
        return target_ranks(table, self.targets, seed=SEED)


Scorer = Callable[[Users], Table]
Fit = Callable[[Users], Scorer]
"""Learns from the histories of users."""


def ranked(scorer: Scorer, users: Users) -> Ranks:
    """Rank every user's target."""
    return np.concatenate([part.ranks(scorer(part)) for part in users.parts()])


def ndcg(ranks: Ranks) -> float:
    """The metric that settings are chosen by."""
    return float(ndcg_at(ranks, 10).mean())


def linear(
    make: Callable[..., Table | csr_array], n: int, half_life: float, **settings: float
) -> Fit:
    """Scores by an item-to-item matrix."""

    def fit(users: Users) -> Scorer:
        model = make(met_table(users.histories, n), **settings)
        return lambda some: recent(some.histories, n, half_life) @ model

    return fit


def neighbours(n: int) -> dict[str, Fit]:
    """Item-kNN under several settings."""
    return {
        f"shrinkage {shrinkage:g}, {k} neighbours, half-life {half_life:g}": linear(
            item_knn, n, half_life, shrinkage=shrinkage, neighbours=min(k, n)
        )
        for shrinkage in (0.0, 10.0)
        for k in (20, 100)
        for half_life in (1.0, 3.0, 10.0, np.inf)
    }


def shallow(n: int) -> dict[str, Fit]:
    """EASE under several settings."""
    return {
        f"ridge {ridge:g}, half-life {half_life:g}": linear(ease, n, half_life, ridge=ridge)
        for ridge in (50.0, 200.0, 1000.0)
        for half_life in (1.0, 3.0, 10.0, np.inf)
    }


def sasrec(n: int, validation: Users) -> dict[str, Fit]:
    """SASRec with the loss of the fusion, stopped early on validation, under two settings."""

    def make(settings: Settings) -> Fit:
        chosen: list[int] = []

        def judge(model: SasRec) -> float:
            return ndcg(ranked(lambda some: score(model, some.histories, settings), validation))

        def fit(users: Users) -> Scorer:
            if users is validation:
                model, value, epoch = train(users.histories, n, settings, judge, SEED)
                sys.stderr.write(f"{settings}: epoch {epoch}, {value:.4f}\n")
                chosen.append(epoch)
            else:  # once more, with the validation rows
                known = replace(settings, epochs=chosen[0], every=chosen[0])
                model, _, _ = train(users.histories, n, known, lambda _: 0.0, SEED)
            return lambda some: score(model, some.histories, settings)

        return fit

    return {f"dropout {drop}": make(Settings(dropout=drop)) for drop in (0.2, 0.5)}


def peer_rows(
    n: int,
    validation: Users,
    test: Users,
    options: argparse.Namespace,
    folder: Path,
    fingerprint: str,
) -> tuple[dict[str, Ranks], dict[str, dict[str, float]]]:
    """Every peer's test ranks under its best setting on validation, and all settings' nDCG@10.

    A folder keeps what is found, so that a killed run resumes.
    """
    families: dict[str, Callable[[], Mapping[str, Fit]]] = {
        "item-kNN": lambda: neighbours(n),
        "EASE": lambda: shallow(n),
        "SASRec": lambda: sasrec(n, validation),
    }
    ranks, found = {}, {}
    for name in [name for name in families if name not in options.without]:
        path = folder / f"{name}_{fingerprint[:8]}.npz"
        if not path.exists():
            start = time.perf_counter()
            tries = families[name]()
            values = {
                setting: ndcg(ranked(fit(validation), validation)) for setting, fit in tries.items()
            }
            best = max(values, key=lambda setting: values[setting])
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(path, ranks=ranked(tries[best](test), test), allow_pickle=False, **values)
            sys.stderr.write(f"{name}: {time.perf_counter() - start:.0f} s\n")
        with np.load(path) as kept:
            ranks[name] = kept["ranks"]
            found[name] = {key: float(kept[key]) for key in kept.files if key != "ranks"}
    return ranks, found


def weighted(
    retriever: Retriever, rows: Mapping[str, Mapping[str, float]], test: Users
) -> dict[str, Ranks]:
    """Ranks by several weights of the same signals, each signal scored once a user."""

    def ranks_of(part: Users) -> dict[str, Ranks]:
        scores = {name: np.empty((len(part.users), len(retriever.index.items))) for name in rows}
        for place, user in enumerate(part.users):
            signals = {name: standardise(v) for name, v in retriever.signals(user).items()}
            for name, weights in rows.items():
                scores[name][place] = sum(w * signals[signal] for signal, w in weights.items())
        return {name: part.ranks(table) for name, table in scores.items()}

    retriever.signals(test.users[0])  # what is made once is made before the processes part
    found = on_all_cores(ranks_of, test.parts())
    return {name: np.concatenate([ranks[name] for ranks in found]) for name in rows}


def our_rows(
    known: Catalog, test: Users, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, list[Ranks]], list[TrainedFusion], dict[str, FittedWeights]]:
    """Ranks of our signals and hybrids; with a fusion by seed.

    Args:
        known: Training and validation rows.
        test: The users.
        options: The command's.
        folder: Keeps checkpoints, so that a killed run resumes.
    """
    encoder = TextEncoder.from_pretrained()
    modalities = modalities_of(known, encoder, progress=True)
    index = Index.build(known, encoder, modalities=modalities, insights={})
    training, validation = hold_out_last_rows(known)
    given = modalities_of(training, encoder, progress=True)
    indexes, fusions = [index], []
    for seed in range(options.seeds):
        epochs = options.epochs or FusionConfig().epochs
        config, out = FusionConfig(seed=seed, epochs=epochs), folder / f"seed_{seed}"
        trained = train_fusion(training, given, validation, config, out=out, progress=True)
        fusions.append(trained)
        indexes.append(
            Index.build(known, encoder, modalities=modalities, insights={}, fusion=trained.fusion)
        )
    before, *fitted = on_all_cores(learn_weights, indexes)
    learned, rows = {BEFORE: before}, dict[str, list[Ranks]]()
    for seed, (made, own) in enumerate(zip(indexes[1:], fitted, strict=True)):
        learned[f"{HYBRID}, seed {seed}"] = own
        weights: dict[str, Mapping[str, float]] = {SEQUENCE: {"sequence": 1.0}}
        weights[HYBRID] = own.weights
        if seed == 0:
            weights |= {f"{name} alone": {name: 1.0} for name in ALONE}
            weights[BEFORE] = before.weights
            weights["hybrid without sequence, default weights"] = {
                name: DEFAULT_WEIGHTS[name] for name in DEFAULT_WEIGHTS if name in before.weights
            }
        retriever = Retriever(made, weights=dict.fromkeys(own.weights, 1.0))
        for name, ranks in weighted(retriever, weights, test).items():
            rows.setdefault(name, []).append(ranks)
    return rows, fusions, learned


def metrics_of(ranks: Sequence[Ranks]) -> dict[str, NDArray[np.float64]]:
    """The metrics of a row, each user's mean over the seeds."""
    return {
        f"{what}@{k}": np.mean([at(some, k) for some in ranks], axis=0)
        for k in (10, 20)
        for what, at in (("recall", recall_at), ("ndcg", ndcg_at))
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Rank, compare, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the fusion")
    parser.add_argument("--new-items", action="store_true", help="evaluate new items")
    parser.add_argument("--without", action="append", default=[], help="a peer to leave out")
    parser.add_argument("--epochs", type=int, help="maximum epochs of the fusion")
    parser.add_argument(
        "--kept", type=Path, default=KEPT / "full_ranking", help="checkpoint folder"
    )
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    catalog = read(options.data)
    name = f"{options.data.name}_new_items" if options.new_items else options.data.name
    split = cold_start_split(catalog, SHARE, SEED) if options.new_items else leave_one_out(catalog)
    validation, test = (Users.of(catalog, split, which) for which in ("validation", "test"))
    before = split.train
    if not options.new_items:
        left_out = {*split.test.values(), *split.left_out}
        before = tuple(row for row in catalog.interactions if row not in left_out)
    known = training_catalog(catalog, replace(split, train=before))
    kept = options.kept / name
    rows, fusions, learned = our_rows(known, test, options, kept)
    n = len(catalog.items)
    peers: dict[str, Ranks] = {}
    found: dict[str, dict[str, float]] = {}
    if not options.new_items:
        peers, found = peer_rows(n, validation, test, options, kept, catalog.fingerprint)
    rows |= {peer: [ranks] for peer, ranks in peers.items()}
    table = compare_rows(
        {row: metrics_of(ranks) for row, ranks in rows.items()},
        [(HYBRID, row) for row in rows if row != HYBRID],
        seed=SEED,
    )
    command = f"python eval/full_ranking.py {options.data.name} --seeds {options.seeds}"
    command += " --new-items" if options.new_items else ""
    command += f" --epochs {options.epochs}" if options.epochs else ""
    command += "".join(f" --without {peer}" for peer in options.without)
    protocol = " ".join((__doc__ or "").split("\n\n")[3 if options.new_items else 2].split())
    counts = (
        f"{len(test.users):,} users, {n:,} items, {n - len(test.left_out):,} of them ranked, "
        f"{len(known.interactions):,} interactions before the test."
    )
    weights = "\n".join(
        f"- {row}: "
        + ", ".join(f"{s} {w:.2f} (p {fitted.p_values[s]:.1g})" for s, w in fitted.weights.items())
        for row, fitted in learned.items()
    )
    epochs = "\n".join(
        f"- seed {trained.config.seed}: epoch {trained.best_epoch} of {len(trained.epochs)}, "
        f"{np.mean([epoch.seconds for epoch in trained.epochs]):.0f} s an epoch, nDCG@10 on "
        f"validation {trained.best.ndcg:.4f}, of the hybrid {trained.best.hybrid:.4f}"
        for trained in fusions
    )
    picks = "\n".join(
        f"- {peer}: {max(tries, key=lambda key: tries[key])}; nDCG@10 on validation "
        f"{max(tries.values()):.4f}"
        for peer, tries in found.items()
    )
    text = (
        f"# Ranking a whole catalogue: {name}\n\n`{command}`. {protocol}\n\n{counts} As published "
        f"(other draws and machines, not paired): {PUBLISHED.get(name, 'none')}\n\n"
        f"{markdown_table(table)}\nWeights, learned on validation rows:\n\n{weights}\n\n"
        f"Fusion, chosen on validation rows:\n\n{epochs}\n\n"
        f"Peers, chosen on validation rows:\n\n{picks}\n"
    )
    document = {
        "command": command,
        "protocol": protocol,
        "counts": counts,
        "fingerprint": catalog.fingerprint,
        "learned": learned,
        "fusions": [
            {"config": asdict(f.config), "epochs": [asdict(epoch) for epoch in f.epochs]}
            for f in fusions
        ],
        "validation": found,
        "rows": table,
    }
    write_results(f"full_ranking_{name}", text, document, options.out)


if __name__ == "__main__":
    main()
