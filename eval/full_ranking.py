"""Recommending from a whole catalogue after LlamaRec's protocol, beside item-kNN, EASE and SASRec.

    python eval/full_ranking.py DATA                # DATA: the folder ml_latest_small
    python eval/full_ranking.py DATA --sequence     # what a trained fusion adds to the retriever

Yue et al., "LlamaRec: Two-stage recommendation using large language models for ranking" (2023),
whose retriever is LRURec: every rating is a meeting; users and items with fewer than five are left
out until none is left; each user's last row is the test, the one before it validation (ties by
the order of the file); all items the user has not met are ranked. Everything is learned from
training rows alone, before validation and test both; the test's history holds the validation row.
Settings are chosen by nDCG@10 on validation targets. Writes results/full_ranking.json and .md, or
full_ranking_sequence.*.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import SEED, load, read, write_results
from numpy.typing import NDArray
from peers.linear import ease, item_knn, met_table, recent
from peers.sasrec import Settings, score, train

from llmrec import Catalog, Index, Retriever, TextEncoder, User
from llmrec.catalog import Split, leave_one_out
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
from llmrec.retrieval import DEFAULT_WEIGHTS, learn_weights
from llmrec.training import train_fusion

PUBLISHED = (
    "As published (LlamaRec, table 2; other draws and machines, not paired): SASRec recall@10 "
    ".0993, nDCG@10 .0522; LRURec .1426, .0705; LlamaRec, reranked by Llama-2-7B, .1524, .0759."
)
SIGNALS = ("content", "co_occurrence", "popularity", "keywords")
SEQUENCE_WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)
OURS = "hybrid, learned weights"
Table = NDArray[np.float64]  # [users, items]


@dataclass(frozen=True)
class Part:
    """Users of a part of the split, their histories and targets as rows of the index."""

    users: tuple[User, ...]
    histories: tuple[NDArray[np.int64], ...]
    targets: NDArray[np.int64]

    def ranks(self, scores: Table) -> NDArray[np.float64]:
        """The target's rank among all items that the user has not met."""
        table = np.array(scores, dtype=np.float64)
        for row, history in enumerate(self.histories):
            table[row, history] = -np.inf
        return target_ranks(table, self.targets, seed=SEED)

    def ndcg(self, scores: Table) -> float:
        """The metric that settings are chosen by."""
        return float(ndcg_at(self.ranks(scores), 10).mean())


Scorer = Callable[[Part], Table]


