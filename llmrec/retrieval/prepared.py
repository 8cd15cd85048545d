"""Search structures of a large index: computed once, saved, opened by memory map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

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
        """Open saved structures by memory map, without reading them."""
        near, words = opened.arrow("neighbours.arrow"), opened.arrow("postings.arrow")
        if len(near) != len(items):
            raise ValueError(f"it has {len(near)} rows for {len(items)} items")
        ids = Ids(words.column("word").chunk(0), words.column("order").to_numpy())

        def search(name: str, compared: np.ndarray, *, centred: bool) -> VectorSearch:
            d = compared.shape[1]
            moments = opened.array(f"{name}.npy")
            if moments.shape != (2 + d, d) or not np.isfinite(moments).all():
                raise damaged(opened.paths[f"{name}.npy"], "its moments are of other vectors")
            return VectorSearch(
                compared,
                centred=centred,
                moments=moments,
                lists=opened.paths[f"{name}.faiss"],
            )

        return cls(
            items,
            interactions,
            vectors,
            fused,
            (*_read_lists(near, "items"), _read_lists(near, "likeness")[1]),
            Postings(
                ids, *_read_lists(words, "items"), _read_lists(words, "scores")[1], len(items)
            ),
            search("content", vectors, centred=True),
            None if fused is None else search("sequence", fused, centred=False),
        )


def _lists(starts: np.ndarray, values: np.ndarray) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(starts.astype(np.int64)), pa.array(values))


def _read_lists(table: pa.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where each list of a column begins [n + 1], and the values."""
    lists = table.column(column).chunk(0)
    return lists.offsets.to_numpy(), lists.values.to_numpy()
