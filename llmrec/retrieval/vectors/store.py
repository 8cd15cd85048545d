"""The store: vectors by item id, searched exactly or, where there are many, approximately."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from llmrec.errors import DataError, OptionError, UnknownItemError, nearest
from llmrec.retrieval.storage import Manifest, open_folder, save_folder
from llmrec.retrieval.vectors import files
from llmrec.retrieval.vectors.approximate import Lists, search_lists, up_to_date
from llmrec.retrieval.vectors.checks import check_shape, check_vectors, usable_queries
from llmrec.retrieval.vectors.exact import Found, Slots, search_all
from llmrec.retrieval.vectors.segments import Segments, frozen, lengths

EXACT_BELOW = 200_000
"""Up to so many vectors every one is looked at."""

_EXACT_SHARE = 0.05  # a filter that keeps less is searched exactly


class VectorStore:
    """Vectors by item id, never changed: a change returns a new store that shares the vectors.

    The score of a row is the inner product with the query, higher is better, and exact always. With
    ``exact_below`` vectors or fewer, under a filter that keeps less than 5 % of them, and wherever
    the lists held fewer rows than were asked for, the rows found are the best ones. Otherwise they
    are nearly so (see :mod:`~llmrec.retrieval.vectors.approximate`).

    Lists are trained at the first search that needs them, or by :meth:`prepare`, and saved with the
    store. Changed vectors are searched exactly beside them; they are sorted in, without training,
    when they are more than 2 % of those in lists. Lists are trained again when the store has grown
    to twice what they were trained on, or shrunk to half of what they hold. The log says so.

    ``store[row]`` and ``store[rows]`` copy vectors; ``numpy.asarray(store)`` is all of them.

    Args:
        ids: Item ids in row order.
        segments: Where the vectors lie.
        slots: int64 [n_rows], the place of each row among them.
        longest: A length that no vector exceeds.
        exact_below: Up to so many vectors every one is looked at.
        lists: Trained lists.
    """

    def __init__(
        self,
        ids: tuple[str, ...],
        segments: Segments,
        slots: np.ndarray,
        *,
        longest: float,
        exact_below: int,
        lists: Lists | None = None,
    ) -> None:
        if exact_below < 0:
            raise OptionError(f"exact_below is {exact_below}.", hint="Give 0 or more vectors.")
        self.ids = ids
        self.exact_below = exact_below
        self._segments = segments
        self._slots = slots
        self._longest = longest
        self._lists = lists

    @classmethod
    def of(
        cls, ids: Iterable[str], vectors: np.ndarray, *, exact_below: int = EXACT_BELOW
    ) -> VectorStore:
        """Make a store.

        Args:
            ids: Of the items, each once.
            vectors: [n, d] numbers; float32 is not copied, so it must not be changed afterwards.
                n may be 0.
            exact_below: Up to so many vectors every one is looked at.

        Raises:
            DataError: The shapes do not fit, an id comes twice, or a vector is not finite.
        """
        check_shape(vectors)
        none = files.Parts((), Segments(vectors.shape[1]), np.empty(0, dtype=np.int64), 0.0, None)
        return cls.from_parts(none, exact_below=exact_below)._put(tuple(ids), vectors)

    @classmethod
    def open(
        cls, folder: str | Path, *, verify: bool = False, exact_below: int = EXACT_BELOW
    ) -> VectorStore:
        """Open a saved store by memory map: no vector is read.

        Args:
            folder: Where it lies.
            verify: Read all of it and check every byte.
            exact_below: Up to so many vectors every one is looked at.

        Raises:
            StorageError: There is no store, or a file is missing, damaged or of another size.
        """
        opened = open_folder(Path(folder), kind="vectors", verify=verify)
        return cls.from_parts(files.read(opened), exact_below=exact_below)

    def save(self, folder: str | Path) -> None:
        """Write the store, all of it or nothing; vectors that the folder holds stay as they are.

        Raises:
            StorageError: The folder holds something else, or cannot be written.
        """
        manifest = Manifest(self.dimension, kind="vectors")
        save_folder(Path(folder), manifest, files.written(self.parts()))

    @classmethod
    def from_parts(cls, parts: files.Parts, *, exact_below: int = EXACT_BELOW) -> VectorStore:
        """Make a store of what :mod:`~llmrec.retrieval.vectors.files` read."""
        return cls(
            parts.ids,
            parts.segments,
            parts.slots,
            longest=parts.longest,
            exact_below=exact_below,
            lists=parts.lists,
        )

    def parts(self) -> files.Parts:
        """Return what is saved, the lists trained where the store needs some."""
        store = self.prepare()._compact()
        return files.Parts(store.ids, store._segments, store._slots, store._longest, store._lists)

    @property
    def dimension(self) -> int:
        """The numbers a vector has."""
        return self._segments.dimension

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors, and of numbers in each."""
        return len(self.ids), self.dimension

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        slots = self._slots[rows]
        gathered = self._segments.gather(np.atleast_1d(slots))
        return gathered if np.ndim(slots) else gathered[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def row(self, item_id: str) -> int:
        """Return an item's row.

        Raises:
            UnknownItemError: The store does not hold the item.
        """
        row = self._row_by_id.get(item_id)
        if row is None:
            raise UnknownItemError(
                f"There is no vector of an item {item_id!r}.",
                hint=nearest(item_id, self.ids[:10_000]) or "Check the id.",
            )
        return row

    def put(self, ids: Sequence[str], vectors: np.ndarray) -> VectorStore:
        """Return a store in which some items have these vectors.

        An item that the store holds keeps its row; new ones come behind, in the order given.

        Raises:
            DataError: The shapes do not fit, an id comes twice, or a vector is not finite.
        """
        with np.errstate(over="ignore"):
            return self._put(tuple(ids), np.array(vectors, dtype=np.float32))

    def _put(self, ids: tuple[str, ...], vectors: np.ndarray) -> VectorStore:
        """Put vectors that are the store's own from now on."""
        check_vectors(ids, vectors, self.dimension)
        with np.errstate(over="ignore"):
            vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        reach = float(lengths(vectors, ids).max(initial=0.0))
        new = tuple(item_id for item_id in ids if item_id not in self._row_by_id)
        row_by_id = {**self._row_by_id, **{name: len(self) + i for i, name in enumerate(new)}}
        slots = np.concatenate([self._slots, np.empty(len(new), dtype=np.int64)])
        slots[[row_by_id[item_id] for item_id in ids]] = self._segments.total + np.arange(len(ids))
        return self._with(
            self.ids + new, slots, self._segments.append(vectors), max(self._longest, reach)
        )

    def delete(self, ids: Iterable[str]) -> VectorStore:
        """Return a store without some items; the rows behind them move up.

        Raises:
            UnknownItemError: The store does not hold one of them.
        """
        rows = [self.row(item_id) for item_id in ids]
        kept = np.ones(len(self), dtype=bool)
        kept[rows] = False
        left = tuple(self.ids[row] for row in np.flatnonzero(kept))
        return self._with(left, self._slots[kept], self._segments, self._longest)

    def take(self, ids: Iterable[str]) -> VectorStore:
        """Return a store of exactly these items, in this order.

        Raises:
            DataError: An id comes twice.
            UnknownItemError: The store does not hold one of them.
        """
        ids = tuple(ids)
        rows = np.array([self.row(item_id) for item_id in ids], dtype=np.int64)
        if len(set(ids)) < len(ids):
            raise DataError("Ids are given more than once.", hint="Give each item once.")
        return self._with(ids, self._slots[rows], self._segments, self._longest)

    def prepare(self, *, progress: bool = False) -> VectorStore:
        """Bring the lists up to date now, so that no search has to wait; returns this store."""
        if len(self) > self.exact_below:
            self._trained(progress=progress)
        return self

    def search(
        self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the best k rows for each query.

        Args:
            queries: float32 [m, d].
            k: How many.
            allowed: bool [n_rows], the rows that may come back; None: all.

        Returns:
            Rows int64 [m, k] and scores float32 [m, k], the inner products, best first, equal ones
            in row order. Where fewer than k are allowed, a line ends with rows -1 and scores NaN.

        Raises:
            OptionError: k is below 1, a query is not finite or of another dimension, or the mask of
                another shape or type.
        """
        queries = usable_queries(queries, k, allowed, self.shape)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), np.nan, dtype=np.float32)
        n_allowed = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if n_allowed:
            for i, found in enumerate(self._found(queries, min(k, n_allowed), allowed, n_allowed)):
                rows[i, : len(found.rows)] = found.rows
                scores[i, : len(found.rows)] = found.scores
        return rows, scores

    def _found(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, n_allowed: int
    ) -> list[Found]:
        where = Slots(self._segments, self._live(allowed), self._rows)
        if len(self) <= self.exact_below or n_allowed < _EXACT_SHARE * len(self):
            return search_all(where, queries, k, longest=self._longest)
        share = n_allowed / self._segments.total
        return search_lists(self._trained(), where, queries, k, share, longest=self._longest)

    def _trained(self, *, progress: bool = False) -> Lists:
        """Return lists that are up to date, kept for the next search."""
        self._lists = up_to_date(
            self._lists, self._segments, len(self), lambda: self._live(None), progress=progress
        )
        return self._lists

    def _compact(self) -> VectorStore:
        """Return the same store without the vectors that no row has, where those are most."""
        if self._segments.total <= 2 * max(len(self), 1):
            return self
        return VectorStore.of(self.ids, self[:], exact_below=self.exact_below).prepare()

    def _with(
        self, ids: tuple[str, ...], slots: np.ndarray, segments: Segments, reach: float
    ) -> VectorStore:
        parts = files.Parts(ids, segments, frozen(slots), reach, self._lists)
        return VectorStore.from_parts(parts, exact_below=self.exact_below)

    def _live(self, allowed: np.ndarray | None) -> np.ndarray | None:
        """Return which slots may come back, bool [n_slots]; None for all."""
        if self._rows is None:
            return allowed
        live = np.zeros(self._segments.total, dtype=bool)
        live[self._slots if allowed is None else self._slots[allowed]] = True
        return live

    @cached_property
    def _rows(self) -> np.ndarray | None:
        """The row of each slot, int64 [n_slots], -1 where none; None where row is slot."""
        total = self._segments.total
        if total == len(self) and np.array_equal(self._slots, np.arange(total)):
            return None
        rows = np.full(total, -1, dtype=np.int64)
        rows[self._slots] = np.arange(len(self))
        return rows

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.ids)}
