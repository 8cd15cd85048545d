"""Popularity and random by the protocol of LLMRank, on any folder in the form of its data sets.

    python eval/llmrank_protocol.py PATH [--candidates bm25] [--budget 20] [--out FILE.md]

Hou et al. 2024, "Large language models are zero-shot rankers for recommender systems"; the form and
the protocol are those of github.com/RUCAIBox/LLMRank and of RecBole, which it runs on. A folder
NAME holds RecBole's atomic files, tab-separated, typed header (``user_id:token``):

``NAME.inter``
    One interaction a line: user, item, timestamp (optional; the order of the file breaks ties). The
    last item of each user is the target, the one before it is validation, the rest is training. Or
    ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter``, one line a prediction: user,
    ``item_id_list`` (the history, space-separated), ``item_id`` (the target).
``NAME.item``
    Optional: items by ``item_id``, which adds items without interactions.
``NAME.random``, ``NAME.bm25``, ...
    The users to evaluate, and candidates for each: ``user TAB item item item ...``.

A user's list is the first ``budget - 1`` candidates that are not the target, and the target. An
unknown id keeps its place and ranks last, as LLMRank's padding item does. Popularity counts
training interactions, as RecBole's training samples do: a user with a single interaction makes
none. Ties are broken by a seeded draw, where RecBole leaves them to torch.topk.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError, LlmrecError, OptionError, nearest
from llmrec.evaluation import Row, compare_rows, markdown_table, ndcg_at, target_ranks

CUTOFFS = (1, 5, 10, 20)
USER, ITEM, HISTORY, TIME = "user_id", "item_id", "item_id_list", "timestamp"


@dataclass(frozen=True)
class Interactions:
    """Targets by user id, training interactions by item id, and all known item ids."""

    targets: Mapping[str, str]
    popularity: Mapping[str, int]
    items: frozenset[str]


def read_interactions(folder: Path) -> Interactions:
    """Read the atomic files of a folder, whole or split; DataError where one is broken."""
    targets, popularity = dict[str, str](), Counter[str]()
    if (folder / f"{folder.name}.test.inter").exists():
        items = set[str]()
        parts = ("train", "valid", "test")
        for part in (p for p in parts if (folder / f"{folder.name}.{p}.inter").exists()):
            for row in _rows(folder, f"{part}.inter", USER, HISTORY, ITEM):
                history = row[HISTORY].split()
                items.update(history, [row[ITEM]])
                if part == "test":
                    targets[row[USER]] = row[ITEM]
                elif part == "train":
                    popularity[row[ITEM]] += 1
                    popularity.update(history if len(history) == 1 else ())  # the first of a user
        return Interactions(targets, popularity, frozenset(items))
    met: dict[str, list[tuple[float, str]]] = {}
    for line, row in enumerate(_rows(folder, "inter", USER, ITEM), 2):
        try:
            time = float(row.get(TIME, line))
        except ValueError:
            time = math.nan
        if not math.isfinite(time):
            raise DataError(f"{folder.name}.inter, line {line}: timestamp {row[TIME]!r}.")
        met.setdefault(row[USER], []).append((time, row[ITEM]))
    for user, pairs in met.items():
        sequence = [item for _, item in sorted(pairs, key=lambda pair: pair[0])]  # stable
        trained = max(2, len(sequence) - 2) if len(sequence) > 1 else 0
        popularity.update(sequence[:trained])
        if 0 < trained < len(sequence):
            targets[user] = sequence[-1]
    items = {item for pairs in met.values() for _, item in pairs}
    if (folder / f"{folder.name}.item").exists():
        items.update(row[ITEM] for row in _rows(folder, "item", ITEM))
    return Interactions(targets, popularity, frozenset(items))


def read_candidates(folder: Path, suffix: str) -> dict[str, list[str]]:
    """Read users, in the order of the file, and their candidates; DataError as above."""
    lists: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(folder, suffix), 1):
        user, _, items = line.strip().partition("\t")
        if not line.strip():
            continue
        if not items.split() or user in lists:
            raise DataError(
                f"{folder.name}.{suffix}, line {number}: {line[:60]!r} is not a user, a tab and "
                "item ids separated by spaces, or the user is a duplicate."
            )
        lists[user] = items.split()
    if len(lists) < 2:
        raise DataError(f"{folder.name}.{suffix} has {len(lists)} users; an interval needs two.")
    return lists


def candidate_lists(
    known: Interactions, candidates: Mapping[str, Sequence[str]], budget: int
) -> list[list[str]]:
    """Each user's list: ``budget`` items, the target last."""
    lists = []
    for user, items in candidates.items():
        if user not in known.targets:
            raise DataError(f"User {user!r} has candidates but no interaction that is held out.")
        target = known.targets[user]
        others = [item for item in items if item != target][: budget - 1]
        if len(others) < budget - 1:
            raise DataError(
                f"User {user!r} has {len(others)} candidates beside the target; {budget - 1} are "
                "needed.",
                hint=f"Use --budget {len(others) + 1}." if others else "Remove the line.",
            )
        lists.append([*others, target])
    return lists


