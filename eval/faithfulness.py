"""Whether the evidence of an explanation is what moved the score, and what it costs to find out.

    python eval/faithfulness.py DATA [--users 200] [--history 5] [--model REF]

The first of 20 retrieved candidates is explained, for users drawn at random, ranked by likelihood
and the default gate; units are the last HISTORY items of the history. The score without every
subset of them is known, so that orders of the units are compared exactly:

- deletion: mean fall of the score while units are left out one after the other, the first of the
  order first; insertion: mean rise while they are added to an empty history. Higher is better.
  Of the fused score in standard deviations of its list, and of the model's log p(title | history).
- exhaustive removal: the mean fall by a unit over all subsets of the others (its Shapley value).
- counterfactual size: units left out until the item's score is below that of the fifth best of the
  others, and, for removal, until a new ranking of the whole list has it behind the fifth place.

A planted taste is a made-up model that likes one unit most; users and items are those of DATA.
Intervals are 95 %, paired by user. Rows are logged by user: a killed run resumes. Writes
results/faithfulness_DATA.md and .json.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_sets import KEPT, SEED, kept_in, load, read, write_results
from numpy.typing import NDArray
from scipy.stats import spearmanr
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmrec import Reranker, TransformersModel
from llmrec.catalog import liked
from llmrec.evaluation import compare
from llmrec.explaining.rarity import Rarity
from llmrec.models import ContinuationRequest, LogProbs, load_model, resolve_model
from llmrec.prompting import Budget, context_of, field_text
from llmrec.records import Candidate, Prompt, Usage
from llmrec.reranking import Likelihood, Request
from llmrec.reranking.contrast import smallest_removal
from llmrec.reranking.fused_list import FusedList
from llmrec.reranking.removal import Removal, find_reasons
from llmrec.reranking.strategy import question_about, writer_of
from llmrec.retrieval import Index, Retriever

Values = NDArray[np.float64]
CANDIDATES, TOP, COSTED, LEAST = 20, 5, 4, 3
MODEL = "smollm2-135m-instruct"
METHODS = ("removal", "exhaustive", "gradient x input", "attention", "popularity", "recency")
RANDOM, TARGETS = "random", ("fused", "model")


@dataclass(frozen=True)
class Reader:
    """Gradients and attention of a language model, for one title after a history."""

    model: TransformersModel
    strategy: Likelihood
    budget: Budget
    eager: PreTrainedModel

    def salience(self, request: Request, item_id: str, units: Sequence[str]) -> dict[str, Values]:
        """Gradient x input and attention of each unit of the history, for log p(title)."""
        question = question_about(request.context, request.user, [item_id], self.budget)
        writer = writer_of(self.strategy.template, question, self.model, room=self.budget.title + 1)
        prompt = writer.without_candidate().prompts[0]
        title = field_text(request.context.items[item_id].name, self.budget.title, self.model)
        before, after = ContinuationRequest(prompt, title, end=True).split()
        (start,) = self.model.encode_prompts([before])
        tokens = torch.tensor([[*start, *self.model.encode(after)]])
        embedded = self.eager.get_input_embeddings()(tokens).detach().requires_grad_()
        found = self.eager(inputs_embeds=embedded, output_attentions=True)
        read = slice(len(start) - 1, -1)
        scored = found.logits[0, read].log_softmax(-1)
        scored[torch.arange(len(scored)), tokens[0, len(start) :]].sum().backward()
        gradient = (embedded.grad * embedded)[0].sum(-1).detach()
        attention = torch.stack(found.attentions)[:, 0].mean((0, 1))[read].sum(0).detach()
        spans = self.spans(before.text or "", request, units)
        return {
            name: np.array([sum(float(table[a:b].sum()) for a, b in some) for some in spans])
            for name, table in (("gradient x input", gradient), ("attention", attention))
        }

    def spans(
        self, text: str, request: Request, units: Sequence[str]
    ) -> list[list[tuple[int, int]]]:
        """The tokens of each unit's titles in a plain prompt."""
        history = request.user.history
        ids = [history[int(unit.partition(":")[2]) - 1].item_id for unit in units]
        spans: list[list[tuple[int, int]]] = [[] for _ in units]
        at = 0
        for row in history[-self.budget.history_items :]:
            title = field_text(
                request.context.items[row.item_id].name, self.budget.title, self.model
            )
            first = text.index(title, at)
            at = first + len(title)
            ends = (text[:first].rstrip(" "), text[:at])
            low, high = self.model.count_tokens([Prompt("", "", end) for end in ends])
            spans[ids.index(row.item_id)].append((low, high))
        return spans