def metrics_of(ranks: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The metrics of every row, a value a user."""
    return {
        f"{what}@{k}": at(ranks, k)
        for k in (10, 20)
        for what, at in (("recall", recall_at), ("ndcg", ndcg_at))
    }


def part_of(catalog: Catalog, split: Split, index: Index, which: Any) -> Part:  # noqa: ANN401
    """A part of the split in rows of the index."""
    held = end_to_end_users(catalog, split, which=which)
    return Part(
        tuple(entry.user for entry in held),
        tuple(np.array([index.row(r.item_id) for r in entry.user.history]) for entry in held),
        np.array([index.row(entry.target) for entry in held]),
    )


def linear(model: Table, half_life: float) -> Scorer:
    """Scores by an item-to-item matrix."""
    return lambda part: recent(part.histories, len(model), half_life) @ model


def neighbours(met: Table) -> dict[str, Scorer]:
    """Item-kNN under several settings."""
    tries = {}
    for shrinkage in (0.0, 10.0, 50.0):
        for k in (20, 100):
            model = item_knn(met, shrinkage, min(k, met.shape[1]))
            for half_life in (3.0, 10.0, np.inf):
                name = f"shrinkage {shrinkage:g}, {k} neighbours, half-life {half_life:g}"
                tries[name] = linear(model, half_life)
    return tries


def shallow(met: Table) -> dict[str, Scorer]:
    """EASE under several settings."""
    tries = {}
    for ridge in (50.0, 200.0, 500.0, 1000.0):
        model = ease(met, ridge)
        for half_life in (1.0, 3.0, 10.0, np.inf):
            tries[f"ridge {ridge:g}, half-life {half_life:g}"] = linear(model, half_life)
    return tries


def hybrid(index: Index, **options: Any) -> Scorer:  # noqa: ANN401
    """Our retriever's scores of all items."""
    retriever = Retriever(index, **options)
    return lambda part: np.array([retriever.scores(user) for user in part.users])


def sasrec(validation: Part, n_items: int, epochs: int) -> dict[str, Scorer]:
    """SASRec under two settings, each stopped early on validation."""
    tries: dict[str, Scorer] = {}
    for dimension, dropout in ((64, 0.2), (64, 0.5)):
        settings = Settings(dimension=dimension, dropout=dropout, epochs=epochs)
        model, value, epoch = train(validation.histories, n_items, settings, validation.ndcg, SEED)
        name = f"{dimension} dimensions, dropout {dropout}"
        sys.stderr.write(f"SASRec {name}: epoch {epoch}, {value:.4f}\n")
        tries[name] = partial(lambda m, s, part: score(m, part.histories, s), model, settings)
    return tries


def against_peers(catalog: Catalog, split: Split, epochs: int) -> tuple[str, dict[str, Any]]:
    """Every family's best setting on validation, compared on the test."""
    index = load(catalog).index
    validation, test = (part_of(catalog, split, index, w) for w in ("validation", "test"))
    n = len(index.items)
    met = met_table(validation.histories, n)
    rng = np.random.default_rng(SEED)
    learned = learn_weights(index, names=SIGNALS)
    families: dict[str, Mapping[str, Scorer]] = {
        "random": {"": lambda part: rng.random((len(part.users), n))},
        "popularity": {"": hybrid(index, weights={"popularity": 1.0})},
        "item-kNN": neighbours(met),
        "EASE": shallow(met),
        "SASRec": sasrec(validation, n, epochs),
        **{
            f"{name} alone": {"": hybrid(index, weights={name: 1.0})}
            for name in ("content", "keywords", "co_occurrence")
        },
        "hybrid, default weights": {"": hybrid(index, weights=DEFAULT_WEIGHTS)},
        "hybrid, reciprocal rank": {
            "": hybrid(index, weights=DEFAULT_WEIGHTS, fusion="reciprocal_rank")
        },
        OURS: {"": hybrid(index, weights=learned.weights)},
    }
    ranks, on_validation = {}, {}
    about: dict[str, dict[str, str | int | float]] = {}
    for name, tries in families.items():
        start = time.perf_counter()
        found = {key: validation.ndcg(scorer(validation)) for key, scorer in tries.items()}
        best = max(found, key=lambda key: found[key])
        ranks[name] = test.ranks(tries[best](test))
        on_validation[name] = found
        about[name] = {"chosen": best, "validation_ndcg@10": found[best]}
        sys.stderr.write(f"{name}: {time.perf_counter() - start:.0f} s\n")
    rows = compare_rows(
        {name: metrics_of(some) for name, some in ranks.items()},
        [(OURS, name) for name in ranks if name != OURS],
        seed=SEED,
        about=about,
    )
    counts = (
        f"{len(validation.users)} users, {n} items, {len(catalog.interactions)} interactions after "
        f"the 5-core; {len(split.train)} training rows."
    )
    weights = ", ".join(
        f"{s} {w:.2f} (p {learned.p_values[s]:.1g})" for s, w in learned.weights.items()
    )
    picks = "\n".join(
        f"- {name}: {best['chosen'] or 'no settings'}; nDCG@10 on validation "
        f"{best['validation_ndcg@10']:.4f}"
        for name, best in about.items()
    )
    text = (
        f"{counts} {PUBLISHED}\n\n{markdown_table(rows)}\n"
        f"Weights learned on the last of each user's training rows: {weights}.\n\n"
        f"Chosen on validation:\n\n{picks}\n"
    )
    document = {"counts": counts, "published": PUBLISHED, "learned": learned}
    return text, {**document, "validation": on_validation, "rows": rows}


def with_sequence(catalog: Catalog, split: Split, epochs: int) -> tuple[str, dict[str, Any]]:
    """A fusion trained on the same rows; its signal's weight is chosen on validation."""
    known = training_catalog(catalog, split)
    encoder = TextEncoder.from_pretrained()
    modalities = modalities_of(known, encoder, progress=True)
    config = replace(FusionConfig(), seed=SEED, epochs=epochs)
    trained = train_fusion(known, modalities, split.validation, config, progress=True)
    index = Index.build(known, encoder, modalities=modalities, insights={}, fusion=trained.fusion)
    validation, test = (part_of(catalog, split, index, which) for which in ("validation", "test"))
    learned = learn_weights(index, names=SIGNALS).weights
    tried = {weight: {**learned, "sequence": weight} for weight in SEQUENCE_WEIGHTS}
    found = {
        weight: validation.ndcg(hybrid(index, weights=weights)(validation))
        for weight, weights in tried.items()
    }
    best = max(found, key=lambda weight: found[weight])
    weights_of = {
        OURS: learned,
        "sequence alone": {"sequence": 1.0},
        "hybrid and sequence": tried[best],
    }
    ranks = {name: test.ranks(hybrid(index, weights=w)(test)) for name, w in weights_of.items()}
    rows = compare_rows(
        {name: metrics_of(some) for name, some in ranks.items()},
        [("hybrid and sequence", OURS)],
        seed=SEED,
    )
    on_validation = ", ".join(f"{weight:g}: {value:.4f}" for weight, value in found.items())
    text = (
        f"{markdown_table(rows)}\nWeight of the sequence signal by nDCG@10 on validation targets: "
        f"{on_validation}; chosen {best:g}. Epochs {len(trained.epochs)}, best "
        f"{trained.best_epoch}.\n"
    )
    return text, {
        "weights": {name: dict(weights) for name, weights in weights_of.items()},
        "validation_ndcg@10": found,
        "config": asdict(trained.config),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Rank, compare, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sequence", action="store_true", help="the trained fusion's signal")
    parser.add_argument("--epochs", type=int, help="at most, of what is trained")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args(arguments)
    catalog = read(options.data)
    split = leave_one_out(catalog)
    name = "full_ranking_sequence" if options.sequence else "full_ranking"
    make = with_sequence if options.sequence else against_peers
    usual = FusionConfig().epochs if options.sequence else Settings().epochs
    table, document = make(catalog, split, options.epochs or usual)
    command = f"python eval/full_ranking.py DATA{' --sequence' if options.sequence else ''}"
    protocol = " ".join((__doc__ or "").split("\n\n")[2].split())
    text = (
        f"# Ranking a whole catalogue: {options.data.name}\n\n`{command}`, seed {SEED}. "
        f"{protocol}\n\n{table}"
    )
    about = {"command": command, "protocol": protocol, "fingerprint": catalog.fingerprint}
    write_results(name, text, {**about, **document}, options.out)


if __name__ == "__main__":
    main()
