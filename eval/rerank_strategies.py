"""Every way to rank with a language model, with and without calibration: quality, cost, order bias.

    python eval/rerank_strategies.py DATA [--model REF]      # DATA: movielens_mm, amazon_gift_cards

Leave-one-out; *discrimination* (the target and 19 random unseen items, shuffled) and *end to end*
(the retriever's top 20 where it holds the target), the language model's scores alone. Strategies
that ask much are asked about fewer users; each row says how many, and rows are compared on the
users they share. *Order bias*: the same lists with the target at the places 1, 5, 10, 15 and 20,
and how far apart the five figures stand. Writes results/rerank_strategies_DATA_MODEL.json and .md.
A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from movielens import (
    TOP,
    Asked,
    KeptScores,
    MovieLens,
    load,
    rank_metrics,
    retrieval_signals,
    retriever_of,
)
from numpy.typing import NDArray
from order_bias import order_bias
from remembering import Remembering
from tqdm import tqdm
from ways import WAYS, Way, cost, cost_table, reranker_of, users_of

from llmrec import Reranker, Retriever, TransformersModel, Usage
from llmrec.evaluation import (
    Row,
    compare_rows,
    discrimination_lists,
    end_to_end_users,
    markdown_table,
    target_ranks,
)
from llmrec.models import DEFAULT_LANGUAGE_MODEL, LanguageModel, cache_folder

RESULTS = Path(__file__).parent / "results"
SEED = 0
MOST = 300


@dataclass(frozen=True)
class Judged:
    """A way's ranks of the targets it was asked about, and what that took."""

    ranks: NDArray[np.float64]
    usage: Usage
    faults: Counter[str]

    @property
    def users(self) -> int:
        """Of how many users it was asked."""
        return len(self.ranks)


def judge(
    kept: KeptScores, reranker: Reranker, retriever: Retriever, asked: Sequence[Asked], what: str
) -> Judged:
    """Ask about each list; an unjudged target ranks among the other unjudged by chance."""
    table, usage, faults = [], Usage(), Counter[str]()
    for entry in tqdm(asked, desc=what, disable=None):
        judged = kept.judgement(reranker, retriever, entry)
        table.append(np.nan_to_num(judged.scores, nan=-np.inf))
        usage += judged.usage
        faults.update(judged.fallbacks)
    targets = np.array([entry.target for entry in asked])
    return Judged(target_ranks(np.array(table), targets, seed=SEED), usage, faults)


def measured_cost(
    data: MovieLens, model: TransformersModel, way: Way, asked: Sequence[Asked]
) -> dict[str, object]:
    """What a way takes when it is asked by itself, of a few users."""
    reranker = reranker_of(way, model, data)
    retriever = retriever_of(data)
    usage = Usage()
    for entry in tqdm(asked, desc=f"Cost: {way.name}", disable=None):
        candidates = retriever.candidates(entry.user, entry.item_ids)
        (judged,) = reranker.judge(entry.user, candidates).values()
        usage += judged.usage
    return cost(way.name, usage, len(asked))


def discrimination(data: MovieLens) -> list[Asked]:
    """The target among 19 random unseen items, for 300 users drawn evenly."""
    return thinned(sampled_lists(data, TOP), MOST)


def sampled_lists(data: MovieLens, candidates: int) -> list[Asked]:
    """The target among random unseen items, for every user."""
    lists = discrimination_lists(data.catalog, data.split, negatives=candidates - 1, seed=SEED)
    return [Asked(c.user, c.item_ids, c.item_ids.index(c.target)) for c in lists]


def drawn(asked: Sequence[Asked], n: int) -> list[int]:
    """Rows of n of the lists, by chance: whatever others there are, fewer are among more."""
    chance = [hashlib.sha256(entry.user.user_id.encode()).digest() for entry in asked]
    return sorted(sorted(range(len(asked)), key=chance.__getitem__)[:n])


def end_to_end(data: MovieLens, retriever: Retriever) -> list[Asked]:
    """The retriever's top 20, where it holds the target."""
    reached = []
    for held in tqdm(end_to_end_users(data.catalog, data.split), desc="Retrieving", disable=None):
        ids = tuple(c.item_id for c in retriever.retrieve(held.user, TOP))
        if held.target in ids:
            reached.append(Asked(held.user, ids, ids.index(held.target)))
    return reached


def thinned(asked: Sequence[Asked], n: int) -> list[Asked]:
    """At most n of the lists, evenly drawn."""
    places = np.linspace(0, len(asked) - 1, min(n, len(asked))).round().astype(int)
    return [asked[place] for place in places]


def baseline_ranks(retriever: Retriever, asked: Sequence[Asked]) -> dict[str, NDArray[np.float64]]:
    """The targets' ranks by chance (one drawn order), by popularity and by the retriever."""
    simple = retrieval_signals(retriever, asked)
    targets = np.array([entry.target for entry in asked])
    tables = {
        "random": np.zeros_like(simple["score"]),
        "popularity": simple["popularity"],
        "retriever": simple["score"],
    }
    return {name: target_ranks(table, targets, seed=SEED) for name, table in tables.items()}


