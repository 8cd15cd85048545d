"""The results of a run: one JSON line a cell and user in the run's folder, by cell in memory.

``run.json`` describes the run, ``lists.jsonl`` holds its users and candidates, ``results.jsonl``
the results (see `llmrec.resumable`). Lines have checksums; pandas, polars and DuckDB read them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrec.benchmarking.users import UserList
from llmrec.documents import parse_json
from llmrec.errors import StorageError, shown
from llmrec.resumable import (
    ResumableLog,
    encode_row,
    read_rows,
    row_checksum,
    storage_errors,
)
from llmrec.retrieval.storage import is_stored

FORMAT = 1
PEAK, PRICE = "peak MiB", "price"
NOTHING_JUDGED = "lists_without_a_judgement"
"""Users without any scored candidate: their ranking is the given order."""
_ABOUT, _LISTS, _RESULTS = "run.json", "lists.jsonl", "results.jsonl"
_SAME = ("fingerprint", "insights", "protocol", "part", "candidates", "seed")
"""What must not change within a run: its candidates or prompts would differ."""
_KINDS: Mapping[str, type] = {
    "fingerprint": str, "protocol": str, "part": str, "seed": int, "benchmark": dict, "cells": list,
}  # fmt: skip
_OTHER = {
    "fingerprint": "of another data set, or of this one before it changed",
    "insights": "whose prompts show other captions, opinions or facts of the items",
}
"""How differences of digests are reported."""
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_ELSEWHERE = "Name another folder for --out."
_DAMAGED = "Restore the file, or name another folder."
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that took the place of scores."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one cell for one user.

    ``place`` is None in the main run; otherwise the position, from 1, at which the target was
    planted to measure order bias. ``scores`` are in the order of the user's candidates wherever
    they stood in the prompt, higher is better, None: not scored; empty beside a ``fault``.
    ``tokens_given`` counts the tokens of the prompts, ``tokens_forwarded`` those that went through
    the model. ``peak_mib`` is the peak memory while asking, of the GPUs or else of the process.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    cell: str
    user_id: str
    scores: tuple[float | None, ...] = ()
    place: int | None = None
    fault: Failure | None = None
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    prompts: int = 0
    tokens_given: int = 0
    tokens_forwarded: int = 0
    tokens_generated: int = 0
    forwards: int = 0
    seconds: float = 0.0
    peak_mib: float | None = None

    def to_row(self) -> dict[str, object]:
        """The fields of its line."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fault = None if self.fault is None else asdict(self.fault)
        return {**fields, "fault": fault, "fallbacks": dict(self.fallbacks)}


_LIST, _RESULT = TypeAdapter(UserList), TypeAdapter(Result)


@dataclass(frozen=True, slots=True)
class CellResults:
    """The results of one cell, [n_users] in the order of the users, None where it was not asked.

    ``planted`` holds the same for each position at which the target was planted.
    """

    main: tuple[Result | None, ...]
    planted: Mapping[int, tuple[Result | None, ...]]

    @property
    def asked(self) -> list[Result]:
        """The results of the main run, faults among them."""
        return [result for result in self.main if result is not None]

    @property
    def answered(self) -> list[Result]:
        """The results of the main run without faults."""
        return [result for result in self.asked if result.fault is None]

    @property
    def faults(self) -> dict[str, int]:
        """Failed users by type of error."""
        return dict(Counter(result.fault.type for result in self.asked if result.fault))

    @property
    def fallbacks(self) -> dict[str, int]:
        """Fallbacks by name."""
        counts: Counter[str] = Counter()
        for result in self.asked:
            counts.update(result.fallbacks)
        nothing = sum(all(score is None for score in one.scores) for one in self.answered)
        return dict(counts) | ({NOTHING_JUDGED: nothing} if nothing else {})

    @property
    def cost(self) -> dict[str, float]:
        """Means over answered users, percentiles of the seconds, and the peak memory.

        Failed users are left out: they cost nothing and would make a row look cheap.
        """
        results = self.answered
        if not results:
            return {}
        names = ("tokens_given", "tokens_forwarded", "tokens_generated", "prompts", "forwards")
        seconds = [result.seconds for result in results]
        peaks = [result.peak_mib for result in results if result.peak_mib is not None]
        return {
            **{
                name.replace("_", " "): float(np.mean([getattr(one, name) for one in results]))
                for name in names
            },
            "seconds p50": float(np.percentile(seconds, 50)),
            "seconds p95": float(np.percentile(seconds, 95)),
            **({PEAK: max(peaks)} if peaks else {}),
        }

    @property
    def scores(self) -> list[tuple[float | None, ...] | None]:
        """The scores of the main run."""
        return scores_of(self.main)


