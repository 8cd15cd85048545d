"""Rank a file of requests into a file of results. A killed run resumes where it stopped.

JSON lines: one request per line (see `read_request`), one result per line, in the same order.
CSV and Parquet: one row per user and candidate; the output adds ``score`` and ``rank``.

Results hold no seconds: a resumed run gives the same results, except for the last digits of scores.
"""

from __future__ import annotations

import codecs
import csv
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from llmrec.catalog.tables import (
    Findings,
    file_content,
    first_few,
    problems_error,
    read_file,
    read_parquet,
    suffix_of,
)
from llmrec.catalog.values import decoded, is_missing, parse_id
from llmrec.documents import parse_json
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
from llmrec.prompting import Context
from llmrec.records import RankedItem, Ranking, Usage
from llmrec.reranking.requests import Request, read_request
from llmrec.resumable import ResumableLog, fingerprint, storage_errors

logger = logging.getLogger(__name__)

_PASSING = (OutOfMemoryError, HardwareError, ServerError, StorageError)
"""Passing errors: they stop the run and are not saved as results."""
_OF_REQUEST = ("user_id", "request_id", "history", "query", "profile", "neutral_rating")
"""Request columns of a table; all others are candidate columns."""
_NOT_SHOWN = {"", "relevant", "rank", "error", "retrieval_score"}
"""Columns copied to the results but never shown to the model, such as labels."""
_HINT = (
    'A request is {"candidates": [...]}, and optionally user_id, history, profile, query, '
    "neutral_rating and request_id. See docs/data.md#request-files."
)

Rank = Callable[[Sequence[Request]], Sequence[Ranking]]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """Counts of a requests file.

    This run went through ``reranked`` requests, earlier runs through ``resumed``; failed ones
    among them. ``failed`` counts errors,
    ``incomplete`` results with unscored candidates because a server failed or refused prompts; both
    include earlier runs, and so does ``fallbacks``, the sum over all results. ``usage`` is of this
    run only.
    """

    reranked: int
    resumed: int
    failed: int
    incomplete: int = 0
    usage: Usage = field(default_factory=Usage)
    fallbacks: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class _Line:
    """One request of a file: its JSON text, and its rows if the file is a table."""

    text: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    lines: tuple[_Line, ...]
    table: tuple[dict[str, Any], ...] = ()


def rank_file(
    requests: str | Path,
    out: str | Path,
    rank: Rank,
    *,
    known: Context | None = None,
    settings: str = "",
    window: int = 8,
    progress: bool = False,
) -> FileOutcome:
    """Answer every request of a file, resuming where an earlier run stopped.

    A failed request gives a result with ``error`` instead of ``items``, and the run continues.
    Passing errors (memory, hardware, server) stop the run: finished results stay, and the next run
    starts with that request. A half-written last line of a killed run is dropped and its request
    answered again.

    Args:
        requests: ``.jsonl`` (or any other suffix), ``.csv`` or ``.parquet``.
        out: The results, in the format of its suffix. A table is written when all requests are
            answered; until then results are kept in ``OUT.log``.
        rank: Ranks several requests in one call.
        known: An index or a table of items; requests may use its ids.
        settings: Everything else that results depend on (strategy, model, index...). A file with
            other settings is not resumed.
        window: Requests ranked and written together.
        progress: Show a progress bar on stderr if it is a terminal.

    Raises:
        DataError: The requests cannot be read, or there are none.
        OptionError: ``out`` is the requests file itself, or is a table while the requests are JSON
            lines.
        StorageError: ``out`` cannot be written, is in use by another process, is damaged before its
            last line, or holds results of other requests or settings.
        ModelError: ``rank`` raised OutOfMemoryError, HardwareError or ServerError.
    """
    requests, out = Path(requests), Path(out)
    source = _read(requests)
    if out.exists() and out.samefile(requests):
        raise OptionError(
            f"{out} is the requests file: results would overwrite it.",
            hint="Name another file for the results.",
        )
    as_table = _suffix(out) in {".csv", ".parquet"}
    if as_table and not source.table:
        raise OptionError(
            f"{out} is a table, but {requests} holds JSON lines.",
            hint="Name a .jsonl file for the results, or give the requests as .csv or .parquet.",
        )
    lines = source.lines
    usage, counts = Usage(), Counter[str]()
    log = ResumableLog(
        out.with_name(f"{out.name}.log") if as_table else out,
        fingerprints=[fingerprint(settings, line.text) for line in lines],
        checksums=True,
    )
    with log:
        resumed = len(log.rows)
        counts.update(map(_kind, log.rows))
        with tqdm(
            desc="Reranking",
            unit="request",
            initial=resumed,
            total=len(lines),
            disable=None if progress else True,
        ) as bar:
            for start in range(resumed, len(lines), window):
                batch = [line.text for line in lines[start : start + window]]
                for results, spent in _answers(batch, rank, known):
                    log.append(*results)
                    usage += spent
                    counts.update(map(_kind, results))
                    bar.update(len(results))
        if as_table:
            _write_table(out, source, log.rows)
    fallbacks = Counter[str]()
    for row in log.rows:
        fallbacks.update(row.get("fallbacks", {}))
    return FileOutcome(
        len(lines) - resumed,
        resumed,
        counts["failed"],
        counts["incomplete"],
        usage,
        dict(fallbacks),
    )


