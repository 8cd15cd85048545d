"""Ways to rank a hundred candidates with a language model: what each is worth and takes.

    python eval/many_candidates.py DATA [--users 30] [--model REF]

Discrimination among 100: the target and 99 random unseen items, shuffled, the language model's
scores alone. Lists go through windows, a tournament or a heapsort; a likelihood takes any number.
Writes results/many_candidates_DATA.md and .json. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from movielens import KeptScores, load, rank_metrics, retriever_of
from rerank_strategies import (
    RESULTS,
    SEED,
    baseline_ranks,
    judge,
    not_as_asked,
    sampled_lists,
    thinned,
)
from ways import Way, cost, cost_table, reranker_of

from llmrec import TransformersModel
from llmrec.evaluation import compare_rows, markdown_table
from llmrec.models import DEFAULT_LANGUAGE_MODEL, cache_folder

CANDIDATES = 100
WAYS = (
    Way("likelihood", "likelihood"),
    Way("listwise", "listwise"),
    Way("tournament", "tournament"),
    Way("setwise", "setwise"),
)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    options = parser.parse_args()
    name = options.data.name
    data = load(options.data)
    model = TransformersModel.from_pretrained(options.model, progress=True)
    kept = KeptScores(cache_folder() / "eval" / f"many_candidates_{name}.jsonl")
    retriever = retriever_of(data)
    asked = thinned(sampled_lists(data, CANDIDATES), options.users)
    ranks = baseline_ranks(retriever, asked)
    costs, faults = [], {}
    for way in WAYS:
        found = judge(kept, reranker_of(way, model, data), retriever, asked, way.name)
        ranks[way.name] = found.ranks
        costs.append(cost(way.name, found.usage, len(asked)))
        faults[way.name] = dict(found.faults)
    pairs = [(way.name, "random") for way in WAYS]
    rows = compare_rows(
        {name: rank_metrics(some) for name, some in ranks.items()}, pairs, seed=SEED
    )
    command = f"python eval/many_candidates.py {name} --users {options.users} --model {model.name}"
    text = (
        f"# {CANDIDATES} candidates of {name} with {model.name}\n\n`{command}`, revision "
        f"{model.revision[:12]}, {model.placement.dtype}, seed {SEED}. Intervals are 95 %, paired "
        f"by user.\n\n{markdown_table(rows)}\n{not_as_asked(faults)}\n{cost_table(costs)}"
    )
    document = {"command": command, "rows": list(map(asdict, rows)), "costs": costs}
    out = RESULTS / f"many_candidates_{name}"
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".json").write_text(json.dumps({**document, "faults": faults}, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
