"""What reading a data set finds: problems row by row, gaps by column, notes for the reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrec.catalog.columns import TableName
from llmrec.errors import DataError

_SHOWN = 3
_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is broken.

    ``row`` counts the table's data rows from 1 (a csv header and blank lines do not count); None
    means the file as a whole, and such a problem cannot be skipped. ``value`` is what stands there,
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
    """Collects what reading finds. ``gaps`` counts missing values by ``table.column``."""

    problems: list[Problem] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self, table: TableName, row: int | None, column: str | None, value: object, why: str
    ) -> None:
        """Record a problem; ``{value}`` in ``why`` is replaced by the value, quoted and cut."""
        shown = quoted(value)
        self.problems.append(
            Problem(table, row, column, cut(value), why.replace("{value}", shown)),
        )


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
