"""Interactions as columns: ten million take 300 MB, and are read where they are needed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa

from llmrec.records import Interaction
from llmrec.retrieval.item_table import Ids
from llmrec.retrieval.storage import check_rows

_UNTIMED = np.iinfo(np.int64).min  # sorts before every time
_AT_ONCE = 1 << 16


class Interactions(Sequence[Interaction]):
    """Who met what, in the order of the file; an ``Interaction`` is made on access.

    Args:
        user_ids: Distinct users, in the order in which they come.
        item_ids: Distinct items.
        users: int32 [n], rows of ``user_ids``.
        items: int32 [n], rows of ``item_ids``.
        ratings: float64 [n], NaN if missing.
        times: int64 [n], seconds since 1970, float64 where one has a fraction; the smallest int64
            if missing.
    """

    def __init__(
        self,
        user_ids: Ids,
        item_ids: Ids,
        users: np.ndarray,
        items: np.ndarray,
        ratings: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> None:
        n = len(users)
        self.user_ids = user_ids
        self.item_ids = item_ids
        self.users = users
        self.items = items
        self.ratings = np.full(n, np.nan) if ratings is None else ratings
        self.times = np.full(n, _UNTIMED) if times is None else times

    @classmethod
    def of(cls, rows: Iterable[Interaction]) -> Interactions:
        """Take records."""
        if isinstance(rows, Interactions):
            return rows
        users: dict[str, int] = {}
        items: dict[str, int] = {}
        columns = [
            (
                users.setdefault(row.user_id, len(users)),
                items.setdefault(row.item_id, len(items)),
                np.nan if row.rating is None else row.rating,
                _UNTIMED if row.timestamp is None else row.timestamp,
            )
            for row in rows
        ]
        user, item, rating, time = zip(*columns, strict=True) if columns else ((),) * 4
        return cls(
            Ids.of(users),
            Ids.of(items),
            np.array(user, dtype=np.int32),
            np.array(item, dtype=np.int32),
            np.array(rating, dtype=np.float64),
            np.array(time, dtype=np.result_type(np.int64, *set(map(type, time)))),
        )

    def __len__(self) -> int:
        return len(self.users)

    @overload
    def __getitem__(self, row: int) -> Interaction: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Interaction, ...]: ...
    def __getitem__(self, row: int | slice) -> Interaction | tuple[Interaction, ...]:
        if isinstance(row, slice):
            return self._records(np.arange(len(self))[row])
        return self._records(np.array([range(len(self))[row]]))[0]

    def __iter__(self) -> Iterator[Interaction]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._records(np.arange(start, min(start + _AT_ONCE, len(self))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            digest.update("\0".join(ids).encode())
        for column in (self.users, self.items, self.ratings, self.times):
            digest.update(np.ascontiguousarray(column).data)
        return f"Interactions({len(self):,}, sha256 {digest.hexdigest()})"

    def of_user(self, user_id: str) -> tuple[Interaction, ...]:
        """Return a user's interactions, oldest first; rows without a time come first of all."""
        return self._records(self.rows_of(user_id))

    def rows_of(self, user_id: str) -> np.ndarray:
        """Return the rows of a user's interactions, oldest first."""
        user = self.user_ids.find(user_id)
        if user is None:
            return np.empty(0, dtype=np.int64)
        order, starts = self.by_user
        return check_rows(order[starts[user] : starts[user + 1]], len(self), "users")

    @cached_property
    def by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows user by user, oldest first, and where each user's begin [n_users + 1]."""
        order = np.lexsort((self.times, self.users)).astype(np.int32)
        counts = np.bincount(self.users, minlength=len(self.user_ids))
        return order, np.concatenate([[0], np.cumsum(counts)])

    def item_rows(self, item_ids: Ids) -> np.ndarray:
        """Return the row of each interaction's item among other ids: int32 [n], -1: none."""
        if self.item_ids is item_ids:
            return self.items
        found = [item_ids.find(name) for name in self.item_ids]
        rows = np.array([-1 if row is None else row for row in found], dtype=np.int32)
        found_rows: np.ndarray = rows[self.items]
        return found_rows

    def to_tables(self, item_rows: np.ndarray) -> tuple[pa.Table, pa.Table]:
        """Write the rows, the row of each one's item in the index, and the users."""
        order, starts = self.by_user
        rows = pa.table(
            {
                "user": pa.array(self.users),
                "item": pa.array(item_rows),
                "rating": pa.array(self.ratings),
                "time": pa.array(self.times),
                "by_user": pa.array(order),
            }
        )
        ids = self.user_ids
        users = {"user_id": ids.names, "order": pa.array(ids.order), "end": pa.array(starts[1:])}
        return rows, pa.table(users)

    @classmethod
    def from_tables(cls, rows: pa.Table, users: pa.Table, item_ids: Ids) -> Interactions:
        """Read what :meth:`to_tables` wrote, without a copy."""
        columns = {
            name: column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            for table in (rows, users)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        arrays = {n: c.to_numpy() for n, c in columns.items() if n != "user_id"}
        made = cls(
            Ids(columns["user_id"], arrays["order"]),
            item_ids,
            *(arrays[name] for name in ("user", "item", "rating", "time")),
        )
        made.by_user = arrays["by_user"], np.concatenate([[0], arrays["end"]])
        return made

    def _records(self, rows: np.ndarray) -> tuple[Interaction, ...]:
        ratings = (None if math.isnan(value) else value for value in self.ratings[rows].tolist())
        times = (
            None if value == _UNTIMED else int(value) if value == int(value) else value
            for value in self.times[rows].tolist()
        )
        users = self.user_ids.take(self.users[rows])
        return tuple(map(Interaction, users, self.item_ids.take(self.items[rows]), ratings, times))
