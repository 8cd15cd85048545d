"""Output of all commands: two consoles, one JSON document, safe text."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer
from pydantic_core import to_jsonable_python
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_WIDTH_WITHOUT_TERMINAL = 120

STDERR = Console(stderr=True)
"""Bars, log records and errors."""


def screen() -> Console:
    """The console for results, as wide as the terminal; 120 columns without one."""
    free = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if free else _WIDTH_WITHOUT_TERMINAL, highlight=False)


def print_json(document: Mapping[str, object]) -> None:
    """Print the document of ``--json``; records become objects, NaN becomes null."""
    plain = to_jsonable_python(document, inf_nan_mode="null", fallback=_plain)
    typer.echo(json.dumps(plain, indent=1, allow_nan=False))


def safe(text: str, style: str = "") -> Text:
    """Foreign text for a terminal: no markup, no control characters, on one line."""
    shown = "".join(c if c.isprintable() or c == "\u200d" else " " for c in text)
    return Text(" ".join(shown.split()), style)


def table(*columns: str) -> Table:
    """An empty table in the one style; a column that begins with ``>`` is for numbers."""
    made = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for name in columns:
        right = name.startswith(">")
        made.add_column(name.removeprefix(">"), justify="right" if right else "left", no_wrap=right)
    return made


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