def tables(
    reranker: Reranker, request: Request, retriever: Retriever, item_id: str, units: Sequence[str]
) -> dict[str, Any]:
    """The score with each subset of the units: bit i keeps unit i; and what it is compared with."""
    removal = Removal(reranker, request, retriever)
    n = len(units)
    gone = [[u for i, u in enumerate(units) if not mask >> i & 1] for mask in range(2**n)]
    changes = [removal.left_out(item_id, some) for some in gone]
    whole, *answers = removal.judged([removal.change(request.context, request.user), *changes])
    fused = FusedList.of(reranker, request, whole)
    falls = [
        sum(removal.parts(fused, item_id, some, answer).values())
        for some, answer in zip(gone, answers, strict=True)
    ]
    (name,) = (strategy.name for strategy in reranker.strategies)
    others = sorted((fused.score(other) for other in fused.ids if other != item_id), reverse=True)
    return {
        "fused": [fused.score(item_id) - fall for fall in falls],
        "model": [float(answer[name].parts["conditional"][0]) for answer in answers],
        "slope": fused.slope(f"{name}.conditional", item_id),
        "fifth": others[TOP - 1],
    }


def shapley(table: Values) -> Values:
    """The mean fall by each unit over all subsets of the others, each size weighing the same."""
    n = len(table).bit_length() - 1
    values = np.zeros(n)
    for mask in range(len(table)):
        for i in range(n):
            if not mask >> i & 1:
                share = 1 / (n * comb(n - 1, mask.bit_count()))
                values[i] += share * (table[mask | 1 << i] - table[mask])
    return values


def curves(table: Values, order: Sequence[int]) -> tuple[float, float]:
    """Deletion and insertion of an order of units."""
    n = len(order)
    kept = [sum(1 << i for i in order[k:]) for k in range(1, n)]
    added = [sum(1 << i for i in order[:k]) for k in range(1, n)]
    return float(np.mean(table[-1] - table[kept])), float(np.mean(table[added] - table[0]))


def at_random(table: Values) -> tuple[float, float]:
    """Deletion and insertion of all orders, on average: by size the mean over subsets."""
    n = len(table).bit_length() - 1
    sizes = np.array([mask.bit_count() for mask in range(len(table))])
    means = np.array([table[sizes == size].mean() for size in range(1, n)])
    return float(np.mean(table[-1] - means)), float(np.mean(means - table[0]))


def explained(
    reranker: Reranker, reader: Reader, retriever: Retriever, request: Request, rarity: Rarity
) -> dict[str, Any]:
    """What is known of one user's first item: a row of the log."""
    began = time.perf_counter()
    (ranking,) = reranker.rank_many([request])
    item_id = ranking.item_ids[0]
    (reasons,) = find_reasons(
        reranker, request, [item_id], retriever=retriever, rarity=rarity, pairs=0
    )
    units = [unit for unit in reasons.parts if unit.startswith("history:")]
    past = [request.user.history[int(unit.partition(":")[2]) - 1].item_id for unit in units]
    salience = reader.salience(request, item_id, units)
    drop = smallest_removal(Removal(reranker, request, retriever), reasons, TOP)
    return {
        "item_id": item_id,
        **tables(reranker, request, retriever, item_id, units),
        "weights": [reasons.weights[unit] for unit in units],
        **{name: values.tolist() for name, values in salience.items()},
        "popularity": [request.context.popularity(each) for each in past],
        "noise": reasons.noise,
        "reasons": len(reasons.telling),
        "carried": next(iter(reasons.carried), ""),
        "drop": None if drop is None else len(drop.units),
        "seconds": time.perf_counter() - began,
    }


def costs(
    reranker: Reranker, request: Request, retriever: Retriever, rarity: Rarity
) -> dict[str, Any]:
    """Tokens and seconds of the default budget, for the first item and for the first ten."""
    (ranking,) = reranker.rank_many([request])
    found = {}
    for n in (1, 10):
        began = time.perf_counter()
        reasons = find_reasons(
            reranker, request, ranking.item_ids[:n], retriever=retriever, rarity=rarity
        )
        usage = sum((each.usage for each in reasons), start=Usage())
        found[str(n)] = {
            "given": usage.tokens_given / n,
            "forwarded": usage.tokens_forwarded / n,
            "prompts": usage.prompts / n,
            "seconds": (time.perf_counter() - began) / n,
        }
    return {"history": len(request.user.history), **found}


