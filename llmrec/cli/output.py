"""Output of all commands: two consoles, one JSON document, safe text."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer
from pydantic_core import to_jsonable_python
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_WIDTH_WITHOUT_TERMINAL = 120
_LEAST_TEXT = 16
"""Characters that a column of longer text keeps."""
_HARMLESS = "\n\t\u200d"
_PIECES = re.compile(r"[^\s/_@:,-]*[\s/_@:,-]*")

STDERR = Console(stderr=True)
"""Bars, log records and errors."""


def screen() -> Console:
    """The console for results, as wide as the terminal; 120 columns without one."""
    terminal = sys.stdout is not None and sys.stdout.isatty()  # None where it is closed
    free = terminal or "COLUMNS" in os.environ
    return Console(width=None if free else _WIDTH_WITHOUT_TERMINAL, highlight=False)


def print_json(document: Mapping[str, object]) -> None:
    """Print the document of ``--json``; records become objects, NaN becomes null."""
    plain = to_jsonable_python(document, inf_nan_mode="null", fallback=_plain)
    typer.echo(json.dumps(plain, indent=1, allow_nan=False))


def safe(text: str, style: str = "") -> Text:
    """Foreign text for a terminal: no markup, no control characters, on one line."""
    shown = "".join(c if c.isprintable() or c == "\u200d" else " " for c in text)
    return Text(" ".join(shown.split()), style)


def visible(text: str, style: str = "") -> Text:
    """Foreign text of several lines: what would control a terminal is shown as an escape."""
    shown = (
        c if c.isprintable() or c in _HARMLESS or (c.isspace() and c > "\x9f") else _escape(c)
        for c in text
    )
    return Text("".join(shown), style)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    width: int = 0,
    cut: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    see: str = "--json",
    notes: Sequence[str] = (),
) -> Group:
    """A table that fits the screen: numbers and the words of headings stay whole.

    Text wraps first, then columns are left out, and a line below the table names them.

    Args:
        heads: A heading that begins with ``>`` is of numbers.
        rows: A cell for each heading.
        width: Width in characters; 0 takes the screen's.
        cut: Columns whose text is cut instead of wrapped.
        leave_out: Columns that may be left out, in this order.
        see: What prints the columns that were left out.
        notes: Lines below the table.
    """
    width = width or screen().width
    cells = [[Text.assemble(cell) for cell in row] for row in rows]
    columns = [
        _Column(head.removeprefix(">"), head.startswith(">"), [row[at] for row in cells])
        for at, head in enumerate(heads)
        if not cells or any(row[at] for row in cells)  # one without any value is no column
    ]
    gone = []
    for name in leave_out:
        if _total([column.least for column in columns]) > width:
            gone.append(name)
            columns = [column for column in columns if column.head != name]
    widths = [column.widest for column in columns]
    while _total(widths) > width:
        spare = [(wide, at) for at, wide in enumerate(widths) if wide > columns[at].least]
        if not spare:
            break
        widths[max(spare)[1]] -= 1
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column, wide in zip(columns, widths, strict=True):
        made.add_column(
            column.head,
            justify="right" if column.number else "left",
            width=wide,
            no_wrap=column.head in cut,
            overflow="ellipsis" if column.head in cut else "fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        pairs = zip(columns, row, widths, strict=True)
        made.add_row(*(c if column.head in cut else wrapped(c, w) for column, c, w in pairs))
    left_out = f"Left out for width: {', '.join(gone)}; see {see}." if gone else ""
    return Group(made, *(Text(line, "dim") for line in (left_out, *notes) if line))


@dataclass(frozen=True)
class _Column:
    head: str
    number: bool
    cells: Sequence[Text]

    @property
    def longest(self) -> int:
        """The longest line of a cell."""
        lines = [line.cell_len for cell in self.cells for line in cell.split("\n")]
        return max(lines, default=0)

    @property
    def widest(self) -> int:
        """The width at which nothing wraps."""
        return max(cell_len(self.head), self.longest)

    @property
    def least(self) -> int:
        """The smallest width: whole numbers, whole words of the heading, some of a text."""
        words = max(map(cell_len, self.head.split()), default=1)
        return max(words, self.longest if self.number else min(self.longest, _LEAST_TEXT))


def _total(widths: Sequence[int]) -> int:
    """Width of a table: each column has a space behind it, and one between it and the next."""
    return sum(widths) + max(2 * len(widths) - 1, 0)


def wrapped(text: Text, width: int) -> Text:
    """Wrap at spaces, and names at their slashes, hyphens and commas."""
    ends, used, at = [], 0, 0
    for piece in _PIECES.findall(text.plain):
        if used and used + cell_len(piece.rstrip()) > width:
            ends.append(at)
            used = 0
        used = 0 if piece.endswith("\n") else used + cell_len(piece)
        at += len(piece)
    lines = text.divide(ends)
    for line in lines[:-1]:
        line.rstrip()
    return Text("\n").join(lines)


def fields(rows: Mapping[str, object]) -> Table:
    """A table of names and values, without empty ones."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        if value != "":
            grid.add_row(name, safe(str(value)))
    return grid


_SHOWN: list[Progress] = []
"""The visible progress bar; a terminal shows one at a time."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """On a terminal, show a progress bar and the seconds; replaces an outer bar until it ends."""
    columns = (TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
    off = not STDERR.is_terminal
    with (
        without_bar(),
        Progress(*columns, console=STDERR, transient=True, disable=off) as progress,
    ):
        progress.add_task(what, total=None)
        _SHOWN.append(progress)
        try:
            yield
        finally:
            _SHOWN.pop()


@contextmanager
def without_bar() -> Iterator[None]:
    """Hide the bar while code with its own bar runs."""
    if not _SHOWN:
        yield
        return
    _SHOWN[-1].stop()
    try:
        yield
    finally:
        _SHOWN[-1].start()


def _plain(value: object) -> object:
    """Turn types unknown to JSON, such as a read-only mapping, into known ones."""
    return dict(value) if isinstance(value, Mapping) else str(value)
