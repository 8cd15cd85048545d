"""Which wording a strategy takes where none is named, chosen on validation targets.

    python eval/choose_templates.py DATA --strategy listwise [--users 60]      # DATA: movielens_mm

Leave-one-out by time, the target and 19 random unseen items, the language model's scores alone;
test rows are not looked at. Adds to results/choose_templates.md and keeps scores as they come.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from movielens import Asked, KeptScores, load, retriever_of
from rerank_strategies import SEED, judge, thinned

from llmrec import Reranker, TransformersModel
from llmrec.evaluation import discrimination_lists, ndcg_at
from llmrec.models import DEFAULT_LANGUAGE_MODEL, cache_folder
from llmrec.prompting.template import template_names
from llmrec.reranking import make_strategy

RESULTS = Path(__file__).parent / "results" / "choose_templates.md"
HEADING = (
    "# Default templates, chosen on validation targets of movielens_mm\n\n"
    "`python eval/choose_templates.py DATA --strategy NAME`\n\n"
    "| template | model | users | nDCG@10 | standard error |\n|---|---|---:|---:|---:|\n"
)


def main() -> None:
    """Ask every wording, print and add."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    options = parser.parse_args()
    data = load(options.data)
    lists = discrimination_lists(data.catalog, data.split, which="validation", seed=SEED)
    every = [Asked(c.user, c.item_ids, c.item_ids.index(c.target)) for c in lists]
    asked = thinned(every, options.users)
    model = TransformersModel.from_pretrained(options.model, progress=True)
    kept = KeptScores(cache_folder() / "eval" / "choose_templates.jsonl")
    retriever = retriever_of(data)
    if not RESULTS.exists():
        RESULTS.write_text(HEADING)
    for name in template_names(options.strategy):
        strategy = make_strategy(options.strategy, name, calibrate=options.calibrate)
        reranker = Reranker(model, data.index, strategy=strategy)
        values = ndcg_at(judge(kept, reranker, retriever, asked, name).ranks, 10)
        error = values.std(ddof=1) / np.sqrt(len(values))
        label = f"{name}{', calibrated' if options.calibrate else ''}"
        line = f"| {label} | {model.name} | {len(values)} | {values.mean():.3f} | {error:.3f} |\n"
        with RESULTS.open("a") as file:
            file.write(line)
        sys.stdout.write(line)


if __name__ == "__main__":
    main()
