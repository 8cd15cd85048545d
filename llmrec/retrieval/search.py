"""Nearest vectors by inner product, through faiss where there are many.

An inverted file (Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", 2011,
section 4) with one byte a number: k-means parts the vectors into lists, and a query looks through
the lists whose centres are nearest to it. What it proposes is scored exactly afterwards.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from llmrec.errors import OptionError
from llmrec.items import unit
from llmrec.retrieval.storage import check_rows, check_scores, damaged

logger = logging.getLogger(__name__)

EXACT_UP_TO = 100_000
"""Up to this many items, all are scored; above, the signals propose candidates for scoring."""

_PROBES = 24  # lists looked through without a filter
_HEAD, _NEW = 100, 0.01  # of so many best rows, the share that more lists may bring
_NEARLY_ALL = 0.9  # the share allowed from which a filter is taken for none
_LISTS = 4.0  # lists a square root of the number of vectors
_SAMPLE = 40  # vectors a list that k-means is fitted on
_ITERATIONS = 8
_SEED = 0
_BLOCK = 1 << 15


def check_faiss(n_items: int) -> None:
    """Refuse so many items where faiss is missing: before hours of embedding, not after.

    Raises:
        OptionError: There are more than ``EXACT_UP_TO`` items, and faiss is not installed.
    """
    if n_items > EXACT_UP_TO:
        _faiss()


class VectorSearch:
    """Inner products of a query with all of some vectors: the best, some rows, mean and spread.

    Args:
        vectors: float32 [n, d]; may be mapped from a file.
        centred: Whether the mean vector is subtracted and rows are scaled to length 1 then.
        moments: Result of ``moments`` for the same vectors.
        lists: Where a faiss index of the same vectors is saved.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        centred: bool,
        moments: np.ndarray | None = None,
        lists: Path | None = None,
    ) -> None:
        self.vectors = vectors
        self.centred = centred
        if moments is not None:
            self.moments = moments
        self._path = lists

    @cached_property
    def centre(self) -> np.ndarray:
        """The mean vector, float32 [d]."""
        if "moments" in self.__dict__:
            return np.asarray(self.moments[0], dtype=np.float32)
        mean: np.ndarray = self.vectors.mean(axis=0)
        return mean

    def at(self, rows: np.ndarray | slice | list[int]) -> np.ndarray:
        """Return some vectors as they are compared: float32 [len(rows), d]."""
        found: np.ndarray = self.vectors[rows]
        return unit(found - self.centre) if self.centred else found

    def products(self, query: np.ndarray) -> np.ndarray:
        """Return the inner product of each vector with a query: float64 [n]; keeps a copy."""
        return check_scores(np.asarray(self._compared @ query, dtype=np.float64))

    def products_at(self, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return the inner product of some vectors with a query: float64 [len(rows)]."""
        found = np.asarray(self.vectors[rows])
        if not self.centred:
            return check_scores(np.asarray(found @ query, dtype=np.float64))
        # (v - c) t / |v - c| without a copy of the rows for each step
        dots = found @ np.stack([query, self.centre], axis=1).astype(np.float32)
        squares = np.einsum("ij,ij->i", found, found) - 2 * dots[:, 1] + self.centre @ self.centre
        lengths = np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny), dtype=np.float64)
        products: np.ndarray = dots[:, 0].astype(np.float64) - float(self.centre @ query)
        return check_scores(products / lengths)

    def scale(self, query: np.ndarray) -> tuple[float, float]:
        """Return mean and standard deviation of all inner products with a query.

        They follow from the vectors' mean and second moments; a deviation that is nothing but
        rounding is 0.
        """
        t = query.astype(np.float64)
        mean = float(self.moments[1] @ t)
        square = float(t @ self.moments[2:] @ t)
        spread = math.sqrt(max(square - mean**2, 0.0))
        return mean, spread if spread > 1e-6 * math.sqrt(max(square, 0.0)) else 0.0

    def best(
        self, query: np.ndarray, n: int, allowed: np.ndarray, share: float
    ) -> tuple[np.ndarray, float]:
        """Propose about n allowed rows with the largest inner products, and the least of these.

        Args:
            query: float32 [d].
            n: How many.
            allowed: bool [n_vectors], the rows that may come back.
            share: The share of them: the fewer, the more lists are looked through.
        """
        faiss = _faiss()
        bits = np.packbits(allowed, bitorder="little")
        within = faiss.IDSelectorBitmap(bits) if share < 1 else None
        one = np.ascontiguousarray(query, dtype=np.float32)[None]
        probes = math.ceil(_PROBES / share / (1 if share > _NEARLY_ALL else 2))
        before = np.empty(0, dtype=np.int64)
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=min(probes, self.lists.nlist), sel=within)
            products, rows = (part[0] for part in self.lists.search(one, n, params=parameters))
            products, rows = products[rows >= 0], check_rows(rows[rows >= 0], len(allowed), "lists")
            # A filter may leave out just what is near the query: more lists until they bring
            # nothing new.
            new = np.setdiff1d(rows[:_HEAD], before, assume_unique=True).size
            if probes >= self.lists.nlist or share > _NEARLY_ALL or new <= _NEW * _HEAD:
                return rows, float(products.min(initial=math.inf))
            before, probes = rows[:_HEAD], 2 * probes

    @cached_property
    def moments(self) -> np.ndarray:
        """float64 [2 + d, d]: the centre, the mean of the compared vectors, E[v v^T]."""
        n, d = self.vectors.shape
        moments = np.zeros((2 + d, d))
        moments[0] = self.centre
        for block in self._blocks():
            moments[1] += block.sum(axis=0, dtype=np.float64) / n
            moments[2:] += (block.T @ block) / n
        return moments

    @cached_property
    def lists(self) -> Any:  # noqa: ANN401 - faiss has no types
        """The vectors in lists, as a faiss index.

        Raises:
            OptionError: faiss is not installed.
            StorageError: The saved lists are damaged.
        """
        faiss = _faiss()
        if self._path:
            return _open_lists(self._path, self.vectors.shape)
        started = time.perf_counter()
        n, d = self.vectors.shape
        n_lists = max(1, round(_LISTS * math.sqrt(n)))
        size = min(n, _SAMPLE * n_lists)
        rng = np.random.default_rng(_SEED)
        sample = self.at(np.sort(rng.choice(n, size, replace=False)))
        centres = faiss.IndexFlatIP(d)
        clustering = faiss.Clustering(d, n_lists)
        clustering.seed, clustering.spherical, clustering.niter = _SEED, self.centred, _ITERATIONS
        clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, size
        clustering.train(sample, centres)
        byte = faiss.ScalarQuantizer.QT_8bit
        lists = faiss.IndexIVFScalarQuantizer(centres, d, n_lists, byte, faiss.METRIC_INNER_PRODUCT)
        lists.train(sample)  # the range of a byte; the centres are there
        for block in self._blocks():
            lists.add(block)
        logger.info("%d vectors in %d lists: %.1f s", n, n_lists, time.perf_counter() - started)
        return lists

    def lists_to_bytes(self) -> memoryview:
        """Return the lists as the bytes of a file."""
        content: np.ndarray = _faiss().serialize_index(self.lists)
        return content.data

    @cached_property
    def _compared(self) -> np.ndarray:
        return self.at(slice(None))

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.vectors), _BLOCK):
            block = self.at(slice(start, start + _BLOCK))
            yield np.ascontiguousarray(block, dtype=np.float32)


def _open_lists(path: Path, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - faiss has no types
    faiss = _faiss()
    try:
        lists = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        inverted = faiss.downcast_InvertedLists(lists.invlists)
    except RuntimeError as error:
        raise damaged(path, "faiss cannot read it") from error
    if (lists.ntotal, lists.d) != shape:
        raise damaged(path, f"it holds {lists.ntotal} vectors of length {lists.d}")
    if hasattr(inverted, "prefetch_nthread"):
        inverted.prefetch_nthread = 0  # faiss would start threads for every query
    return lists


def _faiss() -> ModuleType:
    try:
        import faiss  # noqa: PLC0415
    except ImportError as error:
        raise OptionError(
            f"More than {EXACT_UP_TO:,} items are searched with faiss, which is not installed.",
            hint="pip install 'llmrec[search]'",
        ) from error
    return faiss
