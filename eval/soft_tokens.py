"""Compare what the retriever knows as soft tokens, as words in the prompt, and left out.

    python eval/soft_tokens.py LISTS.npz DATA FUSION [--model REF] [--ways none words vectors]
        [--training 400] [--tests 300] [--epochs 2]

``ranking_lists.py`` makes LISTS.npz, with a fusion in shifts_4_4 of its folder of checkpoints. That
fusion and all counts know only events before each user's fourth last one: lists of that event are
for training, lists of the last two events for validation and test. The prompt is that of the
pointwise template, with two soft tokens before each title; the model is frozen. The loss is a
softmax over the candidates of a list, whose score weighs the log-odds, the retriever, popularity
and the product of the last two:

- ``none``: the two tokens, the same before every title;
- ``words``: the same, and a fact: how many users of the nearest history item also chose this one;
- ``vectors``: the same, plus projections of the fusion's vectors of the user and of the item.

A gate over the log-odds is fitted on validation lists and judged on test lists, of those whose
target is among the first 20. Writes soft_tokens_DATA.md and .json; a killed run resumes after the
last finished way.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from data_sets import (
    KEPT,
    SEED,
    TEST,
    TRAINING,
    VALIDATION,
    command_of,
    kept_in,
    read,
    write_results,
)
from fields_under_gate import CONTROL, met_together, table
from frozen_head import known_features
from gate_table import GATE, lists_of, on_tests
from gated_lists import Lists, beside, list_writer, loaded, read_lists, user_before
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from llmrec import TextEncoder, TransformersModel
from llmrec.evaluation import ndcg_at, target_ranks
from llmrec.items import modalities_of
from llmrec.items.fusion import Fusion
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from llmrec.prompting import load_template
from llmrec.records import Insight
from llmrec.training.packed_rows import Segment, segment_scores

Way = Literal["none", "words", "vectors"]
WAYS: tuple[Way, ...] = ("none", "words", "vectors")
TEMPLATE = "pointwise/whole-item"
TOP = 20
SHIFT = 4
"""Training lists are of the event so many from the user's end."""
CHOSEN_ON = 100
"""Validation lists that choose the epoch."""
DRAWN = 7
"""Candidates of a training list beside its target."""
LISTS = 8
"""Lists of a step."""


class SoftTokens(nn.Module):
    """An embedding whose ids from the vocabulary's end on are the vectors of items and users.

    Args:
        base: The model's own embedding.
        vectors: [items + users, d]; all zero for ``none`` and ``words``.
        items: How many of them are of items.
    """

    def __init__(self, base: nn.Embedding, vectors: Tensor, items: int) -> None:
        super().__init__()
        self.base, self.first, self.items = base, base.num_embeddings, items
        self.vectors = vectors
        mean = base.weight.detach().float().mean(dim=0)
        self.constants = nn.Parameter(mean.repeat(2, 1))
        self.projections = nn.Parameter(mean.new_zeros(2, vectors.shape[1], len(mean)))

    def forward(self, ids: Tensor) -> Tensor:
        """[rows, tokens, hidden]."""
        soft = ids >= self.first
        embedded: Tensor = self.base(ids.masked_fill(soft, 0))
        places = ids[soft] - self.first
        kinds, vectors = (places >= self.items).long(), self.vectors[places]
        either = torch.einsum("nd,kdh->nkh", vectors, self.projections) + self.constants
        own = either[torch.arange(len(places)), kinds]
        return embedded.masked_scatter(soft[..., None], own.to(embedded.dtype))


@dataclass(frozen=True)
class Told:
    """Lists in the prompts of one way; ``segment`` writes some candidates of a list."""

    lists: Lists
    segment: Callable[[int, NDArray[np.int64]], Segment]
    known: Tensor


def met_before(lists: Lists) -> dict[str, frozenset[str]]:
    """Users who met an item before the training events, by item."""
    starts, items = lists["train_starts"], lists["train_items"]
    met = defaultdict(set)
    for user, (start, end) in enumerate(pairwise(starts)):
        for item in items[start : max(start, end - 2)].tolist():  # events 4 and 3 from the end
            met[str(item)].add(str(user))
    return {item: frozenset(users) for item, users in met.items()}


