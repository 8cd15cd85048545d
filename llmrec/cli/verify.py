"""``llmrec verify``: check every byte of a saved index."""

from __future__ import annotations

import typer

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson, IndexFolder
from llmrec.cli.output import print_json, safe, screen, table, waiting

_WAY_OUT = "Copy it again, or rebuild it with `llmrec index`."


@ends_well
def verify(index: IndexFolder, *, as_json: AsJson = False) -> None:
    """Check every byte of an index against its checksums. Exit status 1 if a file is damaged."""
    with waiting("Verifying"):
        from llmrec.retrieval import verify_index

        report = verify_index(index)
    if as_json:
        print_json({"index": index, "whole": report.whole, "way_out": _WAY_OUT, "report": report})
    else:
        console = screen()
        rows = [
            (safe(file.name), f"{file.size:,}", safe(file.fault or "whole"))
            for file in report.files
        ]
        console.print(table(("File", ">bytes", "state"), rows), "")
        if report.whole:
            console.print("Nothing is damaged.", style="green")
        else:
            count = sum(bool(file.fault) for file in report.files)
            fault = report.fault or f"{count} of {len(report.files)} files are damaged."
            console.print(safe(fault, "red"), safe(_WAY_OUT, "cyan"), sep="\n")
    if not report.whole:
        raise typer.Exit(FAILED)
