"""One table of a data set: read, put under our column names, checked cell by cell."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from llmrec.catalog.columns import LAYOUTS, TableMap, TableName
from llmrec.catalog.values import (
    parse_attribute,
    parse_id,
    parse_rating,
    python_value,
    split_list,
    typed,
    whole,
)
from llmrec.errors import DataError, nearest
from llmrec.records import AttributeValue

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

SUFFIXES = (".jsonl", ".parquet", ".csv")
_LONGEST_CSV_FIELD = 2**31 - 1
_SHOWN = 3
_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is broken in a data set.

    ``row`` counts the table's data rows from 1 (a csv header and blank lines do not count); None
    means the file as a whole, and such a problem cannot be skipped. ``value`` is the broken value,
    cut to 60 characters. ``message`` names the value, what is allowed and the way out.
    """

    table: TableName
    row: int | None
    column: str | None
    value: str
    message: str

    def __str__(self) -> str:
        place = self.table + ("" if self.row is None else f" row {self.row}")
        return f"{place}{'' if self.column is None else f', {self.column}'}: {self.message}"


@dataclass(slots=True)
class Findings:
    """Problems, gaps (missing values by ``table.column``) and notes, collected while reading."""

    problems: list[Problem] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self, table: TableName, row: int | None, column: str | None, value: object, why: str
    ) -> None:
        """Record a problem; ``{value}`` in ``why`` is replaced by the value, quoted and cut."""
        message = why.replace("{value}", quoted(value))
        self.problems.append(Problem(table, row, column, cut(value), message))


def cut(value: object) -> str:
    """Turn a value into text of at most 60 characters."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def quoted(value: object) -> str:
    """Show a value in a message: text in quotes, anything else as it is, at most 60 characters."""
    return repr(cut(value)) if isinstance(value, str) else cut(value)


def problems_error(problems: Sequence[Problem], where: str, hint: str) -> DataError:
    """Make the one error that names the first few problems and counts the rest."""
    shown = "; ".join(str(problem).rstrip(".") for problem in problems[:_SHOWN])
    more = f"; and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
    noun = "problem" if len(problems) == 1 else "problems"
    return DataError(f"{len(problems):,} {noun} in {where}: {shown}{more}.", hint=hint)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read.

    Args:
        name: Which table of a data set it is.
        columns: Column name in the file -> cells, all equally long.
        numbers: Number of each data row in the file, counted from 1.
        textual: Every cell is text because the format has no types (csv).
    """

    name: TableName
    columns: Mapping[str, Sequence[object]]
    numbers: Sequence[int]
    textual: bool = False


