"""What reranking with a language model adds on MovieLens, in two protocols.

    python eval/rerank_movielens.py DATA        # DATA: the folder movielens_mm

Leave-one-out by time; popularity is counted on training rows only. *Discrimination*: the target and
19 random unseen items, shuffled. *End to end*: the retriever's top 20, the target not guaranteed.
Fusion weights are fitted on validation targets in the same protocol; a language-model weight that
those users do not support (likelihood-ratio test, 5 %) is zero. Writes
results/rerank_movielens.json and .md. A killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from candidate_lists import (
    TOP,
    Asked,
    judged_scores,
    rank_metrics,
    retrieval_signals,
    retriever_of,
    sampled_lists,
)
from data_sets import KEPT, SEED, Held, Kept, kept_in, load, read, write_results
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec import Reranker, Retriever, TransformersModel, Usage
from llmrec.evaluation import (
    Row,
    compare_rows,
    end_to_end_users,
    markdown_table,
    ndcg_at,
    smallest_difference,
    target_ranks,
)
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from llmrec.retrieval import FittedWeights, SignalList, fit_weights, fuse

PARTS = ("validation", "test")
Table = NDArray[np.float64]  # [users, items]
Ranks = NDArray[np.float64]  # [users]


def judge_all(
    kept: Kept, reranker: Reranker, retriever: Retriever, asked: Sequence[Asked], what: str
) -> tuple[Table, Usage]:
    """The language model's scores of every list, and their cost."""
    scores, usage = [], Usage()
    for entry in tqdm(asked, desc=what, disable=None):
        some, took = judged_scores(kept, reranker, retriever, entry)
        scores.append(some)
        usage += took
    return np.array(scores), usage


def fit(signals: Mapping[str, Table], asked: Sequence[Asked]) -> FittedWeights:
    """Weights on validation lists; the language model's is zero unless they support it."""
    lists = [
        SignalList({name: table[row] for name, table in signals.items()}, entry.target)
        for row, entry in enumerate(asked)
    ]
    return fit_weights(lists, optional=[name for name in signals if name == "likelihood"])


def fused(signals: Mapping[str, Table], weights: Mapping[str, float]) -> Table:
    """The fused score of every list."""
    rows = range(len(next(iter(signals.values()))))
    return np.array([fuse({n: signals[n][row] for n in weights}, weights) for row in rows])


def compared(
    ranks: Mapping[str, Ranks], *pairs: tuple[str, str], recall: bool = False
) -> tuple[Row, ...]:
    """Rows of metrics with paired comparisons."""
    metrics = {name: rank_metrics(some, recall=recall) for name, some in ranks.items()}
    return compare_rows(metrics, pairs, seed=SEED)


def weights_text(fits: Mapping[str, FittedWeights]) -> str:
    """Fitted weights as lines."""
    lines = ["Weights fitted on validation users, with the p-value of leaving the signal out:", ""]
    for name, found in fits.items():
        parts = [f"{s} {w:.2f} (p {found.p_values[s]:.1g})" for s, w in found.weights.items()]
        lines.append(f"- {name}, {found.lists} lists: {', '.join(parts)}")
    return "\n".join(lines) + "\n"


def cost_text(name: str, usage: Usage, users: int) -> str:
    """Tokens a user as a line."""
    return (
        f"{name}: {usage.tokens_forwarded / users:.0f} tokens forwarded a user, "
        f"{usage.tokens_given / users:.0f} in whole prompts.\n"
    )