def told(lists: Lists, model: TransformersModel, way: Way, first: int) -> Told:
    """Segments of lists, with the ids of two soft tokens before each candidate's own tokens."""
    writer = list_writer(lists, load_template(TEMPLATE), model)
    met, items = met_before(lists), len(lists["titles"])
    context = replace(writer.context, met_by=lambda item_id: met.get(item_id, frozenset()))

    def segment(row: int, candidates: NDArray[np.int64]) -> Segment:
        asked, user = writer, user_before(lists, row)
        if way == "words":
            past = [one.item_id for one in user.history]
            asked = replace(
                writer,
                context=replace(
                    context,
                    insight=lambda item_id: Insight(facts=(met_together(context, past, item_id),)),
                ),
            )
        made = asked(user, candidates)
        answers = tuple(
            np.concatenate([np.array([first + items + row, first + item], np.int32), answer])
            for item, answer in zip(candidates.tolist(), made.answers, strict=True)
        )
        return replace(made, answers=answers)

    known = known_features(lists["candidates"], lists["retrieval"], lists["popularity"])
    return Told(lists, segment, torch.from_numpy(known).float().to(model.model.device))


def vectors_of(lists: Lists, data: Path, folder: Path) -> Tensor:
    """The fusion's vectors of all items, then of the users of all lists, standardised."""
    catalog, encoder = read(data), TextEncoder.from_pretrained()
    fusion = Fusion.open(folder)
    ids = list(catalog.items)
    items = fusion.item_vectors(modalities_of(catalog, encoder, progress=True), ids)
    starts, past = lists["history_starts"], lists["history_items"]
    users = [user_before(lists, row) for row in range(len(lists["target"]))]
    histories = [
        items[past[start:end][-len(user.history) :]]
        for user, (start, end) in zip(users, pairwise(starts), strict=True)
    ]
    made = fusion.user_vectors(histories, users)
    parts = [(some - some.mean(axis=0)) / (some.std(axis=0) + 1e-6) for some in (items, made)]
    return torch.from_numpy(np.concatenate(parts))


def trained(
    given: Told,
    model: TransformersModel,
    soft: SoftTokens,
    rows: dict[int, NDArray[np.int64]],
    options: argparse.Namespace,
) -> nn.Linear:
    """Train soft tokens and the weights of what is known; the best epoch is kept."""
    torch.manual_seed(SEED)
    draw = np.random.default_rng(SEED)
    weights = nn.Linear(4, 1, bias=False).to(model.model.device)
    nn.init.zeros_(weights.weight)
    with torch.no_grad():
        weights.weight[0, :2] = torch.tensor([0.1, 1.0])
    optimizer = torch.optim.AdamW(
        [
            {"params": [soft.constants, soft.projections], "lr": options.learning_rate},
            {"params": list(weights.parameters()), "lr": 10 * options.learning_rate},
        ],
        weight_decay=0.01,
    )
    candidates, target = given.lists["candidates"], given.lists["target"]
    chosen_on = rows[VALIDATION][:CHOSEN_ON]

    def state() -> list[Tensor]:
        learned = (soft.constants, soft.projections, weights.weight)
        return [each.detach().clone() for each in learned]

    def score_of(odds: Tensor, known: Tensor) -> Tensor:
        scores: Tensor = weights(torch.cat([odds[:, None], known], dim=1))[:, 0]
        return scores

    def value() -> float:
        whole = np.full((len(chosen_on), TOP), -np.inf)
        for place, row in enumerate(chosen_on.tolist()):
            odds = log_odds(given, model, row)
            score = score_of(odds, given.known[row, : len(odds)])
            whole[place, : len(odds)] = score.detach().cpu().numpy()
        places = np.argmax(candidates[chosen_on] == target[chosen_on][:, None], axis=1)
        return float(ndcg_at(target_ranks(whole, places, seed=SEED), 10).mean())

    first = torch.zeros(1, dtype=torch.long, device=model.model.device)
    best, kept = value(), state()
    sys.stderr.write(f"untrained: validation nDCG@10 {best:.4f}\n")
    for epoch in range(1, options.epochs + 1):
        order = draw.permutation(rows[TRAINING])
        for number, row in enumerate(tqdm(order.tolist(), desc="Training", mininterval=5), 1):
            others = np.flatnonzero((candidates[row] >= 0) & (candidates[row] != target[row]))
            held = np.flatnonzero(candidates[row] == target[row])
            some = np.append(held, draw.permutation(others)[:DRAWN])
            odds = segment_scores(model.model, [[given.segment(row, candidates[row][some])]])[0]
            score = score_of(odds, given.known[row, some])
            (cross_entropy(score[None], first) / LISTS).backward()
            if number % LISTS == 0 or number == len(order):
                optimizer.step()
                optimizer.zero_grad()
        now = value()
        sys.stderr.write(f"epoch {epoch}: validation nDCG@10 {now:.4f}\n")
        if now > best:
            best, kept = now, state()
    with torch.no_grad():
        for place, each in zip(
            (soft.constants, soft.projections, weights.weight), kept, strict=True
        ):
            place.copy_(each)
    return weights


