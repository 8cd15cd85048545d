"""What stands in for the candidates where calibration asks a list's label prior: how each works.

    python eval/choose_calibration.py DATA [--model REF] [--users 24]

One-token listwise. Users are in none of the discrimination tables of rerank_strategies.py. Each
user's list is asked with the target at five places, and the prior with stand-ins of several kinds;
a kind is good where the five means of nDCG@10 stand close together (order is taken off) and none is
near 0 (what is taken off is not itself an order). Writes results/choose_calibration_DATA_MODEL.md;
what was asked is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from movielens import Asked, MovieLens, load
from numpy.typing import NDArray
from order_bias import PLACES, at_place
from rerank_strategies import MOST, SEED, thinned
from tqdm import tqdm

from llmrec import Item, TransformersModel, User
from llmrec.evaluation import discrimination_lists, ndcg_at, target_ranks
from llmrec.models import DEFAULT_LANGUAGE_MODEL, LabelRequest, cache_folder
from llmrec.prompting import Budget, context_of
from llmrec.reranking import Listwise
from llmrec.reranking.groups import BLANK, LabelledGroups
from llmrec.reranking.strategy import question_about

RESULTS = Path(__file__).parent / "results"
N = 20
WORDS = ("Unknown", "Another one")
DRAWS = 5
"""Seed of the users, and of the items that stand in."""

# Which of the answers, after those to the five lists, are averaged to a prior.
KINDS: dict[str, Sequence[int]] = {
    "nothing": (),
    "N/A": (0,),
    "N/A, Unknown and Another one": (0, 1, 2),
    "one item in all places": (3,),
    "the same, three items": (3, 4, 5),
    "other items": (6,),
    "the same, two lists": (6, 7),
    "the same, four lists": (6, 7, 8, 9),
}


def unreported(data: MovieLens, n: int, draws: np.random.Generator) -> list[Asked]:
    """Lists of users that rerank_strategies.py leaves out."""
    lists = discrimination_lists(data.catalog, data.split, seed=SEED)
    every = [Asked(c.user, c.item_ids, c.item_ids.index(c.target)) for c in lists]
    reported = {entry.user.user_id for entry in thinned(every, MOST)}
    rest = [entry for entry in every if entry.user.user_id not in reported]
    return [rest[place] for place in draws.permutation(len(rest))[:n]]


def answers(
    data: MovieLens, model: TransformersModel, asked: Sequence[Asked], draws: np.random.Generator
) -> NDArray[np.float64]:
    """Log-probabilities of the labels, [users, lists and priors, labels]."""
    index, ids = data.index, data.index.item_ids

    def request(user: User, items: Sequence[Item]) -> LabelRequest:
        question = question_about(context_of(index), user, (), Budget())
        groups = LabelledGroups(
            Listwise().template, replace(question, candidates=tuple(items)), model
        )
        return LabelRequest(groups.prompts([range(N)])[0], groups.labels(N))

    table = []
    for entry in tqdm(asked, desc="Asking", unit="user", disable=None):
        lists = [[index.items[i] for i in at_place(entry, p).item_ids] for p in PLACES]
        lists += [[BLANK] * N, *([Item("\0word", word)] * N for word in WORDS)]
        lists += [[index.items[ids[i]]] * N for i in draws.integers(len(ids), size=3)]
        lists += [
            [index.items[ids[i]] for i in draws.choice(len(ids), N, replace=False)]
            for _ in range(4)
        ]
        found = model.session().label_log_probs([request(entry.user, items) for items in lists])
        table.append(np.stack(found.values))
    return np.array(table)


def row(name: str, table: NDArray[np.float64], kind: Sequence[int]) -> str:
    """Means of nDCG@10 by the target's place, once the prior of a kind is taken off."""
    placed, priors = table[:, : len(PLACES)], table[:, len(PLACES) :]
    prior = priors[:, list(kind)].mean(axis=1, keepdims=True) if kind else 0.0
    targets = np.array([place - 1 for place in PLACES])
    ranks = [target_ranks(scores, targets, seed=u) for u, scores in enumerate(placed - prior)]
    means = ndcg_at(np.array(ranks).ravel(), 10).reshape(len(table), -1).mean(axis=0)
    figures = " | ".join(f"{mean:.3f}" for mean in means)
    return f"| {name} | {figures} | {np.ptp(means):.3f} | {means.mean():.3f} |"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--users", type=int, default=24)
    options = parser.parse_args()
    name, draws = options.data.name, np.random.default_rng(DRAWS)
    data = load(options.data)
    model = TransformersModel.from_pretrained(options.model, progress=True)
    asked = unreported(data, options.users, draws)
    out = f"choose_calibration_{name}_{Path(model.name).name.lower()}"
    kept = cache_folder() / "eval" / f"{out}_{options.users}.npy"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        np.save(kept, answers(data, model, asked, draws))
    table = np.load(kept)
    heads = " | ".join(f"at {place}" for place in PLACES)
    about = (
        f"`python eval/choose_calibration.py {name} --model {options.model} --users "
        f"{options.users}`: nDCG@10 of one-token listwise by the target's place in the list, the "
        "prior of what stands in taken off."
    )
    lines = [
        f"# Stand-ins for candidates, {name}, {Path(model.name).name}",
        f"\n{about}\n",
        f"| stand-ins | {heads} | spread | mean |",
        "|---|" + "---:|" * (len(PLACES) + 2),
        *(row(kind, table, places) for kind, places in KINDS.items()),
    ]
    text = "\n".join(lines)
    (RESULTS / f"{out}.md").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