@dataclass(frozen=True)
class Planted:
    """A made-up model whose log p(title) is a sum over the titles of the history in the prompt.

    ``likes`` has the summand of each title; every prompt adds a normal draw of its own, as wording
    does.
    """

    likes: Mapping[str, float]
    wording: float
    seed: int
    name: str = "planted"
    revision: str = "0"
    max_length: int = 100_000
    max_rows: int = 1024
    special_tokens: tuple[str, ...] = ()

    def session(self) -> Planted:
        """Keeps nothing between calls."""
        return self

    def encode(self, text: str) -> list[int]:
        """A token a word."""
        return [zlib.crc32(word.encode()) for word in text.split()]

    def cut(self, text: str, n_tokens: int) -> str:
        """The first words."""
        return " ".join(text.split()[:n_tokens])

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Words of each prompt."""
        return [len(self.encode(prompt.text or "")) for prompt in prompts]

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """The sum, and the draw of the prompt."""
        values = []
        for request in requests:
            text = request.prompt.text or ""
            draw = np.random.default_rng([self.seed, zlib.crc32(text.encode())])
            # Titles in capitals or quotation marks are the same titles.
            liked = (v for title, v in self.likes.items() if title.casefold() in text.casefold())
            values.append(np.array([sum(liked) - 10 + self.wording * draw.standard_normal()]))
        return LogProbs(tuple(values), Usage(), tokens=(1,) * len(values))


def planted(request: Request, seed: int) -> dict[str, Any]:
    """Whether the reason comes first where one is planted, and whether none is named elsewhere.

    The reason adds 1, each other title 0 to 0.5, a wording 0.1 (standard deviation). It is one of
    the liked items that a prompt shows: no explanation gives another as a reason.
    """
    draws, user = np.random.default_rng([SEED, seed]), request.user
    rows = {row.item_id: place for place, row in enumerate(user.history, 1)}
    titles = {place: request.context.items[item_id].name for item_id, place in rows.items()}
    told = liked(user.history, user.neutral_rating)
    older = len(told) - Budget().history_items
    possible = [place for place in titles if told[place - 1] and place > older]
    if not possible:
        return {"counts": False}
    reason = int(draws.choice(possible))
    likes = {title: float(draws.uniform(0, 0.5)) for title in titles.values()}
    likes[titles[reason]] = 1.0
    item_id = request.candidates[0].item_id
    alone = replace(request, candidates=(Candidate(item_id, float("nan")),))
    found, first = {}, []
    for name, some in (("liked", likes), ("nothing", {})):
        model = Planted(some, 0.1, seed)
        (reasons,) = find_reasons(Reranker(model), alone, [item_id], rarity=Rarity({}, 1), pairs=0)
        found[name] = [fact.unit for fact in reasons.telling]
        first.append(next(iter(reasons.weights)))
    clear = [title.casefold() for title in titles.values()]
    distinct = sum(titles[reason].casefold() in other for other in clear) == 1
    return {
        "first": first[0] == f"history:{reason}",
        "reason": found["liked"][:1] == [f"history:{reason}"],
        "refused": not found["nothing"],
        "counts": distinct,
    }


def orders(row: Mapping[str, Any], target: str) -> dict[str, list[int]]:
    """The units of a row by method, the first reason first."""
    table = np.array(row[target])
    n = len(table).bit_length() - 1
    alone = [float(table[-1] - table[len(table) - 1 - (1 << i)]) for i in range(n)]
    sign = np.sign(row["slope"]) if target == "fused" else 1.0
    values = {
        "removal": np.array(row["weights"] if target == "fused" else alone),
        "exhaustive": shapley(table),
        "gradient x input": sign * np.array(row["gradient x input"]),
        "attention": np.array(row["attention"]),
        "popularity": np.array(row["popularity"]),
        "recency": np.arange(n),
    }
    return {name: np.argsort(-each, kind="stable").tolist() for name, each in values.items()}


def figures(rows: Sequence[Mapping[str, Any]], target: str) -> dict[str, Any]:
    """Deletion, insertion, agreement and counterfactual size by method, over users."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"deletion": [], "insertion": [], "first": [], "agreement": [], "size": []}
        for name in (*METHODS, RANDOM)
    }
    for row in rows:
        table = np.array(row[target])
        every = orders(row, target)
        for name, order in every.items():
            one = found[name]
            deletion, insertion = curves(table, order)
            one["deletion"].append(deletion)
            one["insertion"].append(insertion)
            one["first"].append(float(order[0] == every["exhaustive"][0]))
            ranks, truth = np.argsort(order), np.argsort(every["exhaustive"])
            one["agreement"].append(float(spearmanr(ranks, truth).statistic))
            fused = np.array(row["fused"])
            kept = [sum(1 << i for i in order[k:]) for k in range(1, len(order) + 1)]
            below = np.flatnonzero(fused[kept] < row["fifth"])
            one["size"].append(float(below[0] + 1) if len(below) else np.nan)
        deletion, insertion = at_random(table)
        found[RANDOM]["deletion"].append(deletion)
        found[RANDOM]["insertion"].append(insertion)
        found[RANDOM]["first"].append(1 / len(every["removal"]))
        found[RANDOM]["agreement"].append(0.0)
        found[RANDOM]["size"].append(np.nan)
    return {
        name: {
            **{key: float(np.mean(one[key])) for key in ("deletion", "insertion", "first")},
            "agreement": float(np.nanmean(one["agreement"])),
            "dropped": float(np.mean(~np.isnan(one["size"]))),
            "size": float(np.nanmean(one["size"])) if not np.isnan(one["size"]).all() else None,
            "against removal": {
                key: compare(np.array(found["removal"][key]), np.array(one[key]), seed=SEED)
                for key in ("deletion", "insertion")
                if name != "removal"
            },
        }
        for name, one in found.items()
    }