def read_requests(requests: str | Path, known: Context | None = None) -> tuple[Request, ...]:
    """Read all requests of a file.

    Raises:
        DataError: The file cannot be read, holds no request, or requests are invalid: the first
            few are named. One that is invalid alone raises its own error.
    """
    read = [_parsed(line.text, known) for line in _read(Path(requests)).lines]
    faults = {n: each for n, each in enumerate(read, start=1) if isinstance(each, LlmrecError)}
    if len(faults) > 1:
        shown = first_few([f"Request {n}: {error.message}" for n, error in faults.items()])
        raise DataError(
            f"{len(faults):,} of {len(read):,} requests are invalid: {shown}",
            hint="Correct or remove them.",
        )
    for number, error in faults.items():
        raise type(error)(f"Request {number}: {error.message}", hint=error.hint) from error
    return tuple(each for each in read if isinstance(each, Request))


def check_requests(requests: str | Path) -> int:
    """Count the requests of a file.

    Raises:
        DataError: The file cannot be read, or holds no request.
    """
    return len(_read(Path(requests)).lines)


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _read(path: Path) -> _Source:
    try:
        if suffix_of(path) == ".parquet":
            table = read_parquet(path)
            source = _requests_of(table.to_pylist(), table.column_names, path)
        elif suffix_of(path) in {".csv", ".tsv"}:
            source = _requests_of(*_csv_rows(path), path)
        else:
            content = file_content(path).removeprefix(codecs.BOM_UTF8)
            if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                content = decoded(content).encode()
            if suffix_of(path) == ".json" and content.lstrip().startswith(b"["):
                content = b"\n".join(json.dumps(each).encode() for each in parse_json(content))
            # Invalid UTF-8 becomes an escape that JSON refuses, so only that line fails.
            lines = (
                line.strip().decode(errors="backslashreplace") for line in content.split(b"\n")
            )
            source = _Source(tuple(_Line(line) for line in lines if line))
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DataError(
            f"The requests file {path} cannot be read: {reason}.", hint=_HINT
        ) from error
    if not source.lines:
        raise DataError(f"The requests file {path} holds no request.")
    return source


def _csv_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    findings = Findings()
    columns = read_file(path, "items", findings).columns
    if findings.problems:
        raise problems_error(findings.problems, f"'{path}'", "Correct or remove the rows.")
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows], list(columns)


def _requests_of(rows: list[dict[str, Any]], columns: Sequence[str], path: Path) -> _Source:
    """Group the rows of a table into requests, by ``request_id`` if present, else by user.

    A request's fields come from its first row with a value.
    """
    if "user_id" not in columns and "request_id" not in columns:
        raise DataError(
            f"{path} has no column user_id; it has {', '.join(columns)}.",
            hint="Give one row per user and candidate: user_id, item_id, title, score...",
        )
    if {"score", "retrieval_score"} <= set(columns):
        raise DataError(
            f"{path} has the columns score and retrieval_score; results rename the former so.",
            hint="Remove or rename one of them.",
        )
    groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        owners = ((name, row.get(name)) for name in ("request_id", "user_id"))
        owner = next((each for each in owners if not is_missing(each[1])), None)
        if owner is None:
            raise DataError(
                f"Row {place + 1:,} of {path} has neither user_id nor request_id.",
                hint="Fill the cell, or remove the row.",
            )
        groups.setdefault(owner, []).append(place)
    left_out = {*_OF_REQUEST, *_NOT_SHOWN}
    lines = []
    for places in groups.values():
        first = {name: _of_all(rows, places, name, path) for name in _OF_REQUEST}
        if isinstance(history := first["history"], str):
            first["history"] = _listed(history)
        if isinstance(profile := first["profile"], str) and profile.lstrip().startswith("{"):
            first["profile"] = parse_json(profile)
        candidates = [
            {
                name: _cell(value, p, name, path)
                for name, value in rows[p].items()
                if name not in left_out
            }
            for p in places
        ]
        request = {
            name: _cell(value, places[0], name, path)
            for name, value in first.items()
            if value is not None
        }
        text = json.dumps({**request, "candidates": candidates}, default=str)
        lines.append(_Line(text, tuple(places)))
    return _Source(tuple(lines), tuple(rows))


def _of_all(rows: list[dict[str, Any]], places: Sequence[int], name: str, path: Path) -> object:
    """The one value of a request's column; it may stand in one of its rows or in each."""
    given = [p for p in places if not is_missing(rows[p].get(name))]
    for place in given[1:]:
        if _plain(rows[place][name]) != _plain(rows[given[0]][name]):
            raise DataError(
                f"Rows {given[0] + 1:,} and {place + 1:,} of {path} are one request and differ in "
                f"{name}.",
                hint="Give requests of their own a request_id each.",
            )
    return rows[given[0]][name] if given else None


