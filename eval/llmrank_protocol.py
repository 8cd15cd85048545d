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
    Optional: items by ``item_id``; of a folder with ``NAME.inter``, items nobody met are known too.
``NAME.random``, ``NAME.bm25``, ...
    The users that are asked, and candidates for each: ``user TAB item item item ...``.

A user's list is the first ``budget - 1`` candidates that are not the target, and the target. An id
that the folder does not know keeps its place and ranks last, as LLMRank's padding item does.
Popularity counts training interactions, as RecBole's training samples do: a user with a single
interaction makes none. Ties are broken by a seeded draw, where RecBole leaves them to torch.topk.
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
    """What a folder says of its users: by user id the target, and how often items were trained on.

    ``items`` are all ids that the folder knows.
    """

    targets: Mapping[str, str]
    popularity: Mapping[str, int]
    items: frozenset[str]


@dataclass(frozen=True)
class AskedList:
    """The candidates of a user, the target at the end; a scorer must not know which it is."""

    user_id: str
    item_ids: tuple[str, ...]

    @property
    def target(self) -> str:
        """The last one."""
        return self.item_ids[-1]


def read_interactions(folder: Path) -> Interactions:
    """Read the atomic files of a folder, whole or split beforehand.

    Raises:
        DataError: A file or a column is missing, or a line has not as many fields as the header.
    """
    name = folder.name
    if (folder / f"{name}.test.inter").exists():
        return _read_split(folder)
    rows: dict[str, list[tuple[float, str]]] = {}
    path = folder / f"{name}.inter"
    for line, row in enumerate(_rows(path, USER, ITEM), 2):
        rows.setdefault(row[USER], []).append((_time(row.get(TIME), path, line), row[ITEM]))
    targets, popularity = {}, Counter[str]()
    for user, met in rows.items():
        sequence = [item for _, item in sorted(met, key=lambda pair: pair[0])]  # stable
        if len(sequence) == 1:
            continue  # nothing to predict from: RecBole makes no sample of it
        trained = max(2, len(sequence) - 2)
        popularity.update(sequence[:trained])
        if len(sequence) > trained:
            targets[user] = sequence[-1]
    items = {item for met in rows.values() for _, item in met}
    if (folder / f"{name}.item").exists():
        items.update(row[ITEM] for row in _rows(folder / f"{name}.item", ITEM))
    return Interactions(targets, popularity, frozenset(items))


def read_candidates(folder: Path, suffix: str) -> dict[str, tuple[str, ...]]:
    """Read the users that are asked, in the order of the file, and their candidates.

    Raises:
        DataError: The file is missing or empty, a line has another form, or a user comes twice.
    """
    path = folder / f"{folder.name}.{suffix}"
    if not path.is_file():
        found = [other for other in folder.glob(f"{folder.name}.*") if other.is_file()]
        there = sorted(other.suffix[1:] for other in found)
        raise DataError(
            f"{path} is not there; with it LLMRank says whom to ask about which candidates.",
            hint=nearest(suffix, there) or f"The folder has {', '.join(there) or 'nothing'}.",
        )
    lists: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        user, tab, items = line.strip().partition("\t")
        if not (user and tab and items.split()) or user in lists:
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is not a user, a tab and item ids with "
                "spaces between, or the user comes twice."
            )
        lists[user] = tuple(items.split())
    if len(lists) < 2:
        raise DataError(
            f"{path} has {len(lists)} to ask about; an interval needs two users or more.",
            hint="A line is a user, a tab and item ids with spaces between.",
        )
    return lists


def asked_lists(
    known: Interactions, candidates: Mapping[str, Sequence[str]], budget: int
) -> list[AskedList]:
    """Make each user's list: ``budget`` items, the target last.

    Raises:
        DataError: A user has no target, or fewer candidates than are needed.
    """
    lists = []
    for user, items in candidates.items():
        if user not in known.targets:
            raise DataError(f"User {user!r} has candidates but no interaction that is held out.")
        target = known.targets[user]
        others = [item for item in items if item != target][: budget - 1]
        if len(others) < budget - 1:
            raise DataError(
                f"User {user!r} has {len(others)} candidates beside the target; "
                f"{budget - 1} are needed.",
                hint=f"Ask with --budget {len(others) + 1}."
                if others
                else "Give the user other candidates, or take the line out.",
            )
        lists.append(AskedList(user, (*others, target)))
    return lists