def log_odds(given: Told, model: TransformersModel, row: int) -> Tensor:
    """Log-odds of Yes for each candidate of a list."""
    candidates = given.lists["candidates"][row]
    segment = given.segment(row, candidates[candidates >= 0])
    with torch.inference_mode():
        return segment_scores(model.model, [[segment]])[0]


def judged(
    lists: Lists,
    vectors: Tensor,
    rows: dict[int, NDArray[np.int64]],
    way: Way,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Train a way, fit its gate on validation lists and judge it on test lists."""
    model = loaded(options.model, None, options.dtype)
    model.model.requires_grad_(False)
    base = model.model.get_input_embeddings()
    assert isinstance(base, nn.Embedding)
    said = vectors if way == "vectors" else torch.zeros(len(vectors), 1)
    soft = SoftTokens(base, said.to(model.model.device), len(lists["titles"]))
    given = told(lists, model, way, soft.first)
    model.model.set_input_embeddings(soft)
    weights = trained(given, model, soft, rows, options)
    some = np.concatenate([rows[VALIDATION], rows[TEST]])
    odds = np.full((len(some), TOP), np.nan)
    for place, row in enumerate(tqdm(some.tolist(), desc="Scoring", mininterval=5)):
        scored = log_odds(given, model, row).double().cpu().numpy()
        odds[place, : len(scored)] = scored
    whole, kept = lists_of(beside(lists, some) | {"odds": odds}, TOP)
    fitted, values = on_tests(whole, lists["part"][kept], lists["popularity"])
    return {
        "weights": weights.weight[0].tolist(),
        "gate": dict(fitted.gate.weights),
        "p": dict(fitted.p_values),
        way: values[GATE].tolist(),
        CONTROL: values["control"].tolist(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and judge each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lists", type=Path, help="file of ranking_lists.py")
    parser.add_argument("data", type=Path, help="folder of the same data set")
    parser.add_argument("fusion", type=Path, help="folder shifts_4_4 of ranking_lists.py")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--dtype", help="bfloat16 on an accelerator if left out, else float32")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--training", type=int, default=400, help="training lists at most")
    parser.add_argument("--tests", type=int, default=300, help="validation and test lists at most")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    lists = read_lists(options.lists, TOP, None)
    reached = (lists["candidates"] == lists["target"][:, None]).any(axis=1)
    draw = np.random.default_rng(SEED)
    of_training = (lists["part"] == TRAINING) & (lists["shift"] == SHIFT)
    rows = {
        part: draw.permutation(np.flatnonzero(reached & some))[:most]
        for part, some, most in (
            (TRAINING, of_training, options.training),
            (VALIDATION, lists["part"] == VALIDATION, options.tests),
            (TEST, lists["part"] == TEST, options.tests),
        )
    }
    vectors = vectors_of(lists, options.data, options.fusion)
    sizes = ", ".join(
        f"{len(rows[part]):,} {name}"
        for part, name in ((TRAINING, "training"), (VALIDATION, "validation"), (TEST, "test"))
    )
    sys.stderr.write(f"lists: {sizes}\n")
    about = f"{options.model} {sizes} {options.epochs} {options.learning_rate} {vectors.sum()}"
    with kept_in(KEPT / "soft_tokens" / f"{options.data.name}.jsonl") as kept:
        found = {
            way: kept(f"{about} {way}", partial(judged, lists, vectors, rows, way, options))
            for way in options.ways
        }
    first = options.ways[0]
    values = {CONTROL: found[first][CONTROL], **{way: found[way][way] for way in options.ways}}
    text = f"# Facts of the retriever as soft tokens and in words: {options.data.name}\n\n"
    text += f"Lists: {sizes}. {options.model}, {TEMPLATE}, frozen.\n\n{table(values, first)}"
    write_results(
        f"soft_tokens_{options.data.name}",
        text,
        {"command": command_of("soft_tokens", arguments), "ways": found},
        options.out,
    )


if __name__ == "__main__":
    main()
