"""``llmrec data check``, and how commands read a data set folder and check an output folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson, ColumnFile, DataFolder, MediaRoot
from llmrec.cli.output import print_json, safe, screen, table, waiting
from llmrec.errors import DataError, StorageError

if TYPE_CHECKING:
    from llmrec.catalog import Catalog, CheckReport

app = typer.Typer(help="Check a data set folder.", no_args_is_help=True)

SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping.")
]


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be created or written, without creating it.

    Raises:
        StorageError: A file of that name exists, or permission is denied.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "permission denied" if there.is_dir() else "it is a file, not a folder"
    raise StorageError(
        f"{folder} cannot be written ({there}: {why}).",
        hint="Name a folder that can be written, on a disk with free space.",
    )


def read_data(
    data: Path, columns: Path | None, *, skip_broken: bool, media_root: Path | None = None
) -> Catalog:
    """Read a data set; an error about broken rows names the option that leaves them out.

    Raises:
        DataError: The data set is broken.
    """
    from llmrec.catalog import Catalog, ColumnMap

    names = ColumnMap.from_file(columns) if columns else None
    try:
        with waiting("Reading the data"):
            return Catalog.from_folder(
                data,
                columns=names,
                on_problem="skip" if skip_broken else "raise",
                media_root=media_root,
            )
    except DataError as error:
        hint = error.hint.replace('on_problem="skip"', "--skip-broken")
        said = f"llmrec data check {data}{' --columns FILE' if columns else ''}"
        hint = hint.replace(said, check_command(data, columns))
        raise DataError(error.message, hint=hint) from error


def check_command(data: Path, columns: Path | None) -> str:
    """The command that lists the broken rows of a data set."""
    map_ = [] if columns is None else ["--columns", str(columns)]
    return shlex.join(["llmrec", "data", "check", str(data), *map_])


@app.callback()
def _group() -> None:
    """Keep ``check`` as a subcommand although it is the only one."""


@app.command()
@ends_well
def check(
    data: DataFolder,
    *,
    columns: ColumnFile = None,
    media_root: MediaRoot = None,
    rows: Annotated[int, typer.Option(min=0, help="Broken rows to print; 0 prints all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Report counts, missing values and broken rows. Exit status 1 if anything is broken."""
    from llmrec.catalog import ColumnMap, check_folder

    names = ColumnMap.from_file(columns) if columns else None
    report = check_folder(data, names, media_root=media_root)
    if as_json:
        print_json({"folder": data, "whole": not report.problems, "report": report})
    else:
        _print(report, rows or len(report.problems))
    if report.problems:
        raise typer.Exit(FAILED)


def _print(report: CheckReport, shown: int) -> None:
    console = screen()
    counts = [(kind, f"{count:,}") for kind, count in report.counts.items()]
    console.print(table(("Whole rows", ">count"), counts), "")
    if report.gaps:
        gaps = [(safe(name), f"{count:,}") for name, count in report.gaps.items()]
        console.print(table(("Missing", ">rows"), gaps), "")
    for note in report.notes:
        console.print("Note: ", safe(note), sep="")
    if not report.problems:
        console.print("Nothing is broken.", style="green")
        return
    broken = [
        (
            problem.table,
            "whole file" if problem.row is None else f"{problem.row:,}",
            safe(problem.column or ""),
            safe(problem.message),
        )
        for problem in report.problems[:shown]
    ]
    console.print(table(("Table", ">row", "column", "problem"), broken), "")
    more = len(report.problems) - shown
    rest = f", {more:,} not shown: --rows 0" if more > 0 else ""
    console.print(f"{len(report.problems):,} broken{rest}", style="red")
