"""Load a whole data set, from a folder or from memory, into records and findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from llmrec.catalog.building import Contents, build_contents
from llmrec.catalog.columns import LAYOUTS, ColumnMap, TableName
from llmrec.catalog.problems import Findings
from llmrec.catalog.reading import (
    SUFFIXES,
    Table,
    find_file,
    read_arrow,
    read_file,
    read_rows,
)
from llmrec.errors import DataError


def load_folder(folder: Path, columns: ColumnMap) -> tuple[Contents, Findings]:
    """Read a folder's tables.

    Raises:
        DataError: The folder is not there; all else that is wrong goes to the findings.
    """
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"The data set folder '{folder}' {kind}.",
            hint="Give the folder that holds items.jsonl, items.parquet or items.csv.",
        )
    findings = Findings()
    unread = {path.name for path in folder.iterdir() if path.suffix in SUFFIXES}

    def read(name: TableName) -> Table | None:
        path = find_file(folder, name, columns.table(name).file)
        if path is None:
            return None
        unread.discard(path.name)
        return read_file(path, name, findings)

    contents = _load(tuple(LAYOUTS), read, columns, findings)
    findings.notes.extend(f"{file} is not read" for file in sorted(unread))
    return contents, findings


def load_tables(
    sources: Mapping[TableName, Iterable[object] | None], columns: ColumnMap
) -> tuple[Contents, Findings]:
    """Read tables in memory; None stands for a table that there is not."""
    findings = Findings()

    def read(name: TableName) -> Table | None:
        source = sources[name]
        if source is None:
            return None
        if isinstance(source, str | Mapping):
            raise DataError(
                f"a {type(source).__name__} is no table; give a datasets.Dataset or an iterable of "
                "mappings (of a DatasetDict one split, as in data['train'])",
            )
        if not isinstance(source, list | tuple):
            from datasets import Dataset  # noqa: PLC0415 (slow to import, and lists need it not)

            if isinstance(source, Dataset):
                return read_arrow(source.with_format("arrow")[:], name)
        return read_rows(source, name, findings)

    return _load(tuple(sources), read, columns, findings), findings


def _load(
    names: Iterable[TableName],
    read: Callable[[TableName], Table | None],
    columns: ColumnMap,
    findings: Findings,
) -> Contents:
    """Read every table, noting one that cannot be read at all as a problem of its file."""
    tables: dict[TableName, Table] = {}
    for name in names:
        try:
            table = read(name)
        except DataError as error:
            findings.add(name, None, None, None, error.message)
        else:
            if table is not None:
                tables[name] = table
    contents = build_contents(tables, columns, findings)
    whole_files = {problem.table for problem in findings.problems if problem.row is None}
    if not contents.items and "items" not in whole_files:
        why = "no item is left; a catalogue holds at least one whole row"
        findings.add("items", None, None, None, why)
    tables_in_order = list(LAYOUTS)
    findings.problems.sort(key=lambda each: (tables_in_order.index(each.table), each.row or 0))
    return contents
