"""Choose how much each modality weighs in untrained joint vectors, on validation targets alone.

python eval/choose_modality_weights.py ../shared/data/movielens_mm
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from data_sets import read

from llmrec import Index, Retriever, TextEncoder
from llmrec.catalog import leave_one_out
from llmrec.evaluation import end_to_end_users, training_catalog
from llmrec.items import concatenate, modalities_of

RESULTS = Path(__file__).parent / "results" / "choose_modality_weights.json"
GRID = {"reviews": (0.0, 0.05, 0.1, 0.2, 0.4), "image": (0.0, 0.02, 0.05, 0.1, 0.2)}


def main() -> None:
    """Print and write recall@20 of the content signal for every weight of the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    folder = parser.parse_args().data
    catalog = read(folder)
    split = leave_one_out(catalog)
    training = training_catalog(catalog, split)
    asked = end_to_end_users(catalog, split, which="validation")
    modalities = modalities_of(training, TextEncoder.from_pretrained(), progress=True)
    rows = []
    for reviews, image in itertools.product(*GRID.values()):
        weights = {"text": 1.0, "reviews": reviews, "image": image}
        joint = concatenate(modalities, weights)
        index = Index(training.items, joint.vectors, training.interactions)
        retriever = Retriever(index, weights={"content": 1.0})
        ranks = []
        for person in asked:
            scores = retriever.signals(person.user)["content"].copy()
            target = index.row(person.target)
            seen = [index.row(row.item_id) for row in person.user.history]
            scores[[row for row in seen if row != target]] = -np.inf
            ranks.append(int((scores > scores[target]).sum()) + 1)
        found = np.array(ranks)
        gains = np.where(found <= 20, 1 / np.log2(found + 1), 0)
        rows.append({**weights, "recall@20": float((found <= 20).mean()), "ndcg@20": gains.mean()})
        print(rows[-1], flush=True)
    RESULTS.write_text(
        json.dumps(
            {
                "command": "python eval/choose_modality_weights.py DATA",
                "targets": "validation",
                "users": len(asked),
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
