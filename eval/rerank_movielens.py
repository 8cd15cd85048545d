"""What reranking with a language model is worth on MovieLens, in two protocols.

    python eval/rerank_movielens.py DATA        # DATA: the folder movielens_mm

Leave-one-out by time; popularity is counted on training rows only. *Discrimination*: the target and
19 random unseen items, shuffled. *End to end*: the retriever's top 20, the target not guaranteed.
Fusion weights are fitted on validation targets in the same protocol; a language-model weight that
those users do not support (likelihood-ratio test, 5 %) is zero. Writes
results/rerank_movielens.json and .md. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from movielens import (
    TOP,
    Asked,
    KeptScores,
    MovieLens,
    cost_line,
    load,
    rank_metrics,
    retrieval_signals,
    weights_table,
)
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec import Reranker, Retriever, TransformersModel, Usage
from llmrec.evaluation import (
    compare_rows,
    discrimination_lists,
    end_to_end_users,
    markdown_table,
    ndcg_at,
    smallest_difference,
    target_ranks,
)
from llmrec.models import DEFAULT_LANGUAGE_MODEL, cache_folder
from llmrec.retrieval import FittedWeights, SignalList, fit_weights, fuse

RESULTS = Path(__file__).parent / "results"
SEED = 0
Table = NDArray[np.float64]  # [users, items]


def retriever_of(data: MovieLens, popularity: float) -> Retriever:
    """Content and so much popularity: what these tables are about."""
    return Retriever(data.index, weights={"content": 1.0, "popularity": popularity})


def judge_all(
    kept: KeptScores, reranker: Reranker, retriever: Retriever, asked: Sequence[Asked], what: str
) -> tuple[Table, Usage]:
    """The language model's scores of every list, and what they took."""
    scores, usage = [], Usage()
    for entry in tqdm(asked, desc=what, disable=None):
        some, took = kept.judge(reranker, retriever, entry)
        scores.append(some)
        usage += took
    return np.array(scores), usage


def fit(signals: Mapping[str, Table], asked: Sequence[Asked]) -> FittedWeights:
    """Weights on validation lists; the language model has to earn its own."""
    lists = [
        SignalList({name: table[row] for name, table in signals.items()}, entry.target)
        for row, entry in enumerate(asked)
    ]
    return fit_weights(lists, optional=[name for name in signals if name == "likelihood"])


def fused(signals: Mapping[str, Table], weights: Mapping[str, float]) -> Table:
    """The fused score of every list."""
    rows = range(len(next(iter(signals.values()))))
    return np.array([fuse({n: t[row] for n, t in signals.items()}, weights) for row in rows])


