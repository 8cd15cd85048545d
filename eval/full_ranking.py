"""Recommending from a whole catalogue after LlamaRec's protocol, ours beside its peers.

    python eval/full_ranking.py DATA        # DATA: the folder ml_latest_small

Yue et al., "LlamaRec: Two-stage recommendation using large language models for ranking" (2023),
whose retriever is LRURec: every rating is a meeting; users and items with fewer than five are left
out until none is left; each user's last row is the test, the one before it validation (ties by
the order of the file); all items the user has not met are ranked. Everything is learned from
training rows alone, before validation and test both; the test's history holds the validation row.
Settings are chosen by nDCG@10 on validation targets. Writes results/full_ranking.json and .md.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sasrec import SasRec, Settings, score, train

from llmrec import Catalog, Index, Interaction, Retriever, TextEncoder, User
from llmrec.catalog import ColumnMap, Split, TableMap, leave_one_out
from llmrec.evaluation import (
    compare_rows,
    end_to_end_users,
    json_document,
    markdown_table,
    ndcg_at,
    recall_at,
    target_ranks,
    training_catalog,
)
from llmrec.retrieval import DEFAULT_WEIGHTS, learn_weights

RESULTS = Path(__file__).parent / "results"
SEED = 0
PUBLISHED = (
    "As published (LlamaRec, table 2; other draws and machines, not paired): SASRec recall@10 "
    ".0993, nDCG@10 .0522; LRURec .1426, .0705; LlamaRec, reranked by Llama-2-7B, .1524, .0759."
)
Table = NDArray[np.float64]  # [users, items]


@dataclass(frozen=True)
class Part:
    """Who is served, what they met before, and what they met next."""

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
        """What settings are chosen by."""
        return float(ndcg_at(self.ranks(scores), 10).mean())


def metrics_of(ranks: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What every row shows, a value a user."""
    return {
        f"{what}@{k}": at(ranks, k)
        for k in (10, 20)
        for what, at in (("recall", recall_at), ("ndcg", ndcg_at))
    }


def read(folder: Path) -> Catalog:
    """The ratings as meetings, 5-core, and the films that are left."""
    columns = ColumnMap(
        items=TableMap(
            file="movies.csv", columns={"item_id": "movieId"}, separators={"genres": "|"}
        )
    )
    items = Catalog.from_folder(folder, columns=columns).items
    with (folder / "ratings.csv").open() as file:
        rows = [
            Interaction(row["userId"], row["movieId"], None, int(row["timestamp"]))
            for row in csv.DictReader(file)
        ]
    while True:
        users, films = Counter(row.user_id for row in rows), Counter(row.item_id for row in rows)
        kept = [row for row in rows if users[row.user_id] >= 5 and films[row.item_id] >= 5]
        if len(kept) == len(rows):
            left = {item_id: item for item_id, item in items.items() if item_id in films}
            return Catalog(left, tuple(rows))
        rows = kept


def part_of(catalog: Catalog, split: Split, index: Index, which: Any) -> Part:  # noqa: ANN401
    """A part of the split in rows of the index."""
    held = end_to_end_users(catalog, split, which=which)
    return Part(
        tuple(entry.user for entry in held),
        tuple(np.array([index.row(r.item_id) for r in entry.user.history]) for entry in held),
        np.array([index.row(entry.target) for entry in held]),
    )


def chosen(
    tries: Mapping[str, Callable[[Part], Table]], validation: Part
) -> tuple[str, Callable[[Part], Table], dict[str, float]]:
    """The try that is best on validation targets, with what each reached there."""
    found = {name: validation.ndcg(scorer(validation)) for name, scorer in tries.items()}
    best = max(found, key=lambda name: found[name])
    return best, tries[best], found


def weighted(part: Part, n_items: int, half_life: float) -> Table:
    """Each history as a vector over items, a row's weight halving with its age."""
    table = np.zeros((len(part.users), n_items))
    for row, history in enumerate(part.histories):
        table[row, history] = 0.5 ** (np.arange(len(history))[::-1] / half_life)
    return table


def linear(model: Table, half_life: float) -> Callable[[Part], Table]:
    """Scores by an item-to-item matrix."""
    return lambda part: weighted(part, len(model), half_life) @ model


def neighbours(met: Table) -> dict[str, Callable[[Part], Table]]:
    """Item-kNN: shrunk cosine (Sarwar et al. 2001)."""
    counts, tries = met.sum(axis=0), {}
    together = met.T @ met
    np.fill_diagonal(together, 0)
    for shrinkage in (0.0, 10.0, 50.0):
        likeness = together / (np.sqrt(np.outer(counts, counts)) + shrinkage + 1e-9)
        for k in (20, 100):
            least = np.partition(likeness, -k, axis=0)[-k]
            some = np.where(likeness >= least, likeness, 0.0)
            for half_life in (3.0, 10.0, np.inf):
                name = f"shrinkage {shrinkage:g}, {k} neighbours, half-life {half_life:g}"
                tries[name] = linear(some, half_life)
    return tries


