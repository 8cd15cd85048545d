"""One table of a data set: read, put under our column names, checked cell by cell."""

from __future__ import annotations

import csv
import gzip
import io
import json
import mimetypes
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.catalog.columns import LAYOUTS, TableName
from llmrec.catalog.values import (
    clean,
    decoded,
    python_value,
)
from llmrec.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".parquet", ".csv", ".tsv", ".json", ".ndjson")
"""Of tables; in any case, and ``.gz`` may follow."""
_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"\Asep=.\r?\n")  # as Excel reads and writes it
NAMELESS = re.compile(r"\s*|Unnamed: \d+(_level_\d+)?|__index_level_\d+__")
"""Names that pandas gives the index of a DataFrame."""
_LONGEST_CSV_FIELD = 2**31 - 1
_SHOWN = 3
_UNREAD_SHOWN = 8
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
    """Problems, gaps (missing values by ``table.column``) and notes, collected while reading.

    ``rated`` is the table that the ratings of interactions come from.
    """

    problems: list[Problem] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rated: TableName = "interactions"

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
    noun = "problem" if len(problems) == 1 else "problems"
    shown = first_few([*map(str, problems)])
    return DataError(f"{len(problems):,} {noun} in {where}: {shown}", hint=hint)


def first_few(faults: Sequence[str]) -> str:
    """One sentence that names the first few faults and counts the rest."""
    shown = "; ".join(fault.rstrip(".") for fault in faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return f"{shown}{more}."


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


def suffix_of(path: Path) -> str:
    """Return which of `SUFFIXES` a file has, in small letters and without ``.gz``; "" for none."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in SUFFIXES else ""


def stem_of(path: Path) -> str:
    """Return a file's name in small letters, without suffixes."""
    return Path(path.name.lower().removesuffix(".gz")).stem


def find_file(folder: Path, name: TableName, file: str | None) -> Path | None:
    """Find the file of a table; None where an optional one is absent.

    Raises:
        DataError: The file named in the column map is missing, or two files claim the table.
    """
    if file is not None:
        path = folder / file
        if not path.exists():
            raise DataError(f"the file '{file}' of the column map is not there; {_holds(folder)}")
        if not suffix_of(path):
            raise DataError(f"the file '{file}' ends in none of {', '.join(SUFFIXES)}")
        return path
    found = [path for path in folder.iterdir() if stem_of(path) == name and suffix_of(path)]
    if len(found) > 1:
        found.sort(key=lambda path: (SUFFIXES.index(suffix_of(path)), path.name))
        names = " and ".join(path.name for path in found)
        raise DataError(f"{names} are both there; keep one, or name one in the column map")
    if not found and name == "items":
        raise DataError(
            f"there is no {' or '.join(name + suffix for suffix in SUFFIXES)}; {_holds(folder)}. "
            "Name the file in a column map if it is called otherwise",
        )
    return found[0] if found else None


def looks_like_data(path: Path) -> bool:
    """Whether a file may be meant as a table: no media, nothing hidden and no text about it."""
    media = (mimetypes.guess_type(path.name)[0] or "").startswith(("image/", "video/", "audio/"))
    about = path.suffix.lower() in {".md", ".toml"} or stem_of(path) in {"readme", "license"}
    data = path.is_file() or stem_of(path) in LAYOUTS
    return data and not (media or about or path.name.startswith("."))


def unread_notes(paths: Sequence[Path]) -> Iterator[str]:
    """Say why files are not read."""
    for path in paths[:_UNREAD_SHOWN]:
        if stem_of(path) in LAYOUTS and suffix_of(path):
            why = f"another file is the table {stem_of(path)}, or claims to be; keep one"
        elif suffix_of(path):
            why = f"tables are called {', '.join(LAYOUTS)}; a column map can name other files"
        else:
            why = f"a table ends in {', '.join(SUFFIXES)}, and .gz may follow; save it as one"
        yield f"{path.name} is not read: {why}"
    if len(paths) > _UNREAD_SHOWN:
        yield f"{len(paths) - _UNREAD_SHOWN:,} more files are not read"


def read_file(path: Path, name: TableName, findings: Findings) -> Table:
    """Read a file of one of the `SUFFIXES`. Broken rows go to ``findings`` and are left out.

    Raises:
        DataError: The file as a whole cannot be read.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"'{path.name}' is empty; it must hold at least one row")
    suffix = suffix_of(path)
    try:
        if suffix == ".parquet":
            return read_arrow(read_parquet(path), name, findings, where=f"'{path.name}'")
        text = decoded(file_content(path))
    except OSError as error:
        raise DataError(f"'{path.name}' cannot be read as {suffix[1:]}: {error}") from error
    except ValueError as error:
        raise DataError(f"'{path.name}' is {error}") from error
    read = _read_csv if suffix in {".csv", ".tsv"} else _read_json
    return read(text, path.name, name, findings)


def read_arrow(
    table: pa.Table, name: TableName, findings: Findings | None = None, *, where: str = ""
) -> Table:
    """Read an Arrow table: a parquet file or the rows of a ``datasets.Dataset``.

    Errors name the table ``where``, by default ``name``.

    Raises:
        DataError: A column name is there twice, or a time is outside the years 1 to 9999.
    """
    import pyarrow as pa  # noqa: PLC0415 - csv and jsonl do without

    reject_repeated(table.column_names, where or name)
    columns: dict[str, list[Any]] = {}
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_timestamp(kind):  # Python's datetime knows no nanoseconds
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)  # noqa: PLW2901
        try:
            cells = column.to_pylist(maps_as_pydicts="lossy")  # of a repeated key the last value
        except OverflowError as error:
            raise DataError(
                f"{where or name} has a time outside the years 1 to 9999 in the column "
                f"{column_name!r} ({error}); correct it or leave it empty"
            ) from error
        columns[column_name] = cells
    return Table(name, _named(columns, name, findings), range(1, table.num_rows + 1))


def read_rows(rows: Iterable[object], name: TableName, findings: Findings) -> Table:
    """Read rows in memory: any iterable of mappings from column to value."""
    plain = (
        {column: python_value(cell) for column, cell in row.items()}
        if isinstance(row, Mapping)
        else row
        for row in rows
    )
    return _table(enumerate(plain, 1), name, findings)


def file_content(path: Path) -> bytes:
    """Read a file; one that is compressed by gzip is unpacked.

    Raises:
        OSError: It cannot be read.
    """
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error) as error:
        raise OSError(f"the gzip data is damaged ({error})") from error


def read_parquet(path: Path) -> pa.Table:
    """Read a .parquet file, or one that is compressed by gzip.

    Raises:
        OSError: It cannot be read.
    """
    import pyarrow as pa  # noqa: PLC0415 - csv and jsonl do without
    from pyarrow import parquet  # noqa: PLC0415

    source = pa.BufferReader(file_content(path)) if path.suffix.lower() == ".gz" else path
    try:
        return parquet.read_table(source, partitioning=None)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def _read_json(text: str, file: str, name: TableName, findings: Findings) -> Table:
    """Read JSON lines, or one JSON list of objects."""
    if text.lstrip().startswith("["):
        try:
            return _table(enumerate(json.loads(text), 1), name, findings)
        except (ValueError, RecursionError) as error:
            raise DataError(f"'{file}' is no JSON list ({error}); write JSON lines") from error
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
    text = _SEPARATOR_LINE.sub("", text)
    separator = _separator(text, name)
    rows = _csv_rows(text, separator)
    first = next(rows, (0, []))[1]
    header = [] if isinstance(first, csv.Error) else [column.strip() for column in first]
    if not any(header):
        raise DataError(f"'{file}' has no header; its first line must name the columns")
    reject_repeated(list(filter(None, header)), file)
    if separator != ",":
        findings.notes.append(f"{file} is read as separated by {separator!r}")
    cells: list[list[str]] = []
    numbers: list[int] = []
    for number, row in rows:
        if isinstance(row, csv.Error):
            why = f"broken quoting ({row}); double a quote inside a quoted field"
            findings.add(name, number, None, None, why)
        elif len(row) != len(header):
            why = f"{len(row)} fields where the header has {len(header)}: {{value}}"
            why += f"; put a field that holds {separator!r} into double quotes"
            findings.add(name, number, None, separator.join(row), why)
        else:
            cells.append(row)
            numbers.append(number)
    columns: Iterable[Sequence[object]] = zip(*cells, strict=True) if cells else [()] * len(header)
    named = _named(dict(zip(header, columns, strict=True)), name, findings)
    return Table(name, named, numbers, textual=True)


def _separator(text: str, name: TableName) -> str:
    """The separator under which the header names the table's columns, or has most columns."""
    most = {}
    for separator in _SEPARATORS:
        header = next(_csv_rows(text, separator), (0, []))[1]
        columns = [] if isinstance(header, csv.Error) else [column.strip() for column in header]
        if set(LAYOUTS[name].required) <= {*columns} and len(columns) > 1:
            return separator
        most[separator] = len(columns)
    return max(most, key=lambda separator: most[separator])


def _csv_rows(text: str, separator: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield each row that is not blank with its number, the header being 0."""
    previous = csv.field_size_limit(_LONGEST_CSV_FIELD)  # a description may pass the usual 128 KiB
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
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
    names = dict.fromkeys(column for row in kept for column in row)
    reject_repeated([clean(str(key)) or "" for key in names], name)
    columns = {clean(str(key)) or "": [row.get(key) for row in kept] for key in names}
    return Table(name, _named(columns, name, findings), numbers)


def _named(
    columns: Mapping[str, Sequence[object]], name: TableName, findings: Findings | None
) -> Mapping[str, Sequence[object]]:
    """Leave out columns without a name."""
    named = {column: cells for column, cells in columns.items() if not NAMELESS.fullmatch(column)}
    if findings and len(named) < len(columns):
        findings.notes.append(
            f"{name} has a column without a name, which is not used: it seems to be the index of a "
            "DataFrame (write it with index=False)"
        )
    return named


def reject_repeated(header: Sequence[str], where: str) -> None:
    """Refuse a table in which two columns have one name (DataError)."""
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise DataError(f"{where} has the column {repeated[0]!r} twice; rename one of them")


def _holds(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the folder holds {', '.join(names[:8]) or 'no files'}{more}"
