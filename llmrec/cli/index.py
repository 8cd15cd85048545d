"""``llmrec index``: a dataset folder becomes an index folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import AsJson, ColumnFile, DataFolder
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.errors import DataError


@ends_well
def index(
    data: DataFolder,
    *,
    out: Annotated[Path, typer.Option(metavar="INDEX", help="The folder to write.")],
    columns: ColumnFile = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="REF", help="The text encoder.", show_default="all-MiniLM-L6-v2"),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Embed a catalogue and save an index, which can be opened again without the data."""
    from llmrec.catalog import Catalog, ColumnMap
    from llmrec.cli.loading import load_text_encoder
    from llmrec.retrieval import Index

    started = time.perf_counter()
    names = ColumnMap.from_file(columns) if columns else None
    try:
        with waiting("Reading the data"):
            catalog = Catalog.from_folder(
                data, columns=names, on_problem="skip" if skip_broken else "raise"
            )
    except DataError as error:
        hint = error.hint.replace('on_problem="skip"', "--skip-broken")
        raise DataError(error.message, hint=hint) from error
    text_encoder = load_text_encoder(encoder)
    made = Index.build(catalog, text_encoder, progress=True)
    with waiting("Saving"):
        made.save(out)
    seconds = time.perf_counter() - started
    summary = {
        "index": out,
        "items": len(made.items),
        "users": len(made.user_ids),
        "interactions": len(made.interactions),
        "reviews": len(made.reviews),
        "encoder": made.encoder,
        "fingerprint": made.fingerprint,
        "left_out": catalog.problems,
        "seconds": seconds,
    }
    if as_json:
        print_json(summary)
        return
    screen().print(
        fields(
            {
                "Index": out,
                "Items": f"{len(made.items):,}",
                "Users": f"{len(made.user_ids):,}",
                "Interactions": f"{len(made.interactions):,}",
                "Reviews": f"{len(made.reviews):,}",
                "Left out": f"{len(catalog.problems):,} broken rows, see `llmrec data check {data}`"
                if catalog.problems
                else "",
                "Encoder": made.encoder,
                "Seconds": f"{seconds:.1f}",
                "Next": f"llmrec recommend {out} --user {made.user_ids[0]}"
                if made.user_ids
                else "",
            }
        )
    )
