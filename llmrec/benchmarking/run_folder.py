"""The folder of a run: written as results come, opened again after anything.

``run.json`` says what was asked, ``lists.jsonl`` about whom, ``results.jsonl`` what was answered,
one line a cell and user (see ``records``). A result is on the disk before the next is asked for. A
run that was killed leaves at most one half-written line, which is dropped and said.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import RawIOBase
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from llmrec.benchmarking.records import Result, UserList
from llmrec.errors import StorageError
from llmrec.retrieval.storage import is_stored

logger = logging.getLogger(__name__)
Line = TypeVar("Line")

FORMAT = 1
_ABOUT, _LISTS, _RESULTS = "run.json", "lists.jsonl", "results.jsonl"
_SAME = ("fingerprint", "insights", "protocol", "part", "candidates", "seed")
"""What a run may not change half-way: its lists or its prompts would be others."""
_OTHER = {
    "fingerprint": "of another data set, or of this one before it changed",
    "insights": "whose prompts read other captions, opinions or facts of the items",
}
"""Differences that are told without their values, which are digests."""


@dataclass(frozen=True)
class RunFolder:
    """A folder of results.

    Args:
        path: Where it is, or is to be made.
    """

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing here.

        Raises:
            StorageError: Another process does, or the folder cannot be made.
        """
        self._refuse_an_index()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"Another process is writing {self.path}.", hint="Wait, or name another folder."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def about(self) -> Mapping[str, Any]:
        """What run.json says; empty where there is no run yet.

        Raises:
            StorageError: It is damaged, of a later format, or not of a benchmark.
        """
        path = self.path / _ABOUT
        if not path.exists():
            if any((self.path / name).exists() for name in (_LISTS, _RESULTS)):
                raise StorageError(
                    f"{self.path} holds results but no {_ABOUT}.", hint="Name another folder."
                )
            return {}
        try:
            about = json.loads(path.read_text())
            found = about["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{path} is not the description of a benchmark run.", hint="Name another folder."
            ) from error
        if found != FORMAT:
            raise StorageError(
                f"{path} has format {found}; this llmrec reads {FORMAT}.",
                hint="Run the benchmark again into another folder.",
            )
        missing = [name for name in (*_SAME, "benchmark", "cells") if name not in about]
        if missing:
            raise StorageError(
                f"{path} does not say its {', '.join(missing)}.", hint="Name another folder."
            )
        return dict(about)

    def begin(self, about: Mapping[str, object], lists: Sequence[UserList]) -> None:
        """Say what is asked about whom, or check that it is what this folder was begun with.

        More users and other cells may be asked for later; another data set, protocol, number of
        candidates or seed may not.

        Raises:
            StorageError: The folder is another benchmark's, or cannot be written.
        """
        known = self.refuse_another(about, lists)
        # The description first: lists without one would be of nobody knows what.
        self.write(_ABOUT, json.dumps({"format": FORMAT, **about}, indent=1) + "\n")
        kept = [known.get(one.user_id, one) for one in lists]
        self.write(_LISTS, "".join(f"{one.to_json()}\n" for one in kept))

    def refuse_another(
        self, about: Mapping[str, object], lists: Sequence[UserList]
    ) -> dict[str, UserList]:
        """Check that what the folder holds, if anything, is this run's; nothing is written.

        Returns:
            The lists that it holds, by user.

        Raises:
            StorageError: It is another run's, or damaged, or no folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StorageError(f"{self.path} is no folder.", hint="Name another one for --out.")
        self._refuse_an_index()
        before = self.about()
        for name in _SAME:
            if before and before[name] != about[name]:
                with_what = _OTHER.get(name, f"with {name} {before[name]!r}, not {about[name]!r}")
                raise StorageError(
                    f"{self.path} holds a run {with_what}: their results cannot stand in one "
                    "table.",
                    hint="Name another folder for --out.",
                )
        known = {one.user_id: one for one in self.lists()}
        changed = [one.user_id for one in lists if not _alike(known.get(one.user_id, one), one)]
        if changed:
            raise StorageError(
                f"{self.path} was begun with other candidates for user {changed[0]!r}: the index "
                "or its weights have changed since.",
                hint="Name another folder for --out.",
            )
        return known

    def lists(self) -> tuple[UserList, ...]:
        """Whom the run asks about.

        Raises:
            StorageError: The file is damaged or cannot be read.
        """
        path = self.path / _LISTS
        if not path.exists():
            return ()
        return self._read(path, _bytes_of(path), UserList.from_json, "Name another folder.")

    def results(self) -> tuple[Result, ...]:
        """Everything that was answered; a half-written last line is dropped, and said.

        Raises:
            StorageError: Another line is damaged, or the file cannot be read.
        """
        path = self.path / _RESULTS
        if not path.exists():
            return ()
        whole, _, half = _bytes_of(path).rpartition(b"\n")
        if half:
            logger.warning("The last line of %s was half-written and is asked again.", path)
        hint = "Take the line out: its user is asked again."
        return self._read(path, whole, Result.from_json, hint)

    @contextmanager
    def appending(self) -> Iterator[RawIOBase]:
        """The results, to be added to by `add`; a half-written last line is taken off first.

        Raises:
            StorageError: There is no leave to write.
        """
        path = self.path / _RESULTS
        try:
            if path.exists():
                whole = path.read_bytes().rpartition(b"\n")[0]
                os.truncate(path, len(whole) + 1 if whole else 0)
            file = path.open("ab", buffering=0)  # nothing is left to be written at its end
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            yield file

    def add(self, file: RawIOBase, results: Sequence[Result]) -> None:
        """Put results on the disk.

        Raises:
            StorageError: There is no room, or no leave to write.
        """
        try:
            lines = memoryview(b"".join(result.to_json().encode() + b"\n" for result in results))
            while lines:  # a disk that is nearly full takes a part
                lines = lines[file.write(lines) or 0 :]
            os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    @staticmethod
    def _read(
        path: Path, lines: bytes, read: Callable[[bytes], Line], hint: str
    ) -> tuple[Line, ...]:
        found = []
        for number, line in enumerate(lines.splitlines(), start=1):
            try:
                found.append(read(line))
            except StorageError as error:
                raise StorageError(f"{path}, line {number}: {error.message}", hint=hint) from error
        return tuple(found)

    def write(self, name: str, text: str) -> None:
        """Replace a file at one stroke; what no UTF-8 can hold is written as its escape.

        Raises:
            StorageError: It cannot be written.
        """
        beside = self.path / f"{name}.new"
        try:
            # A command line may hold bytes that are no text: r\xff is read, and written, r\udcff.
            with beside.open(
                "w", encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path / name)
        except OSError as error:
            raise self._unwritable(error) from error

    def _refuse_an_index(self) -> None:
        if is_stored(self.path) and not (self.path / _ABOUT).exists():
            raise StorageError(
                f"{self.path} holds an index, not a run.", hint="Name another folder for --out."
            )

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"The run {self.path} cannot be written: {error.strerror}.",
            hint="What was answered is kept: with room and leave to write, the same command goes "
            "on.",
        )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Give leave to read it, or name another folder.",
        ) from error


def _alike(one: UserList, other: UserList) -> bool:
    """The same list; sums of float32 in another order, on another machine, are no other scores."""
    if replace(one, retrieval=other.retrieval) != other:
        return False
    a, b = (np.array(some.retrieval, dtype=np.float64) for some in (one, other))
    return bool(np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True))