HEADS = (
    "order of units",
    "deletion",
    "insertion",
    "first unit as exhaustive",
    "Spearman with exhaustive",
    "dropped",
    "units until dropped",
)
COSTS = (
    "items explained together",
    "tokens, each prompt by itself",
    "tokens forwarded",
    "ratio",
    "prompts",
    "seconds",
)
TITLES = {"fused": "The fused score", "model": "The model's log p(title | history)"}


def text_of(found: Mapping[str, Any]) -> str:
    """The tables as markdown."""
    units = f"the last {found['history']} items of their history, {LEAST} or more, are the units"
    lines = [f"{found['users']} users; {units}. {found['model']}.\n"]
    for target in TARGETS:
        lines += [
            f"\n## {TITLES[target]}\n",
            "In brackets: removal less the row, with its 95 % interval.\n",
            f"| {' | '.join(HEADS)} |",
            f"|---|{'---:|' * (len(HEADS) - 1)}",
            *(f"| {n} | {cells_of(n, row)} |" for n, row in found["methods"][target].items()),
        ]
    real, hidden = found["counterfactual"], found["planted"]
    size = "–" if real["size"] is None else f"{real['size']:.2f}"
    real_part = f"{percent(real['dropped'])} of the items leave the first {TOP}"
    none = f"{percent(hidden['refused'])} of the explanations name no reason"
    lines += [
        "\n## Counterfactual, planted taste, refusal\n",
        f"- Ranked again without the units, {real_part}, after {size} units on average.",
        f"- The planted reason has the largest weight for {percent(hidden['first'])} of the users;",
        f"  an explanation names it first for {percent(hidden['reason'])}.",
        f"- Where nothing is planted, {none}.",
        f"- {percent(found['refused'])} of the real explanations name no reason; their scores",
        f"  rest on {found['carried']}.",
        "\n## Cost of an explanation\n",
        f"| {' | '.join(COSTS)} |",
        f"|---|{'---:|' * (len(COSTS) - 1)}",
    ]
    for n, cost in found["costs"].items():
        tokens = f"{cost['given']:,.0f} | {cost['forwarded']:,.0f}"
        rest = f"{cost['prompts']:.0f} | {cost['seconds']:.1f}"
        lines.append(f"| {n} | {tokens} | {cost['given'] / cost['forwarded']:.1f} | {rest} |")
    return "\n".join(lines) + "\n"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def cells_of(name: str, row: Mapping[str, Any]) -> str:
    """The cells of a method."""
    cells = []
    for key in ("deletion", "insertion"):
        other = row["against removal"].get(key)
        beside = (
            f" ({other.difference:+.3f} [{other.low:+.3f}, {other.high:+.3f}])" if other else ""
        )
        cells.append(f"{row[key]:.3f}{beside}")
    cells += [percent(row["first"]), f"{row['agreement']:.2f}"]
    cells += ["–"] if name == RANDOM else [percent(row["dropped"])]
    return " | ".join([*cells, "–" if row["size"] is None else f"{row['size']:.2f}"])


