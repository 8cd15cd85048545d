"""The retriever's lists of validation and test users, and a model's likelihood parts of them.

    python eval/gated_lists.py DATA --lists LISTS.npz [--limit N]
    python eval/gated_lists.py LISTS.npz --model REF --out PARTS.npz [--adapter ADAPTER]
        [--template likelihood/numbered] [--top 100] [--limit N] [--max-seconds S]

The first command makes the lists: leave-one-out by time, the index knows training rows only, the
retriever's weights are learned without the last training row of each user, and the 100 best items
that a user has not met are kept. The second scores the titles of those lists whose target is among
the first TOP: conditional and prior log-probability and length of each title. The others count as 0
in every row of every table, whatever a model says of them. ``gate_table.py`` reads the result. A
command that was stopped continues where it stopped.

LISTS.npz, for n lists: ``history_starts`` [n + 1] and ``history_items``, item rows oldest first;
``candidates`` int32 [n, 100], -1 behind the end; ``retrieval`` float32 [n, 100]; ``target``, item
row [n]; ``part`` [n], 0 validation and 1 test; ``popularity``, training interactions by item row;
``titles``, texts by item row; where known, ``history_times`` and ``target_time`` in seconds, and
``user`` [n], equal for lists of one user.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from data_sets import SEED, read
from numpy.typing import NDArray
from tqdm import tqdm

from llmrec import Index, Retriever, TextEncoder, TransformersModel
from llmrec.catalog import leave_one_out
from llmrec.evaluation import end_to_end_users, training_catalog
from llmrec.models import ContinuationRequest, ScoredSequence, load_model
from llmrec.prompting import Budget, Context, field_text, load_template
from llmrec.records import Interaction, Item, Prompt, User
from llmrec.reranking import Likelihood
from llmrec.reranking.strategy import Question, writer_of
from llmrec.retrieval import learn_weights

MOST = 100
"""Candidates of a list."""
LOGITS = 1_000_000_000
"""Logits projected at once on an accelerator: 4 GB."""
SAVE_EVERY = 120.0
"""Seconds between two saves."""
Lists = dict[str, Any]
"""Arrays by name."""


def made_lists(folder: Path, limit: int | None) -> Lists:
    """Retrieve for the users of a data set, at most ``limit`` lists of each part."""
    catalog = read(folder)
    split = leave_one_out(catalog)
    known = training_catalog(catalog, split)
    index = Index.build(known, TextEncoder.from_pretrained(), modalities=(), insights={})
    weights = learn_weights(index, progress=True).weights
    sys.stderr.write(f"retriever's weights: {weights}\n")
    retriever = Retriever(index, weights={name: w for name, w in weights.items() if w})
    times = {
        part: {user: row.timestamp for user, row in rows.items()}
        for part, rows in (("validation", split.validation), ("test", split.test))
    }
    rows: dict[str, list[Any]] = {}
    starts = [0]
    drawn = np.random.default_rng(SEED)
    both: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    for number, part in enumerate(both):
        every = end_to_end_users(catalog, split, which=part)
        chosen = [every[i] for i in drawn.permutation(len(every))[:limit]]
        for held in tqdm(chosen, desc=f"Retrieving ({part})"):
            history = held.user.history
            found = retriever.retrieve(held.user, MOST)
            found_rows = [index.row(candidate.item_id) for candidate in found]
            short = MOST - len(found)
            line = {
                "history_items": [index.row(row.item_id) for row in history],
                "history_times": [_time(row.timestamp) for row in history],
                "candidates": [np.array(found_rows + [-1] * short, dtype=np.int32)],
                "retrieval": [np.array([c.score for c in found] + [np.nan] * short, np.float32)],
                "target": [index.row(held.target)],
                "target_time": [_time(times[part][held.user.user_id])],
                "part": [number],
                "user": [held.user.user_id],
            }
            for name, values in line.items():
                rows.setdefault(name, []).extend(np.asarray(value) for value in values)
            starts.append(starts[-1] + len(history))
    return {
        **{name: np.array(values) for name, values in rows.items()},
        "history_starts": np.array(starts),
        "popularity": index.popularity,
        "titles": np.array([item.name for item in index.items.values()]),
    }


def _time(timestamp: float | None) -> float:
    return np.nan if timestamp is None else float(timestamp)


@dataclass(frozen=True)
class Writer:
    """Writes the prompts of the likelihood strategy."""

    strategy: Likelihood
    model: TransformersModel
    lists: Lists
    budget: Budget

    def prompt(self, row: int | None) -> Prompt:
        """The prompt after a list's history; None: without a history."""
        past: Sequence[int] = ()
        if row is not None:
            starts = self.lists["history_starts"]
            most = self.budget.history_items
            past = self.lists["history_items"][starts[row] : starts[row + 1]][-most:].tolist()
        items = {str(item): Item(str(item), str(self.lists["titles"][item])) for item in set(past)}
        user = User("u", tuple(Interaction("u", str(item), None, None) for item in past))
        question = Question(user, (), Context(items), self.budget)
        room = self.budget.title + 1
        writer = writer_of(self.strategy.template, question, self.model, room=room)
        return writer.without_candidate().prompts[0]

    def tokens(self, prompt: Prompt, title: str) -> ScoredSequence:
        """A title after a prompt, with its end, as `score_continuations` makes it."""
        before, text = ContinuationRequest(prompt, title, end=True).split()
        start = self.model.encode_prompt(before)
        end = self.model.encode_end() if prompt.text is None else []
        return ScoredSequence((*start, *self.model.encode(text), *end), len(start))


_writer: Writer  # of this process and those that it forks


def _encoded(row: int) -> tuple[int, ...]:
    """The tokens before a list's titles."""
    before, _ = ContinuationRequest(_writer.prompt(row), "x", end=True).split()
    return tuple(_writer.model.encode_prompt(before))