def find_file(folder: Path, name: TableName, file: str | None) -> Path | None:
    """Find the file of a table; None where an optional one is absent.

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
        if path.suffix.lower() == ".parquet":
            return read_arrow(_parquet(path), name)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"'{path.name}' cannot be read as {path.suffix[1:]}: {error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"'{path.name}' is not UTF-8 text: byte 0x{error.object[error.start]:02x} in line "
            f"{line:,}; save it as UTF-8",
        ) from error
    return (_read_csv if path.suffix.lower() == ".csv" else _read_jsonl)(
        text, path.name, name, findings
    )


def read_arrow(table: pa.Table, name: TableName) -> Table:
    """Read an Arrow table: a parquet file or the rows of a ``datasets.Dataset``."""
    import pyarrow as pa  # noqa: PLC0415 - csv and jsonl do without

    _reject_repeated(table.column_names, name)
    columns = {}
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_timestamp(kind):  # Python's datetime knows no nanoseconds
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)  # noqa: PLW2901
        columns[column_name] = column.to_pylist()
    return Table(name, columns, range(1, table.num_rows + 1))


def read_rows(rows: Iterable[object], name: TableName, findings: Findings) -> Table:
    """Read rows in memory: any iterable of mappings from column to value."""
    plain = (
        {column: python_value(cell) for column, cell in row.items()}
        if isinstance(row, Mapping)
        else row
        for row in rows
    )
    return _table(enumerate(plain, 1), name, findings)


def _parquet(path: Path) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - csv and jsonl do without
    from pyarrow import parquet  # noqa: PLC0415

    try:
        return parquet.read_table(path, partitioning=None)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def _read_jsonl(text: str, file: str, name: TableName, findings: Findings) -> Table:
    if text.lstrip().startswith("["):
        raise DataError(f"'{file}' holds a JSON list; write one object a line instead")
    rows: list[tuple[int, object]] = []
    lines = (line for line in text.split("\n") if line.strip())  # never at U+2028, as splitlines
    for number, line in enumerate(lines, 1):
        try:
            rows.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            reason = str(error).replace(": line 1 column", ", character").split(" (char")[0]
            why = f"the line {{value}} is not complete JSON ({reason}); write one object a line"
            findings.add(name, number, None, line, why)
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
            why = f"broken quoting ({row}); double a quote inside a quoted field"
            findings.add(name, number, None, None, why)
        elif len(row) != len(header):
            why = f"{len(row)} fields where the header has {len(header)}: {{value}}"
            why += "; put a field that holds a comma into double quotes"
            findings.add(name, number, None, ",".join(row), why)
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


def _reject_repeated(header: Sequence[str], where: str) -> None:
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise DataError(f"{where} names the column {repeated[0]!r} twice; rename one of them")


def _holds(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the folder holds {', '.join(names[:8]) or 'no files'}{more}"


@dataclass(frozen=True, slots=True)
class MappedTable:
    """One table under our column names.

    Reading a column notes each cell that is not allowed and marks its row as broken;
    ``good_rows`` then yields the whole rows.
    """

    name: TableName
    cells: Mapping[str, Sequence[object]]
    numbers: Sequence[int]
    textual: bool
    separators: Mapping[str, str]
    findings: Findings
    broken: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, table: Table, mapping: TableMap, findings: Findings) -> Self:
        """Rename a table's columns; a column that is required or mapped must be there."""
        theirs = {column: column for column in LAYOUTS[table.name].required} | mapping.columns
        for ours, column in theirs.items() if table.columns else ():
            if column not in table.columns:
                findings.add(table.name, None, ours, None, _absent(table, ours, column))
        cells: dict[str, Sequence[object]] = {}
        for column, values in table.columns.items():
            if column not in {*theirs, *theirs.values(), *mapping.ignore}:
                cells[column] = values
            cells |= {ours: values for ours, their in theirs.items() if their == column}
        known = tuple(dict.fromkeys((*table.columns, *cells)))
        for column in (*mapping.ignore, *mapping.separators):
            if table.columns and column not in known:
                why = f"the column map names {column!r}, which is not there. "
                way_out = nearest(column, known) or f"There is {', '.join(map(repr, known))}."
                findings.add(table.name, None, column, None, why + way_out)
        return cls(table.name, cells, table.numbers, table.textual, mapping.separators, findings)

    def __len__(self) -> int:
        return len(self.numbers)

    def notes(self) -> list[str]:
        """List unused columns, and how to use one that could be title or rating."""
        layout = LAYOUTS[self.name]
        if layout.attributes:
            near = {
                column: nearest(column, self.cells)
                for column in ("title", "description")
                if column in layout.columns and column not in self.cells
            }
            return [
                f"{self.name} has no {column}. {close} {_map_example(self.name, column, 'THEIRS')}"
                for column, close in near.items()
                if close
            ]
        notes = []
        for column in self.cells:
            if column in layout.columns:
                continue
            note = f"{self.name}.{column} is not used"
            if "rating" in layout.columns and "rating" not in self.cells and self._numeric(column):
                note += f": map it to rating to use it, {_map_example(self.name, 'rating', column)}"
            notes.append(note)
        return notes

    def good_rows(self) -> Iterator[int]:
        """Yield the positions of the rows in which no problem was found."""
        return (position for position in range(len(self)) if position not in self.broken)

    def reject(self, position: int, column: str | None, value: object, why: str) -> None:
        """Note a problem (``{value}`` in ``why`` becomes the value) and mark the row as broken."""
        self.findings.add(self.name, self.numbers[position], column, value, why)
        self.broken.add(position)

    def ids(self, column: str) -> list[str]:
        """Parse a column of ids; one that is empty breaks its row and is ``""`` here."""
        if column not in self.cells:  # already a problem of the file
            self.broken.update(range(len(self)))
            return [""] * len(self)
        values = self._parse(column, parse_id)
        for position, value in enumerate(values):
            if value is None and position not in self.broken:
                self.reject(position, column, "", "is empty; every row needs one")
        return [value or "" for value in values]

    def values(self, column: str, parse: Callable[[object], T | None]) -> list[T | None]:
        """Parse a column in which values may be missing, and count those that are."""
        if column not in self.cells:
            return [None] * len(self)
        values = self._parse(column, parse)
        self.count_gaps(column, values)
        return values

    def attributes(self) -> list[dict[str, AttributeValue]]:
        """Parse every column without a meaning of its own; a missing value has no entry."""
        layout = LAYOUTS[self.name]
        columns: dict[str, Sequence[AttributeValue | None]] = {}
        for column in self.cells:
            if column in layout.columns:
                continue
            values: Sequence[AttributeValue | None] = self.values(column, parse_attribute)
            if column in self.separators:
                values = [split_list(value, self.separators[column]) for value in values]
            columns[column] = whole(typed(values) if self.textual else values)
        rows: list[dict[str, AttributeValue]] = [{} for _ in self.numbers]
        for column, parsed in columns.items():
            for row, value in zip(rows, parsed, strict=True):
                if value is not None:
                    row[column] = value
        return rows

    def count_gaps(self, column: str, values: Sequence[object]) -> None:
        """Count the missing values of a column, in rows that no problem was found in so far."""
        missing = sum(value is None for row, value in enumerate(values) if row not in self.broken)
        if missing:
            self.findings.gaps[f"{self.name}.{column}"] = missing

    def _numeric(self, column: str) -> bool:
        try:
            ratings = list(map(parse_rating, self.cells[column]))
        except (ValueError, OverflowError):
            return False
        return any(rating is not None for rating in ratings)

    def _parse(self, column: str, parse: Callable[[object], T | None]) -> list[T | None]:
        values: list[T | None] = []
        for position, cell in enumerate(self.cells[column]):
            try:
                values.append(parse(cell))
            except (ValueError, OverflowError) as error:  # an int may be too large for a float
                self.reject(position, column, cell, f"{{value}} is not allowed: {error}")
                values.append(None)
        return values


def _absent(table: Table, ours: str, theirs: str) -> str:
    """Name a missing column, the columns that there are, and how to map one."""
    there = ", ".join(repr(column) for column in table.columns) or "no columns"
    close = nearest(theirs, table.columns)
    way_out = f"Rename the column or map it: {_map_example(table.name, ours, 'THEIRS')}"
    return " ".join(
        filter(None, (f"the column {theirs!r} is missing; there is {there}.", close, way_out))
    )


def _map_example(table: str, ours: str, theirs: str) -> str:
    return f'{{"{table}": {{"columns": {{"{ours}": "{theirs}"}}}}}}'
