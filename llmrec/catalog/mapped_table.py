"""One table of a data set under our column names, checked cell by cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

from llmrec.catalog.columns import LAYOUTS, TableMap, TableName
from llmrec.catalog.tables import Findings, Table
from llmrec.catalog.values import (
    parse_attribute,
    parse_id,
    parse_rating,
    split_list,
    typed,
    whole,
    whole_ids,
)
from llmrec.errors import nearest
from llmrec.records import AttributeValue

T = TypeVar("T")

_IDS = {"item_id", "user_id", "friend_id", "head", "tail"}
_DECIMAL_COMMA = re.compile(r"-?\d{1,3}([. \u00a0\u202f]?\d{3})*,\d+|-?\d+,\d+")
_POINT = re.compile(r"-?\d+(\.\d+)?")


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
        for ours, column in mapping.columns.items():
            if ours in table.columns.keys() - {*theirs.values(), *mapping.ignore}:
                findings.notes.append(
                    f"the file's own column {table.name}.{ours} is not used: the column map takes "
                    f"{column!r} for it"
                )
        cells: dict[str, Sequence[object]] = {}
        for column, values in table.columns.items():
            if column not in {*theirs, *theirs.values(), *mapping.ignore}:
                cells[column] = values
            cells |= {ours: values for ours, their in theirs.items() if their == column}
        for column in sorted(_IDS & cells.keys()) if table.textual else ():
            if (ids := whole_ids(cells[column])) is not None:
                cells[column] = ids
                note = f"{table.name}.{column} holds whole numbers with .0: read without it"
                findings.notes.append(note)
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
            texts = [str(value) for value in values if value is not None] if self.textual else []
            commas = [text for text in texts if _DECIMAL_COMMA.fullmatch(text)]
            if commas and all(_POINT.fullmatch(text) for text in {*texts} - {*commas}):
                number = re.sub(r"[^-\d,]", "", commas[0]).replace(",", ".")
                self.findings.notes.append(
                    f"{self.name}.{column} stays text: {commas[0]!r} has a decimal comma; write "
                    f"{number!r} to make it a number"
                )
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
    if ours in table.columns:
        close, way_out = "", f"Leave {ours!r} out of the column map."
    return " ".join(
        filter(None, (f"the column {theirs!r} is missing; there is {there}.", close, way_out))
    )


def _map_example(table: str, ours: str, theirs: str) -> str:
    return f'{{"{table}": {{"columns": {{"{ours}": "{theirs}"}}}}}}'