def _plain(value: object) -> str:
    return json.dumps(value, default=str)


def _cell(value: object, place: int, column: str, path: Path) -> object:
    """A cell as JSON can hold it: NaN is a missing value, infinity is refused."""
    if isinstance(value, float) and not math.isfinite(value):
        if math.isinf(value):
            raise DataError(
                f"Row {place + 1:,} of {path}: {column} is {value}; allowed are finite numbers.",
                hint="Correct the cell, or leave it empty.",
            )
        return None
    if isinstance(value, list | tuple):
        return [_cell(each, place, column, path) for each in value]
    if isinstance(value, dict):
        return {name: _cell(each, place, column, path) for name, each in value.items()}
    return value


def _listed(history: str) -> object:
    """A history in one cell: a JSON list, or titles or ids separated by ``|``."""
    if history.lstrip().startswith("["):
        return parse_json(history)
    return [part for part in map(str.strip, history.split("|")) if part]


def _answers(
    lines: Sequence[str], rank: Rank, known: Context | None
) -> Iterator[tuple[list[dict[str, object]], Usage]]:
    """Answer requests together; on failure by halves, so that one error fails one request."""
    read = [_parsed(line, known) for line in lines]
    good = [request for request in read if isinstance(request, Request)]
    try:
        rankings = iter(rank(good) if good else ())
    except LlmrecError as error:
        if len(lines) > 1:
            middle = len(lines) // 2
            yield from _answers(lines[:middle], rank, known)
            yield from _answers(lines[middle:], rank, known)
            return
        if isinstance(error, _PASSING):
            raise
        read, rankings = [error], iter(())
    results, usage = [], Usage()
    for line, request in zip(lines, read, strict=True):
        found = next(rankings) if isinstance(request, Request) else request
        results.append({**_named(line), **_outcome(found)})
        usage += found.usage if isinstance(found, Ranking) else Usage()
    yield results, usage


def _parsed(line: str, known: Context | None) -> Request | LlmrecError:
    try:
        return _parse(line, known)
    except _PASSING:
        raise
    except LlmrecError as error:
        return error


def _outcome(found: Ranking | LlmrecError) -> dict[str, object]:
    if isinstance(found, LlmrecError):
        fault = {"type": type(found).__name__, "message": found.message, "hint": found.hint}
        return {"error": fault}
    return {
        "items": [_item(item) for item in found.items],
        "fallbacks": dict(found.fallbacks),
        "weights": dict(found.weights),
        "label_shares": dict(found.label_shares),
    }


def _named(line: str) -> dict[str, object]:
    """The request's ids, as far as they can be read."""
    try:
        given = parse_json(line)
    except ValueError:
        return {}
    if not isinstance(given, dict):
        return {}
    found: dict[str, object] = {}
    for name in ("user_id", "request_id"):
        with suppress(ValueError):
            found[name] = parse_id(given.get(name))
    return {name: value for name, value in found.items() if value}


def _parse(line: str, known: Context | None) -> Request:
    try:
        given = parse_json(line)
    except ValueError as error:
        raise DataError(f"The request is not valid JSON: {error}.", hint=_HINT) from error
    return read_request(given, known)


def _kind(result: Mapping[str, Any]) -> str:
    if "error" in result:
        return "failed"
    unanswered = {REQUEST_FAILED, REQUEST_REFUSED} & result["fallbacks"].keys()
    return "incomplete" if unanswered else "whole"


def _item(item: RankedItem) -> dict[str, object]:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "rank": item.rank,
        "retrieval_rank": item.retrieval_rank,
        "score": item.score,
        "status": item.status.value,
        "signals": dict(item.signals),
    }


def _write_table(out: Path, source: _Source, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the input rows with ``score``, ``rank`` and, for failed requests, ``error``."""
    rows = [
        {("retrieval_score" if name == "score" else name): value for name, value in row.items()}
        | {"score": None, "rank": None, "error": None}
        for row in source.table
    ]
    for line, result in zip(source.lines, results, strict=True):
        if "error" in result:
            for place in line.rows:
                rows[place]["error"] = result["error"]["message"]
            continue
        given = read_request(parse_json(line.text))
        places = dict(zip((c.item_id for c in given.candidates), line.rows, strict=True))
        for item in result["items"]:
            rows[places[item["item_id"]]] |= {"score": item["score"], "rank": item["rank"]}
    part = out.with_name(f"{out.name}.part")
    with storage_errors(out):
        if _suffix(out) == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), part)
        else:
            with part.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                for row in rows:
                    lists = {n: _plain(v) for n, v in row.items() if isinstance(v, list | dict)}
                    writer.writerow(row | lists)
        part.replace(out)
