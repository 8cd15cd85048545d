"""A model's likelihood parts of the retriever's lists, for gates that are fitted without the model.

    python eval/gated_lists.py LISTS.npz --model REF --out PARTS.npz [--adapter ADAPTER]
        [--template likelihood/numbered] [--top 100] [--limit N] [--workers 1] [--max-seconds S]

``ranking_lists.py`` makes LISTS.npz. Validation and test lists are scored whose target is among the
first TOP: conditional and prior log-probability and length of each title, by the prompts of the
likelihood strategy. The other lists count as 0 in every row of every table,
whatever a model says of them. ``gate_table.py`` reads the result, which holds all that it needs. A
command that was stopped continues where it stopped. On an accelerator the model runs in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from data_sets import SEED, TRAINING
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec import TransformersModel
from llmrec.models import ScoredSequence, load_model
from llmrec.models.adapter import apply_adapter
from llmrec.prompting import Budget, Context, Template, field_text, load_template
from llmrec.records import Interaction, Item, User
from llmrec.reranking import Likelihood
from llmrec.training.packed_rows import Segment
from llmrec.training.tuning_lists import ListWriter

TOP = 100
"""Candidates of a list."""
SAVE_EVERY = 60.0
"""Seconds between two saves."""
LEFT_OUT = 3
"""The part of lists that were not drawn."""
DAY = 86_400
Step = TypeVar("Step")
Lists = dict[str, Any]
"""Arrays by name."""


def list_writer(lists: Lists, template: Template, model: TransformersModel) -> ListWriter:
    """Writes lists as the template's strategy asks them; the prompts know titles alone."""
    ids = [str(row) for row in range(len(lists["titles"]))]
    items = {i: Item(i, title) for i, title in zip(ids, lists["titles"], strict=True)}
    return ListWriter(template.strategy, template, model, Context(items), ids)


def user_before(lists: Lists, row: int) -> User:
    """The user of a list, with what a prompt shows of the history."""
    starts, most = lists["history_starts"], Budget().history_items
    past = lists["history_items"][starts[row] : starts[row + 1]][-most:].tolist()
    return User(str(row), tuple(Interaction("", str(item)) for item in past))


NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)
_lists: Lists  # of this process and those that it forks
_writer: ListWriter


def _encoded(row: int) -> list[int]:
    """The tokens before a list's titles."""
    tokens: list[int] = _writer(user_before(_lists, row), NOTHING).prompt.tolist()
    return tokens


def read_lists(path: Path, top: int, limit: int | None) -> Lists:
    """Read lists, cut to the first ``top``; -1 is no candidate.

    Of validation and test at most ``limit`` are drawn each; the others belong to no part.
    """
    with np.load(path) as given:
        lists = dict(given)
    lists["titles"] = json.loads(lists["titles"].tobytes())
    scores = lists["scores"][:, :top]
    lists["retrieval"] = np.where(np.isfinite(scores), scores, np.nan)
    lists["candidates"] = np.where(np.isfinite(scores), lists["candidates"][:, :top], -1)
    lists["history"] = np.diff(lists["history_starts"])
    if limit:
        order = np.random.default_rng(SEED).permutation(len(lists["part"]))
        drawn = [order[lists["part"][order] == part][:limit] for part in (0, 1)]
        left_out = np.setdiff1d(order[lists["part"][order] < TRAINING], np.concatenate(drawn))
        lists["part"][left_out] = LEFT_OUT
    if "target_time" in lists:
        lists["same_day"] = same_day(lists)
    return lists


def beside(lists: Lists, rows: NDArray[np.int64]) -> Lists:
    """What a file of parts holds beside them: lists of ``rows``, and of all what tables read."""
    kept = ("target", "part", "popularity", "history", "users", "same_day")
    inside = {name: lists[name][rows] for name in ("candidates", "retrieval")}
    return {"rows": rows, **inside, **{name: lists[name] for name in kept if name in lists}}


def saving(
    steps: Iterable[Step], save: Callable[[], None], most: float | None, *, desc: str
) -> Iterator[Step]:
    """Take steps, for at most ``most`` seconds, with a progress bar; save each minute and last."""
    started = saved = time.perf_counter()
    for step in tqdm(steps, desc=desc, mininterval=5):
        yield step
        now = time.perf_counter()
        if now - saved > SAVE_EVERY:
            save()
            saved = now
        if most and now - started > most:
            break
    save()