def kept_index(data: Path, folder: Path) -> Index:
    """The index of training rows and texts, made where it is missing."""
    if not folder.exists():
        load(read(data)).index.save(folder)
    return Index.open(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Explain the users that the log lacks, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a data set")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--history", type=int, default=5, help="units of a user")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--runs", type=Path, default=KEPT / "faithfulness", help="index and rows")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    index = kept_index(options.data, options.runs / options.data.name)
    model = load_model(options.model)
    if not isinstance(model, TransformersModel):
        raise SystemExit("--model takes a model of transformers: gradients are read.")
    eager = AutoModelForCausalLM.from_pretrained(
        resolve_model(options.model).path, attn_implementation="eager", dtype=torch.float32
    )
    strategy, budget = Likelihood(), Budget(history_items=options.history)
    reader = Reader(model, strategy, budget, eager)
    context, retriever = context_of(index), Retriever(index)
    rarity = Rarity.of(index.items.values())
    short = Reranker(model, index, strategy=strategy, budget=budget)
    whole = Reranker(model, index, strategy=strategy)
    known = [u for u in index.user_ids if len(set_of_items(index, u)) >= LEAST]
    drawn = np.random.default_rng(SEED).permutation(len(known))[: options.users]
    users = [known[place] for place in drawn]
    name = f"{options.data.name}_{Path(options.model).name.lower()}_{options.history}"
    log = options.runs / f"{name}.jsonl"
    rows, hidden, costed = [], [], []
    with kept_in(log) as kept:
        for number, user_id in enumerate(tqdm(users, desc="Explaining", mininterval=5)):
            user = index.user(user_id)
            request = Request(user, retriever.retrieve(user, CANDIDATES), context)
            explain = partial(explained, short, reader, retriever, request, rarity)
            rows.append(kept(user_id, explain))
            hidden.append(kept(f"planted {user_id}", partial(planted, request, number)))
            if number < COSTED:
                cost = partial(costs, whole, request, retriever, rarity)
                costed.append(kept(f"cost {user_id}", cost))
    drops = [row["drop"] for row in rows if row["drop"] is not None]
    refused = [row["carried"] for row in rows if not row["reasons"]]
    counted = [row for row in hidden if row["counts"]]
    found = {
        "users": len(rows),
        "history": options.history,
        "model": f"{model.name}, {strategy.template.name}",
        "methods": {target: figures(rows, target) for target in TARGETS},
        "counterfactual": {
            "dropped": len(drops) / len(rows),
            "size": float(np.mean(drops)) if drops else None,
        },
        "planted": {
            "users": len(counted),
            "first": float(np.mean([row["first"] for row in counted])),
            "reason": float(np.mean([row["reason"] for row in counted])),
            "refused": float(np.mean([row["refused"] for row in counted])),
        },
        "refused": len(refused) / len(rows),
        "carried": ", ".join(f"{n} ({refused.count(n)})" for n in dict.fromkeys(refused)) or "–",
        "costs": {
            n: {
                key: float(np.mean([cost[n][key] for cost in costed]))
                for key in ("given", "forwarded", "prompts", "seconds")
            }
            for n in ("1", "10")
        },
        "seconds": float(np.mean([row["seconds"] for row in rows])),
    }
    command = f"python eval/faithfulness.py {options.data.name} --users {options.users}"
    if options.history != parser.get_default("history"):
        command += f" --history {options.history}"
    text = f"# Faithfulness on {options.data.name}\n\n`{command}`\n\n{text_of(found)}"
    document = {"command": command, **found}
    write_results(f"faithfulness_{options.data.name}", text, document, options.out)


def set_of_items(index: Index, user_id: str) -> set[str]:
    """The distinct items of a history."""
    return {row.item_id for row in index.user(user_id).history}


if __name__ == "__main__":
    main()
