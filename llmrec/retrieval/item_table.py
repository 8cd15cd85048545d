"""Items as an Arrow table: opened by memory map, an ``Item`` made on access."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.catalog.values import composed
from llmrec.documents import parse_json
from llmrec.errors import DataError, StorageError, naming, shown
from llmrec.records import AttributeValue, Item
from llmrec.retrieval.storage import NOT_FINITE, VERIFY, check_rows

Column = tuple[np.ndarray, Sequence[AttributeValue]]
"""An attribute of all items: int32 [n_items] codes, -1 where it is missing, and their values."""

_DICTIONARY_UP_TO = 100_000  # ids held in a dict; more are searched in their sorted order
_FIELDS = ("title", "description", "image", "video", "audio")
_ATTRIBUTE = "attribute:"


class Ids(Sequence[str]):
    """Distinct ids in row order, in one Arrow array.

    Args:
        names: The ids.
        order: int32 [n], the rows in the order of their ids.
    """

    def __init__(self, names: pa.LargeStringArray, order: np.ndarray) -> None:
        self.names = names
        self.order = order

    @classmethod
    def of(cls, names: Iterable[str]) -> Ids:
        """Take ids from memory."""
        array = pa.array(list(names), pa.large_string())
        return cls(array, pc.array_sort_indices(array).to_numpy().astype(np.int32))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[str, ...]: ...
    def __getitem__(self, row: int | slice) -> str | tuple[str, ...]:
        if isinstance(row, slice):
            return tuple(self.names[row].to_pylist())
        name: str = self.names[int(row)].as_py()
        return name

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.names), 1 << 16):
            yield from self.names[start : start + (1 << 16)].to_pylist()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def take(self, rows: np.ndarray) -> list[str]:
        """Return the ids of some rows."""
        whole = check_rows(rows, len(self), "rows")
        names: list[str] = self.names.take(pa.array(whole)).to_pylist()
        return names

    def find(self, name: str) -> int | None:
        """Return the row of an id in any Unicode form, None where there is no such id."""
        row = self._find(name)
        known = row is not None or not isinstance(name, str) or name.isascii()
        return row if known else self._find(composed(name))

    def _find(self, name: str) -> int | None:
        if len(self) <= _DICTIONARY_UP_TO:
            return self._rows.get(name)
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[self.order[middle]] < name:
                low = middle + 1
            else:
                high = middle
        row = int(self.order[low]) if low < len(self) else -1
        return row if row >= 0 and self[row] == name else None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self)}


class ItemTable(Mapping[str, Item]):
    """Items by id, read from an Arrow table.

    Args:
        table: As :func:`to_table` makes one.
        path: Where it came from.
    """

    def __init__(self, table: pa.Table, path: Path) -> None:
        self._columns = {name: _whole(table.column(name)) for name in table.column_names}
        for name in (*_FIELDS, "attributes"):
            if not pa.types.is_large_string(self._columns[name].type):
                raise ValueError(f"its {name} is {self._columns[name].type}")
        self._reading = partial(
            naming, f"The index file {path} is damaged", StorageError, hint=VERIFY
        )
        self.ids = Ids(self._columns["item_id"], self._columns["order"].to_numpy())

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.ids

    def __getitem__(self, item_id: str) -> Item:
        row = self.ids.find(item_id)
        if row is None:
            raise KeyError(item_id)
        with self._reading():
            fields = {name: self._columns[name][row].as_py() for name in _FIELDS}
            attributes = self._columns["attributes"][row].as_py()
            return Item(item_id, attributes=_attributes(attributes), **fields)

    def everything(self) -> dict[str, Item]:
        """Read all items."""
        names = self._columns["item_id"].to_pylist()
        fields = zip(*(self._columns[name].to_pylist() for name in _FIELDS), strict=True)
        attributes = self._columns["attributes"].to_pylist()
        return {
            name: Item(name, title, description, _attributes(known), image, video, audio)
            for name, (title, description, image, video, audio), known in zip(
                names, fields, attributes, strict=True
            )
        }

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, sorted."""
        found = (name for name in self._columns if name.startswith(_ATTRIBUTE))
        return tuple(sorted(name.removeprefix(_ATTRIBUTE) for name in found))

    def column(self, attribute: str) -> Column:
        """Return an attribute of all items."""
        with self._reading():
            column = self._columns[_ATTRIBUTE + attribute]
            codes = column.indices.fill_null(-1).to_numpy()
            return codes, [_value(parse_json(text)) for text in column.dictionary.to_pylist()]


def to_table(items: Mapping[str, Item]) -> pa.Table:
    """Write items as a table: their fields, attributes as JSON, and a column per attribute."""
    if isinstance(items, ItemTable):
        return pa.table(items._columns)
    rows = list(items.values())
    ids = Ids.of(items)
    columns = {"item_id": ids.names, "order": pa.array(ids.order)}
    for name in _FIELDS:
        columns[name] = pa.array([getattr(item, name) for item in rows], pa.large_string())
    written = map(_written, rows)
    columns["attributes"] = pa.array(written, pa.large_string())
    for name in dict.fromkeys(name for item in rows for name in item.attributes):
        codes, values = attribute_column(rows, name)
        texts = pa.array([json.dumps(value) for value in values], pa.large_string())
        columns[_ATTRIBUTE + name] = pa.DictionaryArray.from_arrays(
            pa.array(codes, mask=codes < 0), texts
        )
    return pa.table(columns)


def _written(item: Item) -> str:
    try:
        return json.dumps(dict(item.attributes), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(
            f"The item {item.item_id!r} cannot be saved: an attribute is NaN or infinite.",
            hint=NOT_FINITE,
        ) from error


def attribute_column(items: Sequence[Item], name: str) -> Column:
    """Return an attribute of items in memory."""
    codes = np.full(len(items), -1, dtype=np.int32)
    known: dict[tuple[type, AttributeValue], int] = {}  # 1 and True are equal, and two values
    for row, item in enumerate(items):
        value = item.attributes.get(name)
        if value is not None:
            codes[row] = known.setdefault((type(value), value), len(known))
    return codes, [value for _, value in known]


def _attributes(text: str) -> dict[str, AttributeValue]:
    return {name: _value(value) for name, value in parse_json(text).items()}


def _value(value: object) -> AttributeValue:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if not isinstance(value, str | int | float):
        raise ValueError(f"an attribute is {shown(value)}")
    return value


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without a copy where it is one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
