"""A small head on the states of a frozen language model: it trains in minutes without a GPU.

    python eval/frozen_head.py states LISTS.npz --model REF --out STATES.npz [--top 20]
        [--limit N] [--max-seconds S]
    python eval/frozen_head.py train STATES.npz PARTS.npz --out HEAD.npz [--set NAME=VALUE]...

The first command forwards each title and each history once and keeps the last hidden states: of a
title at its end, of a history where the next title follows. Lists of training, validation and test
are taken whose target is among the first TOP. A command that was stopped continues where it
stopped, also when lists were added. The second trains two projections of them, whose product is
added to the retriever and to popularity, by a softmax over the candidates of training lists, which
their retriever does not know. Training ends where validation lists are ranked best. HEAD.npz is
PARTS.npz with the part ``head``: `gate_table.py PARTS.npz HEAD.npz` shows it under the same gate.
Where LISTS.npz is given in place of PARTS.npz, the head is the only part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_sets import SEED, TRAINING, VALIDATION
from gated_lists import (
    NOTHING,
    Lists,
    beside,
    list_writer,
    loaded,
    read_lists,
    saving,
    user_before,
)  # fmt: skip
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from llmrec import TransformersModel
from llmrec.evaluation import ndcg_at, target_ranks
from llmrec.models.prefix_scoring import forward_chunk, input_device
from llmrec.models.prefix_tree import PrefixTree, ScoredSequence
from llmrec.models.tree_attention import TreeAttention
from llmrec.prompting import Budget, field_text
from llmrec.records import User
from llmrec.reranking import Likelihood, catalogue_scale


@dataclass(frozen=True)
class Settings:
    """How the head is trained."""

    width: int = 64
    dropout: float = 0.3
    learning_rate: float = 3e-4
    weight_decay: float = 1.0
    epochs: int = 30
    patience: int = 4
    lists: int = 64


def last_states(model: TransformersModel, sequences: Sequence[Sequence[int]]) -> Tensor:
    """The last layer's state of each sequence's last token, [sequences, d]: beginnings once."""
    tree = PrefixTree.of([ScoredSequence((*tokens, 0), len(tokens)) for tokens in sequences])
    (chunk,) = tree.chunks(len(tree))
    attention = TreeAttention.of(tree, chunk, input_device(model.model).type)
    with torch.inference_mode():
        hidden = forward_chunk(model.model, tree, chunk, attention)
        return hidden[torch.from_numpy(attention.places[tree.score_rows])].float().cpu()


def states_of(lists: Lists, options: argparse.Namespace) -> None:
    """Write the states of titles and histories."""
    reached = (lists["candidates"] == lists["target"][:, None]).any(axis=1)
    rows = np.flatnonzero(reached & (lists["part"] <= TRAINING))
    model = loaded(options.model, None, options.dtype)
    writer = list_writer(lists, Likelihood().template, model)
    used, budget = np.unique(lists["candidates"][rows]).tolist(), Budget().title
    items = [i for i in used if i >= 0 and field_text(lists["titles"][i], budget, model)]
    width = model.model.config.get_text_config().hidden_size
    kept: dict[str, Any] = {
        "items": np.full((len(lists["titles"]), width), np.nan, dtype=np.float16),
        "histories": np.full((len(rows), width), np.nan, dtype=np.float16),
    }
    about = f"{model.name}@{model.revision}"
    if options.out.is_file():
        with np.load(options.out) as before:
            known = before["rows"]
            if (
                before["about"].item() != about
                or (before["target"] != lists["target"][known]).any()
            ):
                raise SystemExit(f"{options.out} holds other lists or another model: remove it.")
            shared = np.isin(known, rows)
            places = np.searchsorted(rows, known[shared])
            kept["items"] = before["items"]
            kept["histories"][places] = before["histories"][shared]

    def save() -> None:
        same = ("target", "part", "popularity", "candidates", "retrieval")
        inside = {name: lists[name] if name == "popularity" else lists[name][rows] for name in same}
        part = options.out.with_suffix(".part.npz")
        np.savez_compressed(part, rows=rows, **kept, **inside, about=np.array(about))
        part.replace(options.out)

    todo: list[tuple[tuple[int, ...], str, int]] = []
    for i in items:
        if np.isnan(kept["items"][i, 0]):
            bare = writer(User(""), np.array([i]))
            todo.append(((*bare.prompt.tolist(), *bare.answers[0].tolist()), "items", i))
    for i in np.flatnonzero(np.isnan(kept["histories"][:, 0])).tolist():
        prompt = writer(user_before(lists, int(rows[i])), NOTHING).prompt
        todo.append((tuple(prompt.tolist()), "histories", i))
    todo.sort()  # one user's histories stand together: they begin alike
    ends = np.cumsum([len(tokens) for tokens, _, _ in todo]) // model.max_rows
    parts = np.split(np.arange(len(todo)), np.flatnonzero(np.diff(ends)) + 1) if todo else []
    for part in saving(parts, save, options.max_seconds, desc="States"):
        some = [todo[i] for i in part]
        states = last_states(model, [tokens for tokens, _, _ in some])
        for (_, name, at), state in zip(some, states, strict=True):
            kept[name][at] = state.numpy()
    left = int(np.isnan(kept["histories"][:, 0]).sum())
    sys.stdout.write(f"{len(rows) - left} histories, {left} left; {about}\n")


class Head(nn.Module):
    """The product of two projections, added to the retriever and popularity."""

    def __init__(self, width: int, settings: Settings) -> None:
        super().__init__()
        self.histories = nn.Linear(width, settings.width, bias=False)
        self.items = nn.Linear(width, settings.width, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        self.weights = nn.Linear(3, 1, bias=False)
        with torch.no_grad():  # the retriever alone
            nn.init.zeros_(self.items.weight)
            self.weights.weight.copy_(torch.tensor([[1.0, 0.0, 0.0]]))

    def forward(self, history: Tensor, item: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The head's score and the whole score, [lists, candidates].

        Args:
            history: [lists, d].
            item: [lists, candidates, d].
            known: Retriever, popularity and their product, [lists, candidates, 3].
        """
        own = self.histories(self.dropout(history))[:, None]
        other = self.items(self.dropout(item))
        score = (own * other).sum(-1) / own.shape[-1] ** 0.5
        return score, score + self.weights(known).squeeze(-1)