def scored(lists: Lists, options: argparse.Namespace) -> None:
    """Score the lists that hold their target, and write the parts."""
    global _writer  # noqa: PLW0603 - inherited by the processes that write prompts
    candidates = lists["candidates"][:, : options.top]
    held = np.flatnonzero((candidates == lists["target"][:, None]).any(axis=1))
    if options.limit:
        by_part = [held[lists["part"][held] == part][: options.limit] for part in (0, 1)]
        held = np.concatenate(by_part)
    template = options.template
    strategy = Likelihood() if template is None else Likelihood(load_template(template))
    model = loaded(options.model, options.adapter)
    _writer = Writer(strategy, model, lists, Budget())
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
    titles = {
        int(item): field_text(str(lists["titles"][item]), budget, model) for item in used[used >= 0]
    }
    titles = {item: title for item, title in titles.items() if title}
    ends = {item: _ending(_writer, title) for item, title in titles.items()}
    started = saved = time.perf_counter()
    todo = np.flatnonzero(np.isnan(parts["length"]).all(axis=1))

    def save() -> None:
        reached = {"rows": held, "candidates": candidates[held], **parts}
        reached["retrieval"] = lists["retrieval"][held][:, : options.top]
        kept = ("target", "part", "popularity", "history_starts", "user", "same_day")
        whole = {name: lists[name] for name in kept if name in lists}
        if "target_time" in lists:
            whole["same_day"] = same_day(lists)
        part = options.out.with_suffix(".part.npz")
        np.savez_compressed(part, **reached, **whole, about=np.array(about))
        part.replace(options.out)

    # Forked before the model's first call: a process that used an accelerator cannot be.
    with get_context("fork").Pool(options.workers) as pool:
        every = pool.imap(_encoded, held[todo].tolist(), chunksize=32)
        if np.isnan(parts["prior"]).all():
            parts["prior"] = priors(_writer, titles, candidates[held], options.window)
        for first in tqdm(range(0, len(todo), options.window), desc="Scoring", mininterval=5):
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
            now = time.perf_counter()
            if now - saved > SAVE_EVERY:
                save()
                saved = now
            if options.max_seconds and now - started > options.max_seconds:
                break
    save()
    left = int(np.isnan(parts["length"]).all(axis=1).sum())
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{len(todo) - left} lists in {seconds:.0f} s, {left} left; {about}\n")


def _ending(writer: Writer, title: str) -> tuple[int, ...]:
    sequence = writer.tokens(writer.prompt(None), title)
    return sequence.tokens[sequence.start :]


def priors(
    writer: Writer, titles: dict[int, str], candidates: NDArray[np.int32], window: int
) -> NDArray[np.float32]:
    """Log-probability of each candidate's title without a history, once per title."""
    items = list(titles)
    prompt = writer.prompt(None)
    found: dict[int, float] = {}
    for first in tqdm(range(0, len(items), 64 * window), desc="Priors"):
        some = items[first : first + 64 * window]
        values = writer.model.log_probs([writer.tokens(prompt, titles[i]) for i in some]).values
        found |= {item: float(value.sum()) for item, value in zip(some, values, strict=True)}
    table = np.array([found.get(item, np.nan) for item in candidates.ravel().tolist()])
    return table.reshape(candidates.shape).astype(np.float32)


def same_day(lists: Lists) -> NDArray[np.bool_]:
    """Whether a target was met on the day of the last item of the history."""
    starts, day = lists["history_starts"], 86_400
    last = np.where(np.diff(starts) > 0, lists["history_times"][starts[1:] - 1], np.nan)
    same: NDArray[np.bool_] = lists["target_time"] // day == last // day
    return same


def loaded(ref: str, adapter: Path | None) -> TransformersModel:
    """The model, in bfloat16 on an accelerator, with an adapter merged where one is given."""
    import torch  # noqa: PLC0415

    from llmrec.models import prefix_scoring  # noqa: PLC0415

    if not torch.cuda.is_available():
        model = load_model(ref)
    else:
        prefix_scoring.LOGITS = LOGITS
        model = TransformersModel.from_pretrained(ref, dtype="bfloat16", max_rows=32_768)
    if not isinstance(model, TransformersModel):
        raise SystemExit("--model takes a model of transformers.")
    if adapter is not None:
        from peft import PeftModel  # noqa: PLC0415

        merged = PeftModel.from_pretrained(model.model, adapter).merge_and_unload()
        model = replace(model, model=merged, revision=f"{model.revision}+{adapter.name}")
    return model


def main() -> None:
    """Make lists, or score them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, help="a data set's folder, or LISTS.npz")
    parser.add_argument("--lists", type=Path, help="where the lists are written")
    parser.add_argument("--model", help="a model of transformers")
    parser.add_argument("--adapter", type=Path, help="a folder with a PEFT adapter")
    parser.add_argument("--template", help="a likelihood template; the default one if left out")
    parser.add_argument("--out", type=Path, help="where the parts are written")
    parser.add_argument("--top", type=int, default=MOST, help="candidates scored of each list")
    parser.add_argument("--limit", type=int, help="lists of each part, at most")
    parser.add_argument("--window", type=int, default=64, help="lists scored at once")
    parser.add_argument("--workers", type=int, default=1, help="processes that write prompts")
    parser.add_argument("--max-seconds", type=float, help="stop after; the same command resumes")
    options = parser.parse_args()
    if options.source.is_dir():
        np.savez_compressed(options.lists, **made_lists(options.source, options.limit))
        return
    with np.load(options.source) as given:
        lists = dict(given)
    scored(lists, options)


if __name__ == "__main__":
    main()