def discrimination(
    data: Held, likelihood: Reranker, pointwise: Reranker, kept: Kept, users: int | None, few: int
) -> tuple[str, dict[str, Any]]:
    """The target among 19 random unseen items."""
    retriever, content_only = retriever_of(data), retriever_of(data, 0.0)
    parts = {which: sampled_lists(data, which)[:users] for which in PARTS}
    signals, usage = {}, Usage()
    for which, asked in parts.items():
        scores, usage = judge_all(kept, likelihood, content_only, asked, which)
        signals[which] = {**retrieval_signals(retriever, asked), "likelihood": scores}
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
        "retriever (content + popularity)": test["score"],
        "LM alone (likelihood)": test["likelihood"],
        **{name: fused(test, found.weights) for name, found in fits.items()},
    }
    targets = np.array([entry.target for entry in asked])
    ranks = {name: target_ranks(table, targets, seed=SEED) for name, table in tables.items()}
    rows = compared(
        ranks,
        ("LM alone (likelihood)", "random"),
        ("LM fused over content", "content-only retriever"),
        ("LM fused over content + popularity", "retriever (content + popularity)"),
        ("LM fused over content + popularity", "content + popularity, fitted"),
    )
    some = slice(None, None, max(1, len(asked) // few))
    yes_no, cost = judge_all(kept, pointwise, content_only, asked[some], "pointwise")
    fewer = compared(
        {
            "random": ranks["random"][some],
            "LM alone (pointwise)": target_ranks(yes_no, targets[some], seed=SEED),
            "LM alone (likelihood)": ranks["LM alone (likelihood)"][some],
        },
        ("LM alone (pointwise)", "random"),
        ("LM alone (likelihood)", "LM alone (pointwise)"),
    )
    text = (
        "## Discrimination: the target and 19 random unseen items\n\n"
        f"{len(asked)} users{', all that qualify' if users is None else ''}.\n\n"
        f"{markdown_table(rows)}\n{weights_text(fits)}\n"
        f"{cost_text('Likelihood', usage, len(asked))}\n"
        f"### Yes or No against likelihood, {len(asked[some])} users\n\n"
        f"{markdown_table(fewer)}\n{cost_text('Pointwise', cost, len(asked[some]))}"
    )
    usages = {"likelihood": usage, "pointwise": cost}
    return text, {"rows": rows, "pointwise": fewer, "fits": fits, "usage": usages}


def end_to_end(
    data: Held, title: str, popularity: float, likelihood: Reranker, kept: Kept, limit: int | None
) -> tuple[str, dict[str, Any]]:
    """The retriever's own top 20; a target that is not among them cannot be won back."""
    retriever = retriever_of(data, popularity)
    names = ("content", "popularity") if popularity else ("content",)
    reached: dict[str, list[Asked]] = {}
    signals: dict[str, dict[str, Table]] = {}
    places: list[int] = []
    total = 0
    for which in PARTS:
        users = end_to_end_users(data.catalog, data.split, which=which)[:limit]  # type: ignore[arg-type]
        lists = []
        for held in tqdm(users, desc=f"{title}: retrieving", disable=None):
            ids = tuple(c.item_id for c in retriever.retrieve(held.user, TOP))
            found = Asked(held.user, ids, ids.index(held.target)) if held.target in ids else None
            lists.append(found)
        places, total = [row for row, found in enumerate(lists) if found], len(users)
        reached[which] = [found for found in lists if found]
        table = retrieval_signals(retriever, reached[which])
        scores, _ = judge_all(kept, likelihood, retriever, reached[which], f"{title}: {which}")
        signals[which] = {**{n: table[n] for n in names}, "likelihood": scores}
    fits = {
        "weights refitted": fit(
            {n: signals["validation"][n] for n in names}, reached["validation"]
        ),
        "LM fused": fit(signals["validation"], reached["validation"]),
    }
    targets = np.array([entry.target for entry in reached["test"]])
    ranks = {"retriever": 1.0 + targets}
    for name, weights in fits.items():
        ranks[name] = target_ranks(fused(signals["test"], weights.weights), targets, seed=SEED)
    everyone = {name: np.full(total, np.inf) for name in ranks}
    for name, some in ranks.items():
        everyone[name][places] = some
    pairs = [("LM fused", "retriever"), ("LM fused", "weights refitted")]
    on_reached = compared(ranks, *pairs)
    overall = compared(everyone, *pairs, recall=True)
    before = ndcg_at(ranks["retriever"], 10)
    difference = ndcg_at(ranks["LM fused"], 10) - before
    deviation = float(difference.std(ddof=1)) or float(before.std(ddof=1))
    detectable = smallest_difference(deviation, len(targets))
    text = (
        f"### The top {TOP} of the {title} retriever\n\n"
        f"The target was reached for {len(targets)} of {total} users. The smallest difference in "
        f"nDCG@10 that so many reached users show four times out of five: {detectable:.3f}.\n\n"
        f"On the reached users:\n\n{markdown_table(on_reached)}\n"
        f"Over all users:\n\n{markdown_table(overall)}\n{weights_text(fits)}"
    )
    return text, {
        "reached": len(targets),
        "users": total,
        "detectable": detectable,
        "on_reached": on_reached,
        "overall": overall,
        "fits": fits,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both protocols and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--template", help="likelihood template")
    parser.add_argument("--users", type=int, help="number of first users, for a trial")
    parser.add_argument("--pointwise-users", type=int, default=200)
    parser.add_argument("--kept", type=Path, default=KEPT / "rerank_movielens.jsonl")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    data = load(read(options.data))
    model = TransformersModel.from_pretrained(options.model, progress=True)
    likelihood = Reranker(model, data.index, template=options.template)
    pointwise = Reranker(model, data.index, strategy="pointwise")
    with kept_in(options.kept) as kept:
        first, document = discrimination(
            data, likelihood, pointwise, kept, options.users, options.pointwise_users
        )
        second = {
            title: end_to_end(data, title, popularity, likelihood, kept, options.users)
            for title, popularity in (("content-only", 0.0), ("content + popularity", 1.0))
        }
    command = "python eval/rerank_movielens.py DATA"
    text = (
        f"# Reranking {options.data.name} with {model.name}\n\n`{command}`, model revision "
        f"{model.revision[:12]}, {model.placement.dtype}, seed {SEED}. Intervals are 95 %, paired "
        f"by user; p-values are as found and corrected by Holm within a table.\n\n{first}\n"
        f"## End to end: the retriever's top {TOP}, the target not guaranteed\n\n"
        + "\n".join(part for part, _ in second.values())
    )
    about = {
        "command": command,
        "dataset": options.data.name,
        "fingerprint": data.catalog.fingerprint,
        "model": f"{model.name}@{model.revision}",
        "dtype": model.placement.dtype,
        "strategies": [likelihood.weights_key, pointwise.weights_key],
        "seed": SEED,
    }
    documents = {title: found for title, (_, found) in second.items()}
    everything = {"about": about, "discrimination": document, "end_to_end": documents}
    write_results("rerank_movielens", text, everything, options.out)


if __name__ == "__main__":
    main()