@dataclass(frozen=True)
class Tables:
    """Standardised states and what the control knows, by list."""

    histories: Tensor
    items: Tensor
    known: Tensor
    candidates: Tensor
    targets: Tensor
    there: Tensor

    @classmethod
    def of(cls, states: Mapping[str, NDArray[Any]]) -> Tables:
        """Standardise over titles and over training histories."""
        candidates = states["candidates"]
        there = candidates >= 0
        known = known_features(candidates, states["retrieval"], states["popularity"])
        of_training = states["part"] == TRAINING
        return cls(
            _standard(states["histories"], of_training),
            _standard(states["items"], ~np.isnan(states["items"][:, 0])),
            torch.from_numpy(known).float(),
            torch.from_numpy(np.maximum(candidates, 0)).long(),
            torch.from_numpy(np.argmax(candidates == states["target"][:, None], axis=1)),
            torch.from_numpy(there),
        )

    def scores(self, head: Head, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The head's score and the whole score of some lists; -inf where there is no candidate."""
        own, whole = head(self.histories[rows], self.items[self.candidates[rows]], self.known[rows])
        return own, whole.masked_fill(~self.there[rows], -torch.inf)


def known_features(
    candidates: NDArray[np.int32], retrieval: NDArray[np.float64], popularity: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Retriever, popularity and their product, standardised: [lists, candidates, 3]."""
    mean, spread = catalogue_scale(popularity)
    popular = (np.log1p(popularity)[candidates] - mean) / spread
    retrieval = np.where(candidates >= 0, retrieval, np.nan)
    centre = np.nanmean(retrieval, axis=1, keepdims=True)
    deviation = np.nanstd(retrieval, axis=1, keepdims=True)
    standard = np.nan_to_num((retrieval - centre) / np.where(deviation > 0, deviation, 1))
    return np.stack([standard, popular, standard * popular], axis=-1)


def _standard(states: NDArray[np.float16], some: NDArray[np.bool_]) -> Tensor:
    table = torch.from_numpy(states.astype(np.float32))
    given = table[torch.from_numpy(some)]
    standard = (table - given.mean(dim=0)) / (given.std(dim=0) + 1e-6)
    return torch.nan_to_num(standard)


def trained(tables: Tables, part: NDArray[np.int8], settings: Settings) -> Head:
    """Train on training lists until validation lists are ranked no better."""
    torch.manual_seed(SEED)
    head = Head(tables.items.shape[1], settings)
    projections = [*head.histories.parameters(), *head.items.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": projections, "weight_decay": settings.weight_decay},
            {"params": head.weights.parameters(), "lr": 10 * settings.learning_rate},
        ],
        lr=settings.learning_rate,
        weight_decay=0.0,
    )
    training = torch.from_numpy(np.flatnonzero(part == TRAINING))
    held = torch.from_numpy(np.flatnonzero(part == VALIDATION))
    best, kept, at = -1.0, head.state_dict(), 0
    for epoch in range(settings.epochs + 1):
        head.train()
        order = training[torch.randperm(len(training))].split(settings.lists)
        for rows in order if epoch else ():  # the first validation is that of the retriever
            _, whole = tables.scores(head, rows)
            loss = cross_entropy(whole, tables.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        head.eval()
        with torch.inference_mode():
            whole = tables.scores(head, held)[1]
        ranks = target_ranks(whole.numpy(), tables.targets[held].numpy(), seed=SEED)
        value = float(ndcg_at(ranks, 10).mean())
        sys.stderr.write(f"epoch {epoch}: validation nDCG@10 {value:.4f}\n")
        if value > best:
            best, at = value, epoch
            kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        if epoch - at >= settings.patience:
            break
    head.load_state_dict(kept)
    return head.eval()


def head_scores(head: Head, tables: Tables, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The head's own score of each candidate, [rows, candidates]."""
    with torch.inference_mode():
        scores = [tables.scores(head, some)[0] for some in torch.from_numpy(rows).split(1024)]
    found: NDArray[np.float32] = torch.cat(scores).numpy()
    return found


def with_head(states: Mapping[str, NDArray[Any]], options: argparse.Namespace) -> None:
    """Write the parts of a file with those of the head."""
    settings = Settings()
    kinds = {name: type(value) for name, value in asdict(settings).items()}
    for given in options.set:
        name, _, value = given.partition("=")
        if name not in kinds:
            raise SystemExit(f"--set {given}: settings are {', '.join(kinds)}.")
        settings = replace(settings, **{name: kinds[name](value)})
    with np.load(options.parts) as read:
        parts = dict(read)
    if "rows" not in parts:
        lists = read_lists(options.parts, states["candidates"].shape[1], None)
        judged = states["rows"][states["part"] < TRAINING]
        parts = beside(lists, judged)
    tables = Tables.of(states)
    started = time.perf_counter()
    head = trained(tables, states["part"], settings)
    seconds = time.perf_counter() - started
    where = {row: place for place, row in enumerate(states["rows"].tolist())}
    parts["head"] = np.full(parts["candidates"].shape, np.nan, dtype=np.float32)
    shared = [(at, where[row]) for at, row in enumerate(parts["rows"].tolist()) if row in where]
    into, rows = (np.array([pair[side] for pair in shared]) for side in (0, 1))
    parts["head"][into, : states["candidates"].shape[1]] = head_scores(head, tables, rows)
    parts["about"] = np.array(f"{states['about'].item()}, head of {settings}, {seconds:.0f} s")
    np.savez_compressed(options.out, **parts)
    sys.stdout.write(f"trained in {seconds:.0f} s\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make states, or train a head on them."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("states")
    make.add_argument("lists", type=Path, help="file of ranking_lists.py")
    make.add_argument("--model", required=True, help="a model of transformers")
    make.add_argument("--dtype", help="bfloat16 on an accelerator if left out, else float32")
    make.add_argument("--top", type=int, default=20, help="candidates of a list")
    make.add_argument("--limit", type=int, help="lists drawn of validation and of test")
    make.add_argument("--max-seconds", type=float, help="stop after; the same command resumes")
    train = commands.add_parser("train")
    train.add_argument("states", type=Path)
    train.add_argument("parts", type=Path, help="file of gated_lists.py or ranking_lists.py")
    train.add_argument("--set", action="append", default=[], help="NAME=VALUE, see Settings")
    for each in (make, train):
        each.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.command == "states":
        states_of(read_lists(options.lists, options.top, options.limit), options)
        return
    with np.load(options.states) as read:
        states = dict(read)
    with_head(states, options)


if __name__ == "__main__":
    main()
