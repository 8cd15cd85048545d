"""Search structures of a large index: computed once, saved, opened by memory map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.records import Interaction, Item
from llmrec.retrieval.item_table import Ids
from llmrec.retrieval.keywords import Postings
from llmrec.retrieval.search import VectorSearch
from llmrec.retrieval.storage import Content, Opened, damaged

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Where each item's neighbours begin [n_items + 1], their rows, and their likeness."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data structures for search.

    They were computed from ``items``, ``interactions``, ``vectors`` and ``fused``.
    """

    items: Mapping[str, Item]
    interactions: Sequence[Interaction]
    vectors: np.ndarray
    fused: np.ndarray | None
    neighbours: Neighbours
    postings: Postings
    content: VectorSearch
    sequence: VectorSearch | None

    def to_tables(self) -> dict[str, Content]:
        """Return the files that :meth:`opened` reads."""
        starts, items, likeness = self.neighbours
        words = self.postings
        tables: dict[str, Content] = {
            "neighbours.arrow": pa.table(
                {"items": _lists(starts, items), "likeness": _lists(starts, likeness)}
            ),
            "postings.arrow": pa.table(
                {
                    "word": words.words.names,
                    "order": pa.array(words.words.order),
                    "items": _lists(words.starts, words.items),
                    "scores": _lists(words.starts, words.scores),
                }
            ),
        }
        for name, search in (("content", self.content), ("sequence", self.sequence)):
            if search is not None:
                tables[f"{name}.npy"] = search.moments
                tables[f"{name}.faiss"] = search.lists_to_bytes()
        return tables

    @classmethod
    def opened(
        cls,
        opened: Opened,
        items: Mapping[str, Item],
        interactions: Sequence[Interaction],
        vectors: np.ndarray,
        fused: np.ndarray | None,
    ) -> Prepared:
        """Open saved structures by memory map, checked as far as that is cheap."""
        with opened.reading("neighbours.arrow"):
            neighbours = _read_lists(opened, "neighbours.arrow", "likeness", len(items))
            if len(neighbours[0]) != len(items) + 1:
                raise ValueError(f"it has {len(neighbours[0]) - 1} rows for {len(items)} items")
        with opened.reading("postings.arrow"):
            words = opened.arrow("postings.arrow")
            ids = Ids(words.column("word").chunk(0), words.column("order").to_numpy())
            check_ids(ids, opened)
            lists = _read_lists(opened, "postings.arrow", "scores", len(items))

        def search(name: str, compared: np.ndarray, *, centred: bool) -> VectorSearch:
            d = compared.shape[1]
            moments = opened.array(f"{name}.npy")
            if moments.shape != (2 + d, d) or not np.isfinite(moments).all():
                raise damaged(opened.paths[f"{name}.npy"], "its moments are of other vectors")
            with opened.reading(f"{name}.faiss"):
                path = opened.paths[f"{name}.faiss"]
                found = VectorSearch(compared, centred=centred, moments=moments, lists=path)
                if opened.verify:
                    found.lists  # noqa: B018 (read now, so that what does not fit shows now)
                return found

        return cls(
            items,
            interactions,
            vectors,
            fused,
            neighbours,
            Postings(ids, *lists, len(items)),
            search("content", vectors, centred=True),
            None if fused is None else search("sequence", fused, centred=False),
        )


def check_within(numbers: np.ndarray, least: int, below: int, what: str) -> None:
    """Raise ValueError unless all numbers are whole, from ``least`` on and ``below`` a limit."""
    whole = numbers.dtype.kind == "i"
    if not whole or (len(numbers) and (numbers.min() < least or numbers.max() >= below)):
        raise ValueError(f"it names {what} that are not there")


def check_ids(ids: Ids, opened: Opened) -> None:
    """Raise ValueError unless ids are text; with ``verify``, distinct and in their order too."""
    names, n = ids.names, len(ids)
    if not pa.types.is_large_string(names.type) or names.null_count or len(ids.order) != n:
        raise ValueError("an id is missing")
    check_within(ids.order, 0, n, "rows")
    if opened.verify and n:
        ordered = names.take(pa.array(ids.order))
        if not pc.all(pc.less(ordered[:-1], ordered[1:])).as_py() and n > 1:
            raise ValueError("an id stands twice, or in the wrong place")


def _lists(starts: np.ndarray, values: np.ndarray) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(starts.astype(np.int64)), pa.array(values))


def _read_lists(opened: Opened, name: str, beside: str, n_items: int) -> Neighbours:
    """Return where each list of items begins [n + 1], the items, and the values beside them."""
    table = opened.arrow(name)
    items, values = table.column("items").chunk(0), table.column(beside).chunk(0)
    starts, rows, numbers = (
        part.to_numpy() for part in (items.offsets, items.values, values.values)
    )
    whole = items.offsets.equals(values.offsets) and len(rows) == len(numbers) == starts[-1]
    if not whole or starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError("its lists do not follow each other")
    check_within(opened.sampled(name, rows), 0, n_items, "items")
    if not np.isfinite(opened.sampled(name, numbers)).all():
        raise ValueError("a number is not finite")
    return starts, rows, numbers
