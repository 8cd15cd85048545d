"""``llmrec models``: download models, list those that have a name."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import AsJson
from llmrec.cli.output import print_json, safe, screen, table

app = typer.Typer(help="Download and list models.", no_args_is_help=True)


@app.command()
@ends_well
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models.", show_default="the three default ones"),
    ] = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the checksum of every file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download models from the hub or, if it cannot be reached, from the package index."""
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
        models = [
            {
                "asked": name,
                "name": folder.name,
                "revision": folder.revision,
                "path": folder.path,
                "seconds": seconds,
            }
            for name, folder, seconds in fetched
        ]
        print_json({"models": models})
        return
    console = screen()
    for name, folder, seconds in fetched:
        console.print(safe(name, "bold"), f"in {seconds:.1f} s, as {folder.name}, in")
        console.print(f"  {folder.path}", soft_wrap=True, style="dim", markup=False)


@app.command("list")
@ends_well
def list_(*, as_json: AsJson = False) -> None:
    """List the models of the package index, and whether each is on the disk."""
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
    shown = [(str(r["name"]), str(r["hub_id"]), "yes" if r["on_disk"] else "no") for r in rows]
    console = screen()
    console.print(table(("Name", "hub id", "on disk"), shown), "")
    console.print(f"Cache: {cache_folder()}", soft_wrap=True, style="dim", markup=False)
