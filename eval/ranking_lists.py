"""Lists to rerank: what the hybrid retriever proposes for each of a user's last events.

    python eval/ranking_lists.py DATA [--test 1] [--validation 1] [--training 2] [--epochs N]

Events of a user are ordered by time (ties by the order of the file); of repeated ones the first
counts. A list holds the best 100 items for an event, by a retriever that knows neither that event
nor a later one: counts, learned weights and a fusion of its own, which holds out one row more. So
lists for validation and training are out of fold like those of the test. Lists of the last events
are the test's, those before them validation's: one retriever for all events of either, and the
histories grow. Every second event before those is training's, with a retriever each. A user needs
two events that the retriever knows. Writes lists_DATA.npz to --out; see `KEYS`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from data_sets import KEPT, TEST, TRAINING, VALIDATION, read
from forked import on_all_cores

from llmrec import Catalog, Index, Retriever, TextEncoder, User
from llmrec.catalog import leave_one_out
from llmrec.catalog.catalog import by_time, by_user
from llmrec.evaluation import training_catalog
from llmrec.items import modalities_of
from llmrec.items.fusion import FusionConfig
from llmrec.records import Interaction
from llmrec.retrieval import learn_weights
from llmrec.training import hold_out_last_rows, train_fusion

KEYS = {
    "titles": "JSON list of all items' names, as bytes",
    "popularity": "int32 [n_items], interactions before the validation and test events",
    "train_starts": "int64 [users + 1], rows of `train_items`, a user after the other",
    "train_items": "int32, items of the events before validation and test, oldest first",
    "part": "int8 [n], 0 validation, 1 test, 2 training",
    "shift": "int8 [n], the event is so many from the user's end, from 1",
    "users": "int32 [n], the user, as in `train_starts`",
    "target": "int32 [n], the item of the event",
    "history_starts": "int64 [n + 1], rows of `history_items`",
    "history_items": "int32, items before the event, oldest first",
    "history_times": "int64, their times in seconds, -1 unknown",
    "target_time": "int64 [n], the event's own",
    "candidates": "int32 [n, 100], best first",
    "scores": "float32 [n, 100], the retriever's; -inf where there are fewer candidates",
}
TOP = 100
USERS_AT_ONCE = 250


@dataclass(frozen=True)
class Event:
    """A user's event, so many from the end, and the rows before it."""

    user_id: str
    shift: int
    before: tuple[Interaction, ...]
    target: Interaction


def events_of(catalog: Catalog, shifts: range) -> tuple[Catalog, list[Event]]:
    """The users' events so many from the end, and what is known before the first of them.

    Of a user with fewer than two known rows there is no event.
    """
    known: set[Interaction] = set()
    events = []
    for user_id, rows in sorted(by_user(catalog.interactions).items()):
        first: dict[str, Interaction] = {}
        for row in by_time(rows):
            first.setdefault(row.item_id, row)
        every = list(first.values())
        first_one = max(0, len(every) - shifts[-1])
        known.update(every[:first_one])
        if first_one >= 2:
            places = [(shift, len(every) - shift) for shift in shifts]
            events += [Event(user_id, s, tuple(every[:at]), every[at]) for s, at in places]
    train = tuple(row for row in catalog.interactions if row in known)
    return training_catalog(catalog, replace(leave_one_out(catalog), train=train)), events


def retriever_of(known: Catalog, encoder: TextEncoder, folder: Path, epochs: int) -> Retriever:
    """The hybrid: a fusion and weights learned on what is known."""
    training, validation = hold_out_last_rows(known)
    given = modalities_of(training, encoder, progress=True)
    config = FusionConfig(epochs=epochs)
    trained = train_fusion(training, given, validation, config, out=folder, progress=True)
    modalities = modalities_of(known, encoder, progress=True)
    index = Index.build(known, encoder, modalities=modalities, insights={}, fusion=trained.fusion)
    weights = learn_weights(index, users=2_000, progress=True).weights
    sys.stderr.write(f"{folder.name}: {dict(weights)}, {trained.best}\n")
    return Retriever(index, weights=weights)