def discrimination(
    data: MovieLens,
    reranker: Reranker,
    pointwise: Reranker,
    kept: KeptScores,
    limit: int | None,
    pointwise_users: int,
) -> tuple[str, dict[str, Any]]:
    """The target among 19 random unseen items."""
    retriever, content_only = retriever_of(data, 1.0), retriever_of(data, 0.0)
    parts: dict[str, list[Asked]] = {}
    for which in ("validation", "test"):
        lists = discrimination_lists(data.catalog, data.split, which=which, seed=SEED)[:limit]
        parts[which] = [Asked(c.user, c.item_ids, c.item_ids.index(c.target)) for c in lists]
    signals, usages, own = {}, {}, {}
    for which, asked in parts.items():
        table = retrieval_signals(retriever, asked)
        own[which] = table.pop("score")
        scores, usages[which] = judge_all(kept, reranker, content_only, asked, which)
        signals[which] = {**table, "likelihood": scores}
    test, asked = signals["test"], parts["test"]
    sets = {
        "LM fused over content": ("content", "likelihood"),
        "content + popularity, fitted": ("content", "popularity"),
        "LM fused over content + popularity": ("content", "popularity", "likelihood"),
    }
    fits = {
        name: fit({s: signals["validation"][s] for s in chosen}, parts["validation"])
        for name, chosen in sets.items()
    }
    tables = {
        "random": np.zeros_like(test["content"]),
        "popularity": test["popularity"],
        "content-only retriever": test["content"],
        "retriever (content + popularity)": own["test"],
        "LM alone (likelihood)": test["likelihood"],
        **{
            name: fused({s: test[s] for s in chosen}, fits[name].weights)
            for name, chosen in sets.items()
        },
    }
    targets = np.array([entry.target for entry in asked])
    metrics = {
        name: rank_metrics(target_ranks(t, targets, seed=SEED)) for name, t in tables.items()
    }
    rows = compare_rows(
        metrics,
        [
            ("LM alone (likelihood)", "random"),
            ("LM fused over content", "content-only retriever"),
            ("LM fused over content + popularity", "retriever (content + popularity)"),
            ("LM fused over content + popularity", "content + popularity, fitted"),
        ],
        seed=SEED,
    )
    some = slice(None, None, max(1, len(asked) // pointwise_users))
    yes_no, cost = judge_all(kept, pointwise, content_only, asked[some], "pointwise")
    few = compare_rows(
        {
            "random": {n: v[some] for n, v in metrics["random"].items()},
            "LM alone (pointwise)": rank_metrics(target_ranks(yes_no, targets[some], seed=SEED)),
            "LM alone (likelihood)": {
                n: v[some] for n, v in metrics["LM alone (likelihood)"].items()
            },
        },
        [("LM alone (pointwise)", "random"), ("LM alone (likelihood)", "LM alone (pointwise)")],
        seed=SEED,
    )
    text = (
        "## Discrimination: the target and 19 random unseen items\n\n"
        f"{len(asked)} users{', all that qualify' if limit is None else ''}.\n\n"
        f"{markdown_table(rows)}\n"
        f"{weights_table(fits)}\n{cost_line('Likelihood', usages['test'], len(asked))}"
        f"\n\n### Yes or No against likelihood, {len(asked[some])} users\n\n"
        f"{markdown_table(few)}\n{cost_line('Pointwise', cost, len(asked[some]))}\n"
    )
    document = {
        "rows": [asdict(row) for row in rows],
        "pointwise": [asdict(row) for row in few],
        "fits": {name: asdict(found) for name, found in fits.items()},
        "usage": {"likelihood": asdict(usages["test"]), "pointwise": asdict(cost)},
    }
    return text, document


def end_to_end(
    data: MovieLens, reranker: Reranker, kept: KeptScores, limit: int | None
) -> tuple[str, dict[str, Any]]:
    """The retriever's own top 20; what it did not reach cannot be won back."""
    texts, documents = [], dict[str, Any]()
    for title, weight in (("content-only", 0.0), ("content + popularity", 1.0)):
        retriever = retriever_of(data, weight)
        names = ("content",) if weight == 0 else ("content", "popularity")
        reached: dict[str, list[Asked]] = {}
        places: dict[str, list[int]] = {}
        for which in ("validation", "test"):
            reached[which], places[which] = [], []
            users = end_to_end_users(data.catalog, data.split, which=which)[:limit]
            for row, held in enumerate(tqdm(users, desc=f"{title}: retrieving", disable=None)):
                ids = tuple(c.item_id for c in retriever.retrieve(held.user, TOP))
                if held.target in ids:
                    reached[which].append(Asked(held.user, ids, ids.index(held.target)))
                    places[which].append(row)
        signals = {}
        for which, asked in reached.items():
            table = retrieval_signals(retriever, asked)
            scores, _ = judge_all(kept, reranker, retriever, asked, f"{title}: {which}")
            signals[which] = {**{n: table[n] for n in names}, "likelihood": scores}
        fits = {
            "weights refitted": fit(
                {n: signals["validation"][n] for n in names}, reached["validation"]
            ),
            "LM fused": fit(signals["validation"], reached["validation"]),
        }
        asked = reached["test"]
        targets = np.array([entry.target for entry in asked])
        ranks = {"retriever": 1.0 + targets}
        for name, found in fits.items():
            chosen = {signal: signals["test"][signal] for signal in found.weights}
            ranks[name] = target_ranks(fused(chosen, found.weights), targets, seed=SEED)
        total = len(users)
        everyone = {name: np.full(total, np.inf) for name in ranks}
        for name, some in ranks.items():
            everyone[name][places["test"]] = some
        pairs = [("LM fused", "retriever"), ("LM fused", "weights refitted")]
        on_reached = compare_rows(
            {name: rank_metrics(some) for name, some in ranks.items()}, pairs, seed=SEED
        )
        overall = compare_rows(
            {name: rank_metrics(some, recall=True) for name, some in everyone.items()},
            pairs,
            seed=SEED,
        )
        before, after = ranks["retriever"], ranks["LM fused"]
        difference = ndcg_at(after, 10) - ndcg_at(before, 10)
        detectable = smallest_difference(
            float(difference.std(ddof=1)) or float(ndcg_at(before, 10).std(ddof=1)), len(asked)
        )
        texts.append(
            f"### The top {TOP} of the {title} retriever\n\n"
            f"The target was reached for {len(asked)} of {total} users. The smallest difference in "
            f"nDCG@10 that so many reached users show four times out of five: {detectable:.3f}.\n\n"
            f"On the reached users:\n\n{markdown_table(on_reached)}\n"
            f"Over all users:\n\n{markdown_table(overall)}\n"
            f"{weights_table(fits)}"
        )
        documents[title] = {
            "reached": len(asked),
            "users": total,
            "detectable": detectable,
            "on_reached": [asdict(row) for row in on_reached],
            "overall": [asdict(row) for row in overall],
            "fits": {name: asdict(found) for name, found in fits.items()},
        }
    heading = f"## End to end: the retriever's top {TOP}, the target not guaranteed\n\n"
    return heading + "\n".join(texts), documents


def main() -> None:
    """Run both protocols and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--template", default=None, help="likelihood template")
    parser.add_argument("--users", type=int, help="the first so many users only, for a trial")
    parser.add_argument("--pointwise-users", type=int, default=200)
    parser.add_argument("--scores", type=Path, default=cache_folder() / "eval" / "movielens.jsonl")
    parser.add_argument("--out", type=Path, default=RESULTS / "rerank_movielens")
    options = parser.parse_args()
    data = load(options.data)
    model = TransformersModel.from_pretrained(options.model, progress=True)
    kept = KeptScores(options.scores)
    reranker = Reranker(model, data.index, template=options.template)
    pointwise = Reranker(model, data.index, strategy="pointwise")
    first, first_document = discrimination(
        data, reranker, pointwise, kept, options.users, options.pointwise_users
    )
    second, second_document = end_to_end(data, reranker, kept, options.users)
    about = {
        "command": " ".join(["python eval/rerank_movielens.py DATA", *sys.argv[2:]]),
        "dataset": options.data.name,
        "fingerprint": data.catalog.fingerprint,
        "model": f"{model.name}@{model.revision}",
        "dtype": model.placement.dtype,
        "strategies": [reranker.weights_key, pointwise.weights_key],
        "seed": SEED,
        "versions": {n: version(n) for n in ("llmrec", "torch", "transformers")},
        "machine": platform.machine(),
    }
    document = {"about": about, "discrimination": first_document, "end_to_end": second_document}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    heading = (
        f"# Reranking MovieLens with {model.name}\n\n`{about['command']}`, model revision "
        f"{model.revision[:12]}, {model.placement.dtype}, seed {SEED}. Intervals are 95 %, paired "
        "by user; p-values are given as found and corrected by Holm within a table.\n\n"
    )
    options.out.with_suffix(".md").write_text(f"{heading}{first}\n{second}")
    sys.stdout.write(heading + first + "\n" + second)


if __name__ == "__main__":
    main()