def popularity_scores(known: Interactions, lists: Sequence[AskedList]) -> NDArray[np.float64]:
    """Training interactions of every candidate, [lists, budget]; NaN for an unknown id."""
    return np.array(
        [
            [known.popularity.get(i, 0) if i in known.items else np.nan for i in one.item_ids]
            for one in lists
        ],
        dtype=np.float64,
    )


def measure(folder: Path, suffix: str, budget: int, seed: int) -> tuple[Row, ...]:
    """The rows of random and of popularity, nDCG at the cutoffs, with paired intervals."""
    if budget < 2:
        raise OptionError(f"--budget {budget}: a list has 2 candidates or more.")
    if seed < 0:
        raise OptionError(f"--seed {seed}: allowed is 0 or more.")
    known = read_interactions(folder)
    lists = asked_lists(known, read_candidates(folder, suffix), budget)
    scores = popularity_scores(known, lists)
    tables = {"random": np.where(np.isnan(scores), np.nan, 0.0), "popularity": scores}
    last = np.full(len(lists), budget - 1)
    ranks = {name: target_ranks(table, last, seed=seed) for name, table in tables.items()}
    return compare_rows(
        {name: {f"ndcg@{k}": ndcg_at(own, k) for k in CUTOFFS} for name, own in ranks.items()},
        [("popularity", "random")],
        seed=seed,
    )


def _read_split(folder: Path) -> Interactions:
    name = folder.name
    targets, popularity = {}, Counter[str]()
    items: set[str] = set()
    for part in ("train", "valid", "test"):
        path = folder / f"{name}.{part}.inter"
        if part == "valid" and not path.exists():
            continue  # it counts for nothing but which ids are known
        for row in _rows(path, USER, HISTORY, ITEM):
            history = row[HISTORY].split()
            items.update(history, [row[ITEM]])
            if part == "test":
                targets[row[USER]] = row[ITEM]
            elif part == "train":
                popularity[row[ITEM]] += 1
                popularity.update(history if len(history) == 1 else ())  # a sequence's beginning
    return Interactions(targets, popularity, frozenset(items))


def _rows(path: Path, *needed: str) -> Iterator[dict[str, str]]:
    """Read an atomic file, columns by name without their type."""
    if not path.is_file():
        raise DataError(
            f"{path} is not there; LLMRank's form has NAME.inter, or NAME.train.inter and "
            "NAME.test.inter, in a folder NAME."
        )
    head, *lines = _lines(path) or [""]
    names = [field.partition(":")[0] for field in head.split("\t")]
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(f"{path} has the columns {names}; {missing[0]!r} is missing.")
    for number, line in enumerate(lines, 2):
        fields = line.split("\t")
        if len(fields) != len(names):
            raise DataError(
                f"{path}, line {number} has {len(fields)} fields for {len(names)} columns."
            )
        yield dict(zip(names, fields, strict=True))


def _lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line} holds the byte {error.object[error.start]:#04x}, which is no "
            "UTF-8.",
            hint="Write it as UTF-8.",
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _time(value: str | None, path: Path, line: int) -> float:
    """The timestamp, or the place in the file where there is none."""
    try:
        time = float(line) if value is None else float(value)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):  # NaN is neither before nor after another time
        raise DataError(
            f"{path}, line {line} has the timestamp {value!r}, which is no finite number.",
            hint="Mend the line, or leave the column out: the order of the file then counts.",
        )
    return time


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Popularity and random by LLMRank's protocol.")
    parser.add_argument("path", type=Path, help="a folder NAME with NAME.inter and NAME.random")
    parser.add_argument("--candidates", default="random", help="suffix of the candidate file")
    parser.add_argument("--budget", type=int, default=20, help="candidates a user, the target too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    try:
        rows = measure(args.path.resolve(), args.candidates, args.budget, args.seed)
    except LlmrecError as error:
        parser.error(str(error))
    command = f"python eval/llmrank_protocol.py {args.path} --candidates {args.candidates}"
    text = (
        f"# LLMRank's protocol: {args.path.resolve().name}, {args.candidates} candidates\n\n"
        f"`{command} --budget {args.budget} --seed {args.seed}`\n\n{markdown_table(rows)}"
    )
    print(text)
    if args.out:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text, encoding="utf-8")
        except OSError as error:
            parser.error(f"--out {args.out} cannot be written: {error.strerror}.")


if __name__ == "__main__":
    main()
