"""What a trained fusion adds to the retriever, in the protocol of `full_ranking.py`.

    python eval/full_ranking_sequence.py DATA        # DATA: the folder ml_latest_small

The fusion learns from training rows (titles and genres are all that its items have) and is stopped
by validation targets, which also choose the weight of its signal beside the learned weights of the
others. Writes results/full_ranking_sequence.json and .md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from full_ranking import RESULTS, SEED, hybrid, metrics_of, part_of, read

from llmrec import Index, TextEncoder
from llmrec.catalog import leave_one_out
from llmrec.evaluation import (
    compare_rows,
    json_document,
    markdown_table,
    training_catalog,
)
from llmrec.items import modalities_of
from llmrec.items.fusion import FusionConfig
from llmrec.retrieval import learn_weights
from llmrec.training import train_fusion

SIGNALS = ("content", "co_occurrence", "popularity", "keywords")
WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)


def main() -> None:
    """Train, choose a weight, rank, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    catalog = read(parser.parse_args().data)
    split = leave_one_out(catalog)
    known = training_catalog(catalog, split)
    encoder = TextEncoder.from_pretrained()
    modalities = modalities_of(known, encoder, progress=True)
    trained = train_fusion(
        known, modalities, split.validation, replace(FusionConfig(), seed=SEED), progress=True
    )
    index = Index.build(known, encoder, modalities=modalities, insights={}, fusion=trained.fusion)
    validation, test = (part_of(catalog, split, index, which) for which in ("validation", "test"))
    learned = learn_weights(index, names=SIGNALS).weights
    tried: Mapping[float, Mapping[str, float]] = {
        weight: {**learned, "sequence": weight} for weight in WEIGHTS
    }
    found = {
        weight: validation.ndcg(hybrid(index, weights=weights)(validation))
        for weight, weights in tried.items()
    }
    best = max(found, key=lambda weight: found[weight])
    rows = {
        "hybrid, learned weights": learned,
        "sequence alone": {"sequence": 1.0},
        "hybrid and sequence": tried[best],
    }
    ranks = {name: test.ranks(hybrid(index, weights=w)(test)) for name, w in rows.items()}
    compared = compare_rows(
        {name: metrics_of(some) for name, some in ranks.items()},
        [("hybrid and sequence", "hybrid, learned weights")],
        seed=SEED,
    )
    on_validation = ", ".join(f"{weight:g}: {value:.4f}" for weight, value in found.items())
    text = (
        "# A trained fusion beside the other signals: ml_latest_small\n\n"
        f"`python eval/full_ranking_sequence.py DATA`, seed {SEED}; the protocol of "
        f"full_ranking.md.\n\n{markdown_table(compared)}\n"
        f"Weight of the sequence signal by nDCG@10 on validation targets: {on_validation}; chosen "
        f"{best:g}. Epochs {len(trained.epochs)}, best {trained.best_epoch}.\n"
    )
    document = {
        "command": "python eval/full_ranking_sequence.py DATA",
        "weights": {name: dict(weights) for name, weights in rows.items()},
        "validation_ndcg@10": {f"{weight:g}": value for weight, value in found.items()},
        "config": asdict(trained.config),
        "fingerprint": catalog.fingerprint,
        **json.loads(json_document(compared)),
    }
    (RESULTS / "full_ranking_sequence.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "full_ranking_sequence.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
