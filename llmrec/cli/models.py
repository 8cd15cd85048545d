"""``llmrec models``: the models that can be had by name, and getting them."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import AsJson
from llmrec.cli.output import print_json, safe, screen, table

app = typer.Typer(help="Get models: fetch, list.", no_args_is_help=True)


@app.command()
@ends_well
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which.", show_default="the three default ones"),
    ] = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte of what is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put models on the disk: from the hub or, where it cannot be reached, the package index."""
    from llmrec.models import (
        DEFAULT_LANGUAGE_MODEL,
        DEFAULT_TEXT_ENCODER,
        OFFLINE_IMAGE_MODEL,
        resolve_model,
    )

    fetched = []
    for name in names or (DEFAULT_LANGUAGE_MODEL, DEFAULT_TEXT_ENCODER, OFFLINE_IMAGE_MODEL):
        started = time.perf_counter()
        folder = resolve_model(name, progress=True, verify=verify)
        fetched.append((name, folder, time.perf_counter() - started))
    if as_json:
        print_json(
            {
                "models": [
                    {
                        "asked": name,
                        "name": folder.name,
                        "revision": folder.revision,
                        "path": folder.path,
                        "seconds": seconds,
                    }
                    for name, folder, seconds in fetched
                ]
            }
        )
        return
    console = screen()
    for name, folder, seconds in fetched:
        console.print(safe(name, "bold"), f"in {seconds:.1f} s, as {folder.name}, lies in")
        console.print(f"  {folder.path}", soft_wrap=True, style="dim", markup=False)


@app.command("list")
@ends_well
def list_(*, as_json: AsJson = False) -> None:
    """Name the models that the package index holds, and say which are on the disk."""
    from llmrec.models import PACKAGED, cache_folder
    from llmrec.models.resolve import is_on_disk

    rows = [
        {
            "name": model.name,
            "hub_id": model.hub_id,
            "wheels": model.wheels,
            "on_disk": is_on_disk(model),
        }
        for model in PACKAGED.values()
    ]
    if as_json:
        print_json({"cache": cache_folder(), "models": rows})
        return
    shown = table("Name", "the hub's", "on disk")
    for row in rows:
        shown.add_row(str(row["name"]), str(row["hub_id"]), "yes" if row["on_disk"] else "no")
    console = screen()
    console.print(shown, "")
    console.print(f"Kept in {cache_folder()}", soft_wrap=True, style="dim", markup=False)
