"""Read one table of a data set, from a file or from memory, into columns of plain values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.catalog.columns import TableName
from llmrec.catalog.problems import Findings
from llmrec.errors import DataError

SUFFIXES = (".jsonl", ".parquet", ".csv")
_LONGEST_CSV_FIELD = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read: their columns, all equally long, and the number of each data row.

    ``textual`` says that every cell is text because the format has no types (csv).
    """

    name: TableName
    columns: Mapping[str, Sequence[object]]
    rows: Sequence[int]
    textual: bool = False


def find_file(folder: Path, name: TableName, file: str | None) -> Path | None:
    """Find the file of a table; None where an optional one is not there.

    Raises:
        DataError: The file named in the column map is missing, or two files claim the table.
    """
    if file is not None:
        path = folder / file
        if not path.is_file():
            raise DataError(f"the file '{file}' of the column map is not there; {_holds(folder)}")
        if path.suffix not in SUFFIXES:
            raise DataError(f"the file '{file}' ends in none of {', '.join(SUFFIXES)}")
        return path
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{names} are both there; keep one, or name one in the column map")
    if not found and name == "items":
        raise DataError(
            f"there is no {' or '.join(name + suffix for suffix in SUFFIXES)}; {_holds(folder)}. "
            "Name the file in a column map if it is called otherwise",
        )
    return found[0] if found else None


def read_file(path: Path, name: TableName, findings: Findings) -> Table:
    """Read a .jsonl, .parquet or .csv file. Broken rows go to ``findings`` and are left out.

    Raises:
        DataError: The file as a whole cannot be read.
    """
    if path.stat().st_size == 0:
        raise DataError(f"'{path.name}' is empty; it must hold at least one row")
    try:
        if path.suffix == ".parquet":
            return read_arrow(pq.read_table(path, partitioning=None), name)
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"'{path.name}' cannot be read as {path.suffix[1:]}: {error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"'{path.name}' is not UTF-8 text: byte 0x{error.object[error.start]:02x} in line "
            f"{line:,}; save it as UTF-8",
        ) from error
    return (_read_csv if path.suffix == ".csv" else _read_jsonl)(text, path.name, name, findings)


def read_arrow(table: pa.Table, name: TableName) -> Table:
    """Read an arrow table: a parquet file, or what a ``datasets.Dataset`` holds."""
    _reject_repeated(table.column_names, name)
    columns = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_timestamp(field.type):  # Python's datetime knows no nanoseconds
            column = column.cast(pa.timestamp("us", field.type.tz), safe=False)  # noqa: PLW2901
        columns[field.name] = column.to_pylist()
    return Table(name, columns, range(1, table.num_rows + 1))


def read_rows(rows: Iterable[object], name: TableName, findings: Findings) -> Table:
    """Read rows in memory: any iterable of mappings from column to value."""
    return _table(((number, _plain(row)) for number, row in enumerate(rows, 1)), name, findings)


def _read_jsonl(text: str, file: str, name: TableName, findings: Findings) -> Table:
    if text.lstrip().startswith("["):
        raise DataError(f"'{file}' holds a JSON list; write one object a line instead")
    rows: list[tuple[int, object]] = []
    lines = (line for line in text.split("\n") if line.strip())  # never at U+2028, as splitlines
    for number, line in enumerate(lines, 1):
        try:
            rows.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            why = str(error).replace(": line 1 column", ", character").split(" (char")[0]
            findings.add(
                name,
                number,
                None,
                line,
                f"the line {{value}} is not complete JSON ({why}); write one object a line",
            )
    return _table(rows, name, findings)


def _read_csv(text: str, file: str, name: TableName, findings: Findings) -> Table:
    rows = _csv_rows(text)
    first = next(rows, (0, []))[1]
    header = [] if isinstance(first, csv.Error) else [column.strip() for column in first]
    if not any(header):
        raise DataError(f"'{file}' has no header; its first line must name the columns")
    _reject_repeated(header, file)
    cells: list[list[str]] = []
    numbers: list[int] = []
    for number, row in rows:
        if isinstance(row, csv.Error):
            why = f"broken quoting ({row}); double a quote that stands inside a quoted field"
            findings.add(name, number, None, None, why)
        elif len(row) != len(header):
            why = f"{len(row)} fields where the header has {len(header)}: {{value}}; put a field "
            findings.add(
                name, number, None, ",".join(row), why + "that holds a comma into double quotes"
            )
        else:
            cells.append(row)
            numbers.append(number)
    columns: Iterable[Sequence[object]] = zip(*cells, strict=True) if cells else [()] * len(header)
    return Table(name, dict(zip(header, columns, strict=True)), numbers, textual=True)


def _csv_rows(text: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield each row that is not blank with its number, the header being 0."""
    previous = csv.field_size_limit(_LONGEST_CSV_FIELD)  # a description may pass the usual 128 KiB
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        number = -1
        while True:
            try:
                row: list[str] | csv.Error = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                row = error
            if row:
                number += 1
                yield number, row
    finally:
        csv.field_size_limit(previous)


def _table(rows: Iterable[tuple[int, object]], name: TableName, findings: Findings) -> Table:
    """Turn numbered rows into columns; a column holds None where a row lacks it."""
    kept: list[Mapping[str, object]] = []
    numbers: list[int] = []
    for number, row in rows:
        if isinstance(row, Mapping):
            kept.append(row)
            numbers.append(number)
        else:
            why = "{value} is not an object; a row is a mapping from column to value"
            findings.add(name, number, None, row, why)
    names = dict.fromkeys(str(column) for row in kept for column in row)
    return Table(name, {column: [row.get(column) for row in kept] for column in names}, numbers)


def _plain(row: object) -> object:
    """Replace numpy's scalars and arrays in a row by plain values."""
    if not isinstance(row, Mapping):
        return row
    return {
        column: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        for column, value in row.items()
    }


def _reject_repeated(header: Sequence[str], where: str) -> None:
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise DataError(f"{where} names the column {repeated[0]!r} twice; rename one of them")


def _holds(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the folder holds {', '.join(names[:8]) or 'no files'}{more}"
