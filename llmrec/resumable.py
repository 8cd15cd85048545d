"""One JSON-lines log that survives kill -9: requests, benchmark runs and evaluations resume on it.

    with ResumableLog(path, fingerprints=fingerprint(model.revision, settings)) as log:
        done = {row["key"] for row in log.rows}
        for key in keys:
            if key not in done:
                log.append({"key": key, "score": ask(key)})

A killed process leaves at most one half-written last line, which is dropped with a warning the next
time the log is opened. A lock file beside the log keeps other processes out until it is closed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from llmrec.documents import parse_json
from llmrec.errors import StorageError
from llmrec.locks import holder_of

logger = logging.getLogger(__name__)
Row = dict[str, Any]


class ResumableLog:
    """A JSON-lines file, locked until `close`; also a context manager.

    ``rows`` holds all rows, read and appended, without their checksums.

    Args:
        path: The file; created with the first row.
        fingerprints: Hash of everything else that rows depend on (see `fingerprint`): one for all
            rows, or one for each row, in order. It is written into each row and checked on opening.
        checksums: Write a checksum into each row and check it on opening, to detect edits.

    Raises:
        StorageError: Another process has the file open, it cannot be read or written, a line before
            the last is damaged, or the file was started with other settings.
    """

    def __init__(
        self, path: str | Path, *, fingerprints: str | Sequence[str] = "", checksums: bool = False
    ) -> None:
        self.path, self.rows = Path(path), list[Row]()
        self._fingerprints, self._checksums = fingerprints, checksums
        self._lock = FileLock(f"{path}.lock", timeout=0)
        with storage_errors(self.path), ExitStack() as opening:
            opening.callback(self.close)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self.rows, half = _rows(self.path, self._checksums)
            for at, row in enumerate(self.rows):
                if not self._mark(at).items() <= row.items():
                    why = f"Line {at + 1} of {path} has another request, model, index or setting."
                    hint = "Name another file, or use the input and settings of its first run."
                    raise StorageError(why, hint=hint)
            if half:
                os.truncate(self.path, self.path.stat().st_size - half)
            opening.pop_all()

    def append(self, *rows: Mapping[str, object]) -> None:
        """Write rows at once; they are on disk when this returns.

        Raises:
            StorageError: The disk is full or the file may not be written.
        """
        new: list[Row] = [{**self._mark(at), **row} for at, row in enumerate(rows, len(self.rows))]
        left = memoryview(b"".join(encode_row(row, checksum=self._checksums) for row in new))
        with storage_errors(self.path), self.path.open("ab", buffering=0) as file:
            while left:  # a nearly full disk writes only a part
                left = left[file.write(left) or 0 :]
            os.fsync(file.fileno())
        self.rows += new

    def close(self, *_: object) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    __exit__ = close

    def _mark(self, at: int) -> Row:
        known = self._fingerprints
        if isinstance(known, str):
            return {"fingerprint": known} if known else {}
        return {"fingerprint": known[at] if at < len(known) else ""}


def read_rows(path: str | Path, *, checksums: bool = False) -> list[Row]:
    """Read a log without locking it; errors as `ResumableLog`. A missing file has no rows."""
    with storage_errors(path, "read"):
        return _rows(Path(path), checksums)[0]


def fingerprint(*parts: str | bytes) -> str:
    """A hash of the parts: 16 hex digits."""
    whole = b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(whole).hexdigest()[:16]


def encode_row(row: Mapping[str, object], *, checksum: bool = False) -> bytes:
    """One line of JSON; NaN and infinity raise ValueError."""
    signed = {**row, "checksum": row_checksum(row)} if checksum else dict(row)
    return json.dumps(signed, allow_nan=False).encode() + b"\n"


@contextmanager
def storage_errors(path: str | Path, verb: str = "written") -> Iterator[None]:
    """Turn file system errors into a StorageError with the file and the way out."""
    try:
        yield
    except Timeout as error:
        hint = "Wait until it ends, or name another file."
        holder = holder_of(Path(f"{path}.lock"))
        raise StorageError(f"{path} is being written by {holder}.", hint=hint) from error
    except OSError as error:
        hint = "Free disk space or fix permissions, then run the same command to resume."
        if isinstance(error, IsADirectoryError):
            hint = "Name a file, or move the folder, then run the same command to resume."
        raise StorageError(f"{path} cannot be {verb}: {error.strerror}.", hint=hint) from error


def row_checksum(row: Mapping[str, object]) -> str:
    """The checksum of a row without one."""
    return fingerprint(json.dumps(row, sort_keys=True, allow_nan=False, separators=(",", ":")))


def _rows(path: Path, checksums: bool) -> tuple[list[Row], int]:
    """The complete rows, and the length of the half-written line after them."""
    *lines, half = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if half:
        logger.warning("The last line of %s was half-written: it is dropped and redone.", path)
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
            if not isinstance(row, dict) or (
                checksums and row.pop("checksum", 0) != row_checksum(row)
            ):
                raise ValueError("it was edited, or this is another kind of file")
        except ValueError as error:
            hint = "Delete the line to redo it, or name another file."
            raise StorageError(f"Line {number} of {path} is damaged: {error}.", hint=hint) from None
        rows.append(row)
    return rows, len(half)