def lists_of(retriever: Retriever, events: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
    """Candidates and scores of each event: int32 and float32 [n, 100]."""
    index = retriever.index

    def some(part: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.zeros((len(part), TOP), dtype=np.int32)
        scores = np.full((len(part), TOP), -np.inf, dtype=np.float32)
        for place, event in enumerate(part):
            known = index.user(event.user_id)
            user = User(known.user_id, event.before, known.profile, known.friends)
            found = retriever.retrieve(user, TOP)
            rows[place, : len(found)] = [index.row(candidate.item_id) for candidate in found]
            scores[place, : len(found)] = [candidate.score for candidate in found]
        return rows, scores

    some(events[:1])  # what is made once is made before the processes part
    parts = [events[i : i + USERS_AT_ONCE] for i in range(0, len(events), USERS_AT_ONCE)]
    made = on_all_cores(some, parts)
    return np.concatenate([rows for rows, _ in made]), np.concatenate([s for _, s in made])


def starts(lengths: np.ndarray) -> np.ndarray:
    """Where each of some ragged rows starts, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def times_of(rows: Sequence[Interaction]) -> np.ndarray:
    """Their times in seconds, -1 where unknown."""
    times = [-1 if row.timestamp is None else int(row.timestamp) for row in rows]
    return np.array(times, dtype=np.int64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the lists and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--test", type=int, default=1, help="events of a user for the test")
    parser.add_argument(
        "--validation", type=int, default=1, help="events of a user for validation, before those"
    )
    parser.add_argument(
        "--training", type=int, default=2, help="training events of a user, every second one before"
    )
    parser.add_argument("--epochs", type=int, default=FusionConfig().epochs, help="maximum epochs")
    parser.add_argument("--only", type=int, help="make the lists that end here, write no file")
    parser.add_argument(
        "--kept", type=Path, default=KEPT / "ranking_lists", help="checkpoint folder"
    )
    parser.add_argument("--out", type=Path, default=KEPT, help="folder of the lists")
    options = parser.parse_args(arguments)
    catalog, encoder = read(options.data), TextEncoder.from_pretrained()
    ids = {item_id: row for row, item_id in enumerate(catalog.items)}
    held = options.test + options.validation
    every = sorted({row.user_id for row in catalog.interactions})
    numbers = {user_id: number for number, user_id in enumerate(every)}
    kept = options.kept / options.data.name
    parts = [(TEST, range(1, options.test + 1)), (VALIDATION, range(options.test + 1, held + 1))]
    training = (held + 2 * n for n in range(1, options.training + 1))
    parts += [(TRAINING, range(shift, shift + 1)) for shift in training]
    paths = [kept / f"shifts_{shifts[0]}_{shifts[-1]}.npz" for _, shifts in parts]
    for path, (part, shifts) in zip(paths, parts, strict=True):
        if path.exists() or options.only not in (None, shifts[-1]):
            continue
        began = time.perf_counter()
        known, some = events_of(catalog, shifts)
        retriever = retriever_of(known, encoder, path.with_suffix(""), options.epochs)
        candidates, scores = lists_of(retriever, some)
        rows = [row for event in some for row in event.before]
        target = np.array([ids[e.target.item_id] for e in some], dtype=np.int32)
        np.savez(
            path,
            part=np.full(len(some), part, dtype=np.int8),
            shift=np.array([e.shift for e in some], dtype=np.int8),
            users=np.array([numbers[e.user_id] for e in some], dtype=np.int32),
            target=target,
            target_time=times_of([e.target for e in some]),
            lengths=np.array([len(e.before) for e in some]),
            history_items=np.array([ids[r.item_id] for r in rows], dtype=np.int32),
            history_times=times_of(rows),
            candidates=candidates,
            scores=scores,
        )
        reached = (candidates[:, :20] == target[:, None]).any(axis=1).mean()
        seconds = time.perf_counter() - began
        sys.stderr.write(f"{path.stem}: recall@20 {reached:.4f}, {seconds:.0f} s\n")
    if options.only:
        return
    files = [np.load(path) for path in paths]
    arrays = {key: np.concatenate([file[key] for file in files]) for key in files[0].files}
    before, _ = events_of(catalog, range(held, held + 1))
    known_ids = set(before.user_ids)
    train = [before.user(u).history if u in known_ids else () for u in every]
    arrays["history_starts"] = starts(arrays.pop("lengths"))
    arrays["train_starts"] = starts(np.array([len(rows) for rows in train]))
    arrays["train_items"] = np.array([ids[r.item_id] for rows in train for r in rows], np.int32)
    counts = np.bincount([ids[row.item_id] for row in before.interactions], minlength=len(ids))
    arrays["popularity"] = counts.astype(np.int32)
    names = json.dumps([item.name for item in catalog.items.values()], ensure_ascii=False)
    arrays["titles"] = np.frombuffer(names.encode(), dtype=np.uint8)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / f"lists_{options.data.name}.npz").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
