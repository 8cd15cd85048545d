"""The folders that commands read and write: what is wrong with one is said before the long work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.output import waiting
from llmrec.errors import DataError, StorageError

if TYPE_CHECKING:
    from llmrec.catalog import Catalog

SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping.")
]


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, without making it.

    Raises:
        StorageError: A file stands in the way, or writing there is not allowed.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "may not be written to" if there.is_dir() else "is a file, not a folder"
    raise StorageError(
        f"{folder} cannot be written: {there} {why}.",
        hint="Name a folder that can be written, on a disk with room.",
    )


def read_data(data: Path, columns: Path | None, *, skip_broken: bool) -> Catalog:
    """Read a data set; what refuses broken rows names the option that leaves them out.

    Raises:
        DataError: The data set is broken.
    """
    from llmrec.catalog import Catalog, ColumnMap

    names = ColumnMap.from_file(columns) if columns else None
    try:
        with waiting("Reading the data"):
            return Catalog.from_folder(
                data, columns=names, on_problem="skip" if skip_broken else "raise"
            )
    except DataError as error:
        hint = error.hint.replace('on_problem="skip"', "--skip-broken")
        raise DataError(error.message, hint=hint) from error