def scored(lists: Lists, options: argparse.Namespace) -> None:
    """Score the lists that hold their target, and write the parts."""
    global _lists, _writer
    candidates = lists["candidates"]
    reached = (candidates == lists["target"][:, None]).any(axis=1) & (lists["part"] < TRAINING)
    held = np.flatnonzero(reached)
    template = options.template
    strategy = Likelihood() if template is None else Likelihood(load_template(template))
    model = loaded(options.model, options.adapter, options.dtype)
    _lists, _writer = lists, list_writer(lists, strategy.template, model)
    about = (
        f"{model.name}@{model.revision} {strategy.template.name} {strategy.template.sha256[:12]}"
    )
    parts = {
        name: np.full((len(held), options.top), np.nan, dtype=np.float32)
        for name in ("conditional", "prior", "length")
    }
    if options.out.is_file():
        with np.load(options.out) as before:
            if before["about"].item() != about or before["rows"].tolist() != held.tolist():
                raise SystemExit(f"{options.out} holds other lists or another model: remove it.")
            parts = {name: before[name] for name in parts}
    budget = Budget().title
    used = np.unique(candidates[held])
    titled = [i for i in used.tolist() if i >= 0 and field_text(lists["titles"][i], budget, model)]
    bare = _writer(User(""), np.array(titled))
    ends = {item: end.tolist() for item, end in zip(titled, bare.answers, strict=True)}
    started = time.perf_counter()
    todo = np.flatnonzero(np.isnan(parts["length"]).all(axis=1))

    def save() -> None:
        part = options.out.with_suffix(".part.npz")
        arrays = beside(lists, held) | parts | {"about": np.array(about)}
        np.savez_compressed(part, allow_pickle=False, **arrays)
        part.replace(options.out)

    # The processes only write prompts: they do not touch an accelerator.
    with get_context("fork").Pool(options.workers) as pool:
        every = pool.imap(_encoded, held[todo].tolist(), chunksize=32)
        if np.isnan(parts["prior"]).all():
            parts["prior"] = priors(model, bare, titled, candidates[held], options.window)
        firsts = range(0, len(todo), options.window)
        for first in saving(firsts, save, options.max_seconds, desc="Scoring"):
            window = todo[first : first + options.window]
            sequences, places = [], []
            for row in window:
                before = next(every)
                for place, item in enumerate(candidates[held[row]].tolist()):
                    if item in ends:
                        sequences.append(ScoredSequence((*before, *ends[item]), len(before)))
                        places.append((row, place))
            values = model.log_probs(sequences).values
            for (row, place), value in zip(places, values, strict=True):
                parts["conditional"][row, place] = value.sum()
                parts["length"][row, place] = len(value)
    left = int(np.isnan(parts["length"]).all(axis=1).sum())
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{len(todo) - left} lists in {seconds:.0f} s, {left} left; {about}\n")


def priors(
    model: TransformersModel,
    bare: Segment,
    items: Sequence[int],
    candidates: NDArray[np.int32],
    window: int,
) -> NDArray[np.float32]:
    """Log-probability of each candidate's title without a history, once per title."""
    found: dict[int, float] = {}
    for first in tqdm(range(0, len(items), 64 * window), desc="Priors"):
        some = slice(first, first + 64 * window)
        sequences = [
            ScoredSequence((*bare.prompt.tolist(), *answer.tolist()), len(bare.prompt))
            for answer in bare.answers[some]
        ]
        values = model.log_probs(sequences).values
        found |= {item: float(value.sum()) for item, value in zip(items[some], values, strict=True)}
    table = np.array([found.get(item, np.nan) for item in candidates.ravel().tolist()])
    return table.reshape(candidates.shape).astype(np.float32)


def same_day(lists: Lists) -> NDArray[np.bool_]:
    """Whether a target was met on the day of the last item of the history, where both are known."""
    last = lists["history_times"][lists["history_starts"][1:] - 1]
    known = (last >= 0) & (lists["target_time"] >= 0)
    same: NDArray[np.bool_] = known & (lists["target_time"] // DAY == last // DAY)
    return same


def loaded(ref: str, adapter: Path | None, dtype: str | None) -> TransformersModel:
    """The model, in bfloat16 on an accelerator, with an adapter merged where one is given."""
    import torch  # noqa: PLC0415

    model = load_model(ref, dtype=dtype or ("bfloat16" if torch.cuda.is_available() else None))
    if not isinstance(model, TransformersModel):
        raise SystemExit("--model takes a model of transformers.")
    if adapter is not None:
        merged = apply_adapter(model.model, model.tokenizer, adapter)
        model = replace(model, model=merged, revision=f"{model.revision}+{adapter.name}")
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """Score lists."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lists", type=Path, help="file of ranking_lists.py")
    parser.add_argument("--model", required=True, help="a model of transformers")
    parser.add_argument("--adapter", type=Path, help="a folder with a PEFT adapter")
    parser.add_argument("--dtype", help="bfloat16 on an accelerator if left out, else float32")
    parser.add_argument("--template", help="a likelihood template; the default one if left out")
    parser.add_argument("--out", type=Path, required=True, help="where the parts are written")
    parser.add_argument("--top", type=int, default=TOP, help="candidates scored of each list")
    parser.add_argument("--limit", type=int, help="lists drawn of validation and of test")
    parser.add_argument("--window", type=int, default=64, help="lists scored at once")
    parser.add_argument("--workers", type=int, default=1, help="processes that write prompts")
    parser.add_argument("--max-seconds", type=float, help="stop after; the same command resumes")
    options = parser.parse_args(arguments)
    scored(read_lists(options.lists, options.top, options.limit), options)


if __name__ == "__main__":
    main()