def popularity_scores(known: Interactions, lists: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Training interactions of every candidate, [lists, budget]; NaN for an unknown id."""
    counts = [
        [known.popularity.get(i, 0) if i in known.items else np.nan for i in items]
        for items in lists
    ]
    return np.array(counts, dtype=np.float64)


def measure(folder: Path, suffix: str, budget: int, seed: int) -> tuple[Row, ...]:
    """The rows of random and of popularity, nDCG at the cutoffs, with paired intervals."""
    if budget < 2 or seed < 0:
        raise OptionError(f"--budget {budget}, --seed {seed}: allowed are 2 or more, 0 or more.")
    known = read_interactions(folder)
    scores = popularity_scores(
        known, candidate_lists(known, read_candidates(folder, suffix), budget)
    )
    tables = {"random": np.where(np.isnan(scores), np.nan, 0.0), "popularity": scores}
    last = np.full(len(scores), budget - 1)
    ranks = {name: target_ranks(table, last, seed=seed) for name, table in tables.items()}
    metrics = {name: {f"ndcg@{k}": ndcg_at(own, k) for k in CUTOFFS} for name, own in ranks.items()}
    return compare_rows(metrics, [("popularity", "random")], seed=seed)


def _rows(folder: Path, suffix: str, *needed: str) -> Iterator[dict[str, str]]:
    """Read an atomic file, columns by name without their type."""
    head, *lines = _lines(folder, suffix) or [""]
    names = [field.partition(":")[0] for field in head.split("\t")]
    for missing in set(needed) - set(names):
        raise DataError(f"{folder.name}.{suffix} has columns {names}; {missing!r} is missing.")
    for number, line in enumerate(lines, 2):
        fields = line.split("\t")
        if len(fields) != len(names):
            raise DataError(
                f"{folder.name}.{suffix}, line {number} has {len(fields)} fields for {len(names)} "
                "columns."
            )
        yield dict(zip(names, fields, strict=True))


def _lines(folder: Path, suffix: str) -> list[str]:
    path = folder / f"{folder.name}.{suffix}"
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        near = nearest(suffix, [other.suffix[1:] for other in folder.glob(f"{folder.name}.*")])
        raise DataError(f"{path} cannot be read: {error}.", hint=near) from error
    return text.split("\n") if text else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="a folder NAME with NAME.inter and NAME.random")
    parser.add_argument("--candidates", default="random", help="suffix of the candidate file")
    parser.add_argument("--budget", type=int, default=20, help="candidates a user, with the target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(arguments)
    try:
        rows = measure(args.path.resolve(), args.candidates, args.budget, args.seed)
    except LlmrecError as error:
        parser.error(str(error))
    text = (
        f"# LLMRank's protocol: {args.path.resolve().name}, {args.candidates} candidates\n\n"
        f"`python eval/llmrank_protocol.py {args.path} --candidates {args.candidates} --budget "
        f"{args.budget} --seed {args.seed}`\n\n{markdown_table(rows)}"
    )
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
