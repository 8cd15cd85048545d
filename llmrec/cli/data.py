"""``llmrec data``: what a dataset folder holds, and what is broken in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson, ColumnFile, DataFolder
from llmrec.cli.output import print_json, safe, screen, table

if TYPE_CHECKING:
    from llmrec.catalog import CheckReport

app = typer.Typer(help="Check a dataset folder.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep ``check`` a word of its own, though it is the only one."""


@app.command()
@ends_well
def check(
    data: DataFolder,
    *,
    columns: ColumnFile = None,
    rows: Annotated[
        int, typer.Option(min=0, help="How many broken rows to print; 0 prints all.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Print counts, gaps and what is broken, row by row; ends with 1 where something is."""
    from llmrec.catalog import ColumnMap, check_folder

    report = check_folder(data, ColumnMap.from_file(columns) if columns else None)
    if as_json:
        print_json({"folder": data, "whole": not report.problems, "report": report})
    else:
        _print(report, rows or len(report.problems))
    if report.problems:
        raise typer.Exit(FAILED)


def _print(report: CheckReport, shown: int) -> None:
    console = screen()
    counts = table("Whole rows", ">count")
    for kind, count in report.counts.items():
        counts.add_row(kind, f"{count:,}")
    console.print(counts, "")
    if report.gaps:
        gaps = table("Missing", ">rows")
        for name, count in report.gaps.items():
            gaps.add_row(safe(name), f"{count:,}")
        console.print(gaps, "")
    for note in report.notes:
        console.print("Note: ", safe(note), sep="")
    if not report.problems:
        console.print("Nothing is broken.", style="green")
        return
    broken = table("Table", ">row", "column", "what is wrong")
    for problem in report.problems[:shown]:
        row = "whole file" if problem.row is None else f"{problem.row:,}"
        broken.add_row(problem.table, row, safe(problem.column or ""), safe(problem.message))
    console.print(broken, "")
    more = len(report.problems) - shown
    console.print(
        f"{len(report.problems):,} broken"
        + (f", {more:,} not shown: --rows 0" if more > 0 else ""),
        style="red",
    )
