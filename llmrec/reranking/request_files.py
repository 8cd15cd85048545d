"""Rerank a file of requests into a file of results that survives being killed.

A request is one JSON line: ``{"user_id": "7", "candidates": ["a", "b"]}``, and where wanted
``request_id`` (any text, given back) and ``history`` (item ids, oldest first, for a user whom the
index does not know). A result is one JSON line too, in the order of the requests, on the disk
before the next request is begun. It says which request it is for, so a run that was killed goes on
where it stopped and never mixes results of different requests or settings.

Results hold no seconds: an interrupted run comes to the same but for the last digits of scores.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from llmrec.errors import (
    DataError,
    HardwareError,
    LlmrecError,
    OptionError,
    OutOfMemoryError,
    ServerError,
    StorageError,
)
from llmrec.models.protocol import REQUEST_FAILED, REQUEST_REFUSED
from llmrec.records import RankedItem, Ranking, Usage

logger = logging.getLogger(__name__)

_PASSING = (OutOfMemoryError, HardwareError, ServerError, StorageError)
"""What another run may not meet: kept as results, these would never be tried again."""


class Request(BaseModel):
    """One line of a requests file: whose candidates are to be ranked.

    Args:
        user_id: The user.
        candidates: Item ids, in any order.
        request_id: Given back with the result.
        history: Item ids, oldest first, that stand for the user's history; None takes the index's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    user_id: str
    candidates: tuple[str, ...]
    request_id: str | None = None
    history: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of a requests file.

    ``reranked`` requests were dealt with by this run and ``resumed`` by earlier ones. ``failed``
    counts the results that are errors, ``incomplete`` those of which a server failed or refused
    some requests, so that not every candidate is judged; both of this run and of earlier ones.
    ``usage`` is this run's.
    """

    reranked: int
    resumed: int
    failed: int
    incomplete: int = 0
    usage: Usage = field(default_factory=Usage)


def rerank_file(
    requests: str | Path,
    out: str | Path,
    rerank: Callable[[Request], Ranking],
    *,
    settings: str = "",
    progress: bool = False,
) -> FileOutcome:
    """Answer every request of a file, going on where an earlier run stopped.

    A request that cannot be answered gives a result with ``error`` instead of ``items`` and does
    not stop the run. What another run may not meet does stop it (memory, hardware or a file that
    fails): what was finished stays, and the next run goes on with that request. A half-written
    last line, left by a run that was killed, is dropped and its request is answered again. While
    it runs it holds a lock, a file beside ``out``.

    Args:
        requests: JSON lines; blank ones do not count.
        out: Results are appended here; it is made where it is missing.
        rerank: Answers one request.
        settings: What results depend on beside the requests (strategy, model, index...): a file
            that was begun with others is not continued.
        progress: Show a bar on stderr, where that is a terminal.

    Raises:
        DataError: The requests cannot be read, or there are none.
        OptionError: ``out`` is the requests file itself.
        StorageError: ``out`` cannot be written, is being written by another process, is damaged
            before its last line, or holds results of other requests or settings.
        ModelError: ``rerank`` raised OutOfMemoryError or HardwareError.
    """
    requests, out = Path(requests), Path(out)
    lines = read_requests(requests)
    if out.exists() and out.samefile(requests):
        raise OptionError(
            f"{out} holds the requests: results would be written into it.",
            hint="Name another file for the results.",
        )
    keys = [_key(line, settings) for line in lines]
    usage = Usage()
    with _locked(out):
        found = _finished(out, keys)
        resumed = found.total()
        with _opened(out) as file:
            rows = range(resumed, len(lines))
            for row in tqdm(
                rows,
                desc="Reranking",
                unit="request",
                initial=resumed,
                total=len(lines),
                disable=None if progress else True,
            ):
                result, spent = _answer(lines[row], rerank)
                found[_kind(result)] += 1
                usage += spent
                _append(file, {"position": row + 1, "fingerprint": keys[row], **result}, out)
    return FileOutcome(len(rows), resumed, found["failed"], found["incomplete"], usage)


def read_requests(requests: Path) -> list[bytes]:
    """Read the lines of a requests file that are not blank, one a request.

    Raises:
        DataError: The file cannot be read, or holds none.
    """
    try:
        lines = [line.strip() for line in requests.read_bytes().splitlines()]
    except OSError as error:
        raise DataError(
            f"The requests file {requests} cannot be read: {error.strerror}.",
            hint='Give a file with one JSON object a line: {"user_id": ..., "candidates": [...]}.',
        ) from error
    if not any(lines):
        raise DataError(f"The requests file {requests} holds no request.")
    return [line for line in lines if line]


def _key(line: bytes, settings: str) -> str:
    return hashlib.sha256(settings.encode() + b"\0" + line).hexdigest()[:16]


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    lock = FileLock(f"{out}.lock", timeout=0)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise StorageError(
            f"Another process is writing {out}.", hint="Wait for it, or name another file."
        ) from error
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield
    finally:
        lock.release()


def _finished(out: Path, keys: Sequence[str]) -> Counter[str]:
    """Count the results that are there, by kind; drop a half-written last one."""
    whole, found = 0, Counter[str]()
    try:
        with out.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    logger.warning(
                        "The last line of %s was half-written: its request is answered again.", out
                    )
                    break
                found[_check(line, found.total(), keys, out)] += 1
                whole += len(line)
        os.truncate(out, whole)
    except FileNotFoundError:
        return found
    except OSError as error:
        raise _unwritable(out, error) from error
    return found


def _check(line: bytes, row: int, keys: Sequence[str], out: Path) -> str:
    """Say of what kind a result is, after making sure that it belongs where it stands."""
    try:
        result = json.loads(line)
        position, key, kind = result["position"], result["fingerprint"], _kind(result)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"Line {row + 1} of {out} is not a result: it is damaged, or another kind of file.",
            hint="Name another file for the results.",
        ) from error
    if position != row + 1 or row >= len(keys) or key != keys[row]:
        raise StorageError(
            f"Line {row + 1} of {out} is the result of another request, or was made with another "
            "model, index or setting.",
            hint="Name another file, or give the requests and settings that it was begun with.",
        )
    return kind


def _kind(result: Mapping[str, Any]) -> str:
    if "error" in result:
        return "failed"
    unanswered = {REQUEST_FAILED, REQUEST_REFUSED} & result["fallbacks"].keys()
    return "incomplete" if unanswered else "whole"


@contextmanager
def _opened(out: Path) -> Iterator[BinaryIO]:
    try:
        file = out.open("ab")
    except OSError as error:
        raise _unwritable(out, error) from error
    with file:
        yield file


def _append(file: BinaryIO, result: dict[str, object], out: Path) -> None:
    try:
        file.write(json.dumps(result, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The results file {out} cannot be written: {error.strerror}.",
        hint="What was finished is kept: with room and leave to write, the same command goes on.",
    )


def _answer(line: bytes, rerank: Callable[[Request], Ranking]) -> tuple[dict[str, object], Usage]:
    """Answer a request: its result, or what went wrong, and what was spent on it."""
    asked: dict[str, object] = {}
    try:
        request = _parse(line)
        asked = {"user_id": request.user_id}
        if request.request_id is not None:
            asked["request_id"] = request.request_id
        ranking = rerank(request)
    except _PASSING:
        raise
    except LlmrecError as error:
        fault = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        return {**asked, "error": fault}, Usage()
    result = {
        **asked,
        "items": [_item(item) for item in ranking.items],
        "fallbacks": dict(ranking.fallbacks),
        "weights": dict(ranking.weights),
    }
    return result, ranking.usage


def _parse(line: bytes) -> Request:
    try:
        return Request.model_validate_json(line)
    except ValidationError as error:
        faults = "; ".join(
            ": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors()
        )
        raise DataError(
            f"The request is not usable: {faults}.",
            hint='A request is {"user_id": ..., "candidates": [...]}, and where wanted '
            "request_id and history.",
        ) from error


def _item(item: RankedItem) -> dict[str, object]:
    return {
        "item_id": item.item_id,
        "rank": item.rank,
        "retrieval_rank": item.retrieval_rank,
        "score": item.score,
        "status": item.status.value,
        "signals": dict(item.signals),
    }