def scores_of(results: Sequence[Result | None]) -> list[tuple[float | None, ...] | None]:
    """Scores by user; None if there is none: an error is never a score."""
    return [None if result is None or result.fault else result.scores for result in results]


class Results:
    """All results of a run: read once, added to as they come; later ones replace earlier ones."""

    def __init__(self, results: Iterable[Result] = (), log: ResumableLog | None = None) -> None:
        self._log = log
        self._found: dict[str, dict[int | None, dict[str, Result]]] = {}
        self._keep(results)

    def add(self, *results: Result) -> None:
        """Write results; they are on the disk when this returns.

        Raises:
            StorageError: The disk is full or the folder may not be written.
        """
        if self._log is not None:
            self._log.append(*(result.to_row() for result in results))
        self._keep(results)

    def __iter__(self) -> Iterator[Result]:
        for places in self._found.values():
            for of_place in places.values():
                yield from of_place.values()

    def __contains__(self, name: tuple[str, str, int | None]) -> bool:
        """Whether there is one of this cell's key, user and position."""
        cell, user_id, place = name
        return user_id in self._found.get(cell, {}).get(place, {})

    def of(self, cell: str, users: Sequence[UserList]) -> CellResults:
        """The results of a cell, by its key, for these users."""
        places = self._found.get(cell, {})
        ordered = {
            place: tuple(of_place.get(one.user_id) for one in users)
            for place, of_place in places.items()
        }
        main = ordered.pop(None, (None,) * len(users))
        planted = {place: ordered[place] for place in sorted(p for p in ordered if p is not None)}
        return CellResults(main, {p: own for p, own in planted.items() if any(own)})

    def _keep(self, results: Iterable[Result]) -> None:
        for one in results:
            self._found.setdefault(one.cell, {}).setdefault(one.place, {})[one.user_id] = one


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Args:
        path: The folder, new or existing.
    """

    path: Path

    @contextmanager
    def open(self, about: Mapping[str, object], users: Sequence[UserList]) -> Iterator[Results]:
        """Start a run or resume it, locked against other processes.

        More users and other cells may be asked for than before; another data set, protocol, number
        of candidates or seed may not.

        Raises:
            StorageError: The folder is another benchmark's, is in use, or cannot be written.
        """
        self.refuse_another(about, users)
        with ResumableLog(self.path / _RESULTS, checksums=True) as log:
            known = self.refuse_another(about, users)  # no other process has written since
            plain = json.loads(json.dumps({"format": FORMAT, **about}, allow_nan=False))
            plain["checksum"] = row_checksum(plain)
            self.write(_ABOUT, json.dumps(plain, indent=1) + "\n")
            lists = [asdict(known.get(one.user_id, one)) for one in users]
            self.write(_LISTS, b"".join(encode_row(one, checksum=True) for one in lists).decode())
            yield Results(self._typed(log.rows, _RESULT, _RESULTS), log)

    def about(self) -> Mapping[str, Any]:
        """The content of run.json; empty if there is no run yet.

        Raises:
            StorageError: It is damaged, of another format, or not of a benchmark.
        """
        path = self.path / _ABOUT
        if not path.exists():
            results = self.path / _RESULTS
            if (self.path / _LISTS).exists() or (results.exists() and results.stat().st_size):
                raise StorageError(f"{self.path} has results but no {_ABOUT}.", hint=_DAMAGED)
            return {}
        try:
            about = parse_json(path.read_text(encoding="utf-8"))
            found = about["format"]
            whole = about.pop("checksum", None) in {None, row_checksum(about)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} is not of a benchmark run.", hint=_DAMAGED) from error
        if found != FORMAT:
            raise StorageError(
                f"{path} has format {found}; this version reads format {FORMAT}.",
                hint="Run the benchmark again into another folder.",
            )
        if not whole:
            raise StorageError(
                f"{path} is damaged: its content does not match its checksum.", hint=_DAMAGED
            )
        missing = [name for name in (*_SAME, "benchmark", "cells") if name not in about]
        if missing:
            raise StorageError(f"{path} lacks {', '.join(missing)}.", hint=_DAMAGED)
        wrong = [name for name, kind in _KINDS.items() if not isinstance(about[name], kind)]
        if wrong:
            found = shown(about[wrong[0]])
            raise StorageError(f"{path} is damaged: {wrong[0]} is {found}.", hint=_DAMAGED)
        return dict(about)

    def refuse_another(
        self, about: Mapping[str, object], users: Sequence[UserList]
    ) -> dict[str, UserList]:
        """Check that the folder is empty or holds this run; nothing is written.

        Returns:
            The users that it holds, by id.

        Raises:
            StorageError: It is another run's, damaged, or not a folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StorageError(f"{self.path} is not a folder.", hint=_ELSEWHERE)
        if is_stored(self.path) and not (self.path / _ABOUT).exists():
            raise StorageError(f"{self.path} holds an index, not a run.", hint=_ELSEWHERE)
        before = self.about()
        for name in _SAME:
            if before and before[name] != about[name]:
                which = _OTHER.get(name, f"with {name} {before[name]!r}, not {about[name]!r}")
                raise StorageError(f"{self.path} holds a run {which}.", hint=_ELSEWHERE)
        known = {one.user_id: one for one in self.users()}
        changed = [one.user_id for one in users if not _same(known.get(one.user_id, one), one)]
        if changed:
            raise StorageError(
                f"{self.path} holds other candidates for user {changed[0]!r}: the data or the "
                "retriever's weights have changed.",
                hint=_ELSEWHERE,
            )
        return known

    def users(self) -> tuple[UserList, ...]:
        """The users of the run; StorageError where the file is damaged or cannot be read."""
        rows = read_rows(self.path / _LISTS, checksums=True)
        for row in rows:
            if "target" in row:  # of versions with one target a user
                row["targets"] = [row.pop("target")]
                row.pop("reached", None)
        return self._typed(rows, _LIST, _LISTS)

    def results(self) -> Results:
        """All results; StorageError where a line is damaged or the file cannot be read."""
        return Results(
            self._typed(read_rows(self.path / _RESULTS, checksums=True), _RESULT, _RESULTS)
        )

    def write(self, name: str, text: str) -> None:
        """Replace a file atomically; what UTF-8 cannot hold is written as its escape.

        Raises:
            StorageError: It cannot be written.
        """
        beside = self.path / f"{name}.new"
        with storage_errors(self.path / name):
            # A command line may hold bytes that are no text: r\xff is read, and written, r\udcff.
            with beside.open(
                "w", encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path / name)

    def _typed(
        self, rows: Iterable[Mapping[str, Any]], adapter: TypeAdapter[T], name: str
    ) -> tuple[T, ...]:
        found = []
        for number, row in enumerate(rows, start=1):
            try:
                found.append(adapter.validate_python(row))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise StorageError(
                    f"Line {number} of {self.path / name} is damaged: {where}: {first['msg']}.",
                    hint="Delete the line to redo it, or name another folder.",
                ) from error
        return tuple(found)


def _same(one: UserList, other: UserList) -> bool:
    """The same list, up to rounding of the retriever's scores on another machine."""
    if replace(one, retrieval=other.retrieval) != other:
        return False
    a, b = (np.array(some.retrieval, dtype=np.float64) for some in (one, other))
    return bool(np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True))
