"""What each part of a fusion is worth, on validation targets.

    python eval/ablate_fusion.py DATA [--seeds 2]        # DATA: movielens_mm, amazon_gift_cards

Leave-one-out by time; training rows alone are learned from, the test rows are not looked at. A row
is the default with one thing changed; its figure of a user is the mean over the seeds, and rows are
compared with the default user by user. The best epoch is chosen on the same targets in every row,
so all figures are a little high and the differences are what counts. Popularity, item-kNN and EASE
stand beside. Writes results/ablate_fusion_DATA.json and .md; a killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from data_sets import columns_of
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec import Catalog, TextEncoder
from llmrec.catalog import leave_one_out
from llmrec.evaluation import (
    compare_rows,
    json_document,
    markdown_table,
    ndcg_at,
    recall_at,
    target_ranks,
    training_catalog,
)
from llmrec.items import ModalityVectors, modalities_of
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.storage import content_digest
from llmrec.models import cache_folder
from llmrec.training import train_fusion
from llmrec.training.classic import judge_classic, train_classic
from llmrec.training.dataset import FusionDataset, build_dataset
from llmrec.training.train_fusion import validation_ranks

RESULTS = Path(__file__).parent / "results"
Ranks = NDArray[np.float64]  # [users]
DEFAULT = FusionConfig()


def variants() -> dict[str, FusionConfig]:
    """The default, and it with one thing changed."""
    changed: dict[str, dict[str, object]] = {
        "default": {},
        "without identities": {"identities": False},
        "identities from random": {"warm_start": False},
        "without identity dropout": {"identity_dropout": 0.0},
        "half of the identities dropped": {"identity_dropout": 0.5},
        "without modality dropout": {"modality_dropout": 0.0},
        "without the transformer": {"layers": 0},
        "in-batch negatives, corrected": {"negatives": "batch", "sampled": 512},
        "BPR instead of InfoNCE": {"infonce": 0.0, "bpr": 1.0},
        "with BPR": {"bpr": 0.3},
        "with association": {"association": 0.1},
        "with reconstruction": {"reconstruction": 0.1},
        "with FGM": {"adversarial": 0.1},
        "with crop": {"augmentation": ("crop",)},
        "with mask": {"augmentation": ("mask",)},
        "with reorder": {"augmentation": ("reorder",)},
        "three items ahead": {"horizon": 3},
    }
    return {name: replace(DEFAULT, **change) for name, change in changed.items()}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Data:
    """The material, and what it was gathered of."""

    training: Catalog
    modalities: Sequence[ModalityVectors]
    material: FusionDataset


def load(folder: Path) -> tuple[Data, dict[str, NDArray[np.float64]]]:
    """Read, split and embed; with scores of the simple baselines, [users, items]."""
    catalog = Catalog.from_folder(folder, columns=columns_of(folder))
    split = leave_one_out(catalog)
    training = training_catalog(catalog, split)
    modalities = modalities_of(training, TextEncoder.from_pretrained(), progress=True)
    material = build_dataset(training, modalities, split.validation, DEFAULT)
    return Data(training, modalities, material), baselines(material)


def baselines(material: FusionDataset) -> dict[str, NDArray[np.float64]]:
    """Popularity, item-kNN (cosine) and EASE (Steck 2019), the last two of recent items most."""
    n, every = len(material.item_ids), list(material.histories)
    met = np.zeros((len(every), n))
    for row, user in enumerate(every):
        met[row, material.histories[user].items] = 1
    counts, together = met.sum(axis=0), met.T @ met
    alike = together / np.sqrt(np.outer(counts, counts) + 1e-9)
    np.fill_diagonal(alike, 0)
    inverse = np.linalg.inv(together + 200 * np.eye(n))
    ease = -inverse / np.diag(inverse)
    np.fill_diagonal(ease, 0)
    asked = list(material.targets)
    recent = np.zeros((len(asked), n))
    for row, user in enumerate(asked):
        items = material.histories[user].items
        recent[row, items] = 0.5 ** (np.arange(len(items))[::-1] / 5)
    popular = np.tile(counts, (len(asked), 1))
    return {
        "popularity": popular,
        "item-kNN, recent": recent @ alike,
        "EASE, recent": recent @ ease,
    }


def rank(scores: NDArray[np.float64], material: FusionDataset) -> Ranks:
    """Each target's place among all items but the history's."""
    left = scores.copy()
    for row, user in enumerate(material.targets):
        left[row, material.histories[user].items] = -np.inf
    return target_ranks(left, np.array(list(material.targets.values())), seed=0)


def metrics(ranks: Sequence[Ranks]) -> dict[str, NDArray[np.float64]]:
    """A value a user, the mean over the seeds."""
    return {
        "recall@20": np.mean([recall_at(one, 20) for one in ranks], axis=0),
        "ndcg@10": np.mean([ndcg_at(one, 10) for one in ranks], axis=0),
    }


def trained_ranks(data: Data, config: FusionConfig, folder: Path) -> tuple[Ranks, float]:
    """Train one variant, or take what is kept of it: ranks and seconds."""
    settings = {**asdict(config), "augmentation": list(config.augmentation)}
    about = {"data": data.material.digest(), **settings}
    path = folder / f"{content_digest(about, {})[:16]}.json"
    if not path.exists():
        began = time.perf_counter()
        validation = {
            user: replace(data.training.user(user).history[0], item_id=data.material.item_ids[row])
            for user, row in data.material.targets.items()
        }
        made = train_fusion(data.training, data.modalities, validation, config, progress=True)
        ranks = validation_ranks(made.fusion.network, data.material, config)
        took = time.perf_counter() - began
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"ranks": ranks.tolist(), "seconds": took}))
    kept = json.loads(path.read_text())
    return np.array(kept["ranks"]), kept["seconds"]


def classic_figures(data: Data) -> Mapping[str, float]:
    """The classic recommender's own figures: each target against one item never met."""
    made = train_classic(data.training, data.modalities, epochs=5)
    held = {
        user: replace(data.training.user(user).history[0], item_id=data.material.item_ids[row])
        for user, row in data.material.targets.items()
    }
    return asdict(judge_classic(made, data.training, held))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    data, simple = load(given.data)
    rows = {name: metrics([rank(scores, data.material)]) for name, scores in simple.items()}
    about: dict[str, dict[str, str | int | float]] = {}
    classic = train_classic(data.training, data.modalities, epochs=5)
    scores = [classic.scores(data.material.histories[user].items) for user in data.material.targets]
    rows["classic head"] = metrics([rank(np.array(scores, dtype=np.float64), data.material)])
    about["classic head"] = dict(classic_figures(data))
    kept = cache_folder() / "eval" / "ablate_fusion"
    for name, config in tqdm(variants().items(), desc="Variants", disable=None):
        made = [
            trained_ranks(data, replace(config, seed=seed), kept) for seed in range(given.seeds)
        ]
        rows[name] = metrics([ranks for ranks, _ in made])
        about[name] = {
            "seconds": round(sum(seconds for _, seconds in made) / len(made)),
            "seeds": given.seeds,
        }
    pairs = [(name, "default") for name in rows if name != "default"]
    table = compare_rows(rows, pairs, seed=0, about=about)
    RESULTS.mkdir(exist_ok=True)
    names = ", ".join(f"{m.name} ({m.encoder}, {m.coverage:.0%})" for m in data.modalities)
    figures = ", ".join(f"{name} {value:.3f}" for name, value in about["classic head"].items())
    text = (
        "# Fusion, one thing changed at a time, on validation targets\n\n"
        f"`python eval/ablate_fusion.py {given.data.name} --seeds {given.seeds}`\n\n"
        f"Modalities: {names}. Mean over {given.seeds} seeds.\n\n{markdown_table(table)}\n"
        f"Classic head, each target against one item never met: {figures}.\n"
    )
    out = RESULTS / f"ablate_fusion_{given.data.name}"
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".json").write_text(json_document(table))
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