def not_as_asked(faults: Mapping[str, Mapping[str, int]]) -> str:
    """What did not go as asked, by way, as a line."""
    counted = "; ".join(f"{name}: {dict(found)}" for name, found in faults.items() if found)
    return f"Not as asked: {counted or 'nothing'}.\n"


def quality(
    data: MovieLens,
    model: Remembering,
    kept: KeptScores,
    asked: Sequence[Asked],
    few: int,
    title: str,
    without: Sequence[str],
) -> tuple[str, dict[str, object]]:
    """Every way on the same lists, beside random, popularity and the retriever."""
    retriever = retriever_of(data)
    ranks = baseline_ranks(retriever, asked)
    rows_of: dict[str, list[int]] = {}
    faults, rows = dict[str, dict[str, int]](), list[Row]()
    shared: dict[int, dict[str, NDArray[np.float64]]] = {}
    for way in (way for way in WAYS if way.name not in without):
        rows_of[way.name] = drawn(asked, users_of(way, len(asked), few))
        some = [asked[row] for row in rows_of[way.name]]
        found = judge(
            kept,
            reranker_of(way, cast("LanguageModel", model), data),
            retriever,
            some,
            f"{title}: {way.name}",
        )
        shared.setdefault(found.users, {})[way.name] = found.ranks
        faults[way.name] = dict(found.faults)
    for _, ways in sorted(shared.items(), reverse=True):
        places = rows_of[next(iter(ways))]
        everything = {**{name: some[places] for name, some in ranks.items()}, **ways}
        pairs = [(name, "random") for name in ways]
        pairs += [(f"{name}, calibrated", name) for name in ways if f"{name}, calibrated" in ways]
        metrics = {name: rank_metrics(some) for name, some in everything.items()}
        rows += compare_rows(metrics, pairs, seed=SEED)
    return quality_text(title, rows, faults), {"rows": list(map(asdict, rows)), "faults": faults}


def quality_text(title: str, rows: Sequence[Row], faults: Mapping[str, Mapping[str, int]]) -> str:
    """A table for each number of users."""
    numbers = sorted({row.users for row in rows}, reverse=True)
    tables = [markdown_table([row for row in rows if row.users == n]) for n in numbers]
    return f"## {title}\n\n" + "\n".join(tables) + f"\n{not_as_asked(faults)}"


def options_of() -> argparse.ArgumentParser:
    """What the script takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--users", type=int, default=MOST)
    parser.add_argument("--few", type=int, default=30, help="users of the ways that ask most")
    parser.add_argument("--without", action="append", default=[], help="ways that are left out")
    parser.add_argument("--bias-users", type=int, default=100)
    parser.add_argument("--reached", type=int, default=MOST, help="users end to end, at most")
    parser.add_argument("--cost-users", type=int, default=5)
    parser.add_argument("--scores", type=Path, help="where scores are kept as they come")
    return parser


def main() -> None:
    """Run it."""
    options = options_of().parse_args()
    name = options.data.name
    data = load(options.data)
    model = TransformersModel.from_pretrained(options.model, progress=True)
    remembering = Remembering(model)
    out = f"rerank_strategies_{name}_{Path(model.name).name.lower()}"
    kept = KeptScores(options.scores or cache_folder() / "eval" / f"{out}.jsonl")
    most = discrimination(data)
    lists = [most[row] for row in drawn(most, options.users)]
    retriever = retriever_of(data)
    reached = end_to_end(data, retriever) if options.reached else []
    found = len(reached)
    reached = [reached[row] for row in drawn(reached, options.reached)]
    biased = {
        way.name: reranker_of(way, cast("LanguageModel", remembering), data)
        for way in WAYS
        if way.biased
    }
    # What is asked first is known first, whenever the run is stopped.
    bias = order_bias(kept, biased, retriever, thinned(most, options.bias_users))
    parts = {
        "quality": quality(
            data, remembering, kept, lists, options.few, "Discrimination", options.without
        ),
        "bias": bias,
    }
    if reached:
        some = "" if len(reached) == found else f", {len(reached)} of {found} by chance"
        title = f"End to end, users the retriever reached{some}"
        parts["reached"] = quality(
            data, remembering, kept, reached, options.few, title, options.without
        )
    costs = [
        measured_cost(data, model, way, thinned(lists, options.cost_users))
        for way in WAYS
        if way.name not in options.without
    ]
    command = (
        f"python eval/rerank_strategies.py {name} --model {model.name} --users {options.users} "
        f"--few {options.few} --reached {options.reached} --bias-users {options.bias_users}"
        + "".join(f" --without '{name}'" for name in options.without)
    )
    heading = (
        f"# Strategies on {name} with {model.name}\n\n`{command}`, revision {model.revision[:12]}, "
        f"{model.placement.dtype}, seed {SEED}. Intervals are 95 %, paired by user; p as found and "
        "corrected by Holm over a table.\n\n"
    )
    text = heading + "\n".join([*(part for part, _ in parts.values()), cost_table(costs)])
    document = {
        "about": {"command": command, "fingerprint": data.catalog.fingerprint},
        "costs": costs,
        **{key: found for key, (_, found) in parts.items()},
    }
    (RESULTS / f"{out}.md").write_text(text)
    (RESULTS / f"{out}.json").write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