def ease(met: Table) -> dict[str, Callable[[Part], Table]]:
    """EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", 2019)."""
    tries = {}
    for ridge in (50.0, 200.0, 500.0, 1000.0):
        inverse = np.linalg.inv(met.T @ met + ridge * np.eye(met.shape[1]))
        model = -inverse / np.diag(inverse)
        np.fill_diagonal(model, 0)
        for half_life in (1.0, 3.0, 10.0, np.inf):
            tries[f"ridge {ridge:g}, half-life {half_life:g}"] = linear(model, half_life)
    return tries


def hybrid(index: Index, **options: Any) -> Callable[[Part], Table]:  # noqa: ANN401
    """Ours: the retriever's own scores of all items."""
    retriever = Retriever(index, **options)
    return lambda part: np.array([retriever.scores(user) for user in part.users])


def _after(model: SasRec, settings: Settings, part: Part) -> Table:
    return score(model, part.histories, settings)


def sasrec(validation: Part, n_items: int) -> tuple[dict[str, Callable[[Part], Table]], str]:
    """SASRec under several settings, each stopped early on validation."""
    tries: dict[str, Callable[[Part], Table]] = {}
    notes = []
    for dimension, dropout in ((64, 0.2), (64, 0.5)):
        settings = Settings(dimension=dimension, dropout=dropout)
        model, value, epoch = train(validation.histories, n_items, settings, validation.ndcg, SEED)
        name = f"{dimension} dimensions, dropout {dropout}"
        notes.append(f"{name}: epoch {epoch}, {value:.4f}")
        sys.stderr.write(f"SASRec {notes[-1]}\n")
        tries[name] = partial(_after, model, settings)
    return tries, "; ".join(notes)


def main() -> None:
    """Rank, compare, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "full_ranking")
    options = parser.parse_args()
    catalog = read(options.data)
    split = leave_one_out(catalog)
    known = training_catalog(catalog, split)
    index = Index.build(
        known, TextEncoder.from_pretrained(), modalities=(), insights={}, progress=True
    )
    validation, test = (part_of(catalog, split, index, w) for w in ("validation", "test"))
    met = np.zeros((len(validation.users), len(index.items)))
    for row, history in enumerate(validation.histories):
        met[row, history] = 1.0
    rng = np.random.default_rng(SEED)
    n = len(index.items)
    learned = learn_weights(index, names=("content", "co_occurrence", "popularity", "keywords"))
    alone = ("content", "keywords", "co_occurrence")
    families: dict[str, Mapping[str, Callable[[Part], Table]]] = {
        "random": {"": lambda part: rng.random((len(part.users), n))},
        "popularity": {"": hybrid(index, weights={"popularity": 1.0})},
        "item-kNN": neighbours(met),
        "EASE": ease(met),
        "SASRec": sasrec(validation, n)[0],
        **{f"{name} alone": {"": hybrid(index, weights={name: 1.0})} for name in alone},
        "hybrid, default weights": {"": hybrid(index, weights=DEFAULT_WEIGHTS)},
        "hybrid, reciprocal rank": {
            "": hybrid(index, weights=DEFAULT_WEIGHTS, fusion="reciprocal_rank")
        },
        "hybrid, learned weights": {"": hybrid(index, weights=learned.weights)},
    }
    ranks, on_validation = {}, {}
    about: dict[str, dict[str, str | int | float]] = {}
    for name, tries in families.items():
        start = time.perf_counter()
        best, scorer, found = chosen(tries, validation)
        ranks[name] = test.ranks(scorer(test))
        on_validation[name] = found
        about[name] = {"chosen": best, "validation_ndcg@10": found[best]}
        sys.stderr.write(f"{name}: {time.perf_counter() - start:.0f} s\n")
    ours = "hybrid, learned weights"
    rows = compare_rows(
        {name: metrics_of(some) for name, some in ranks.items()},
        [(ours, name) for name in ranks if name != ours],
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
        f"- {name}: {best['chosen'] or 'nothing to choose'}; nDCG@10 on validation "
        f"{best['validation_ndcg@10']:.4f}"
        for name, best in about.items()
    )
    protocol = " ".join((__doc__ or "").split("\n\n")[2].split())
    text = (
        f"# Ranking a whole catalogue: {options.data.name}\n\n`python eval/full_ranking.py DATA`, "
        f"seed {SEED}. {protocol}\n\n{counts} {PUBLISHED}\n\n{markdown_table(rows)}\n"
        f"Weights learned on the last of each user's training rows: {weights}.\n\n"
        f"Chosen on validation:\n\n{picks}\n"
    )
    document = {
        "command": "python eval/full_ranking.py DATA",
        "protocol": protocol,
        "counts": counts,
        "published": PUBLISHED,
        "fingerprint": catalog.fingerprint,
        "versions": {name: version(name) for name in ("llmrec", "torch", "scipy")},
        "learned": asdict(learned),
        "validation": on_validation,
        **json.loads(json_document(rows)),
    }
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
