"""Candidates for the best rows by inner product, from faiss: a few lists of many are looked at.

An inverted file (Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", 2011,
section 4) with one byte a number: spherical k-means parts the vectors into lists, and a query looks
through the lists whose centres are nearest to it. What it finds is scored exactly afterwards.

faiss never sees a change. Slots behind those it covers are searched exactly until they are many;
slots no longer in use are left out by a mask.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from llmrec.errors import OptionError
from llmrec.retrieval.storage import Mapped, damaged
from llmrec.retrieval.vectors.exact import Found, Slots, score, search_all
from llmrec.retrieval.vectors.segments import Segments

logger = logging.getLogger(__name__)

_PROBES = 32  # lists looked through at first
_NEW = 0.01  # of the best k: brings another look no more than that, it was the last
_LISTS = 2.0  # lists a square root of the number of vectors
_SAMPLE = 40  # vectors a list that k-means is fitted on
_ITERATIONS = 8
_SEED = 0
_ADDED_AT_ONCE = 1 << 15
_CANDIDATES = 1.5  # what the coarse scores misplace costs half as many candidates more
_TAIL_SHARE = 0.02  # changed vectors, of those sorted into lists, that are searched one by one
_GROWTH = 2.0  # trained again when there are so many times the vectors it was trained on
_VECTORS_A_RESULT = 96  # live vectors looked at, at least, for each result that is asked for


@dataclass(frozen=True, eq=False)
class Lists:
    """A trained inverted file over the first slots.

    Args:
        index: The faiss index; never changed.
        trained_on: How many vectors there were when it was trained.
        file: What it was opened from.
    """

    index: Any
    trained_on: int
    file: Mapped | None = None

    @classmethod
    def train(cls, segments: Segments, live: np.ndarray | None, *, progress: bool) -> Lists:
        """Fit the lists on a sample of the live vectors, then fill them with all slots."""
        faiss = _faiss()
        started = time.perf_counter()
        slots = np.arange(segments.total) if live is None else np.flatnonzero(live)
        n_lists = max(1, round(_LISTS * math.sqrt(len(slots))))
        rng = np.random.default_rng(_SEED)
        size = min(len(slots), _SAMPLE * n_lists)
        sample = segments.gather(np.sort(rng.choice(slots, size, replace=False)))

        centres = faiss.IndexFlatIP(segments.dimension)
        clustering = faiss.Clustering(segments.dimension, n_lists)
        clustering.seed, clustering.spherical, clustering.niter = _SEED, True, 1
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = size
        for _ in tqdm(range(_ITERATIONS), "Sorting vectors", disable=None if progress else True):
            clustering.train(sample, centres)  # goes on from the centres it holds

        index = faiss.IndexIVFScalarQuantizer(
            centres,
            segments.dimension,
            n_lists,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.train(sample)  # the byte's range; the centres are there
        _add(index, segments, progress=progress)
        logger.info(
            "Sorted %d vectors into %d lists in %.1f s.",
            len(slots),
            n_lists,
            time.perf_counter() - started,
        )
        return cls(index, len(slots))

    @classmethod
    def opened(cls, path: Path, file: Mapped, trained_on: int, dimension: int) -> Lists:
        """Take a saved one by memory map.

        Raises:
            StorageError: It cannot be read.
        """
        faiss = _faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
            lists = faiss.downcast_InvertedLists(index.invlists)
            if hasattr(lists, "prefetch_nthread"):
                lists.prefetch_nthread = 0  # faiss would start threads for every query
        except RuntimeError as error:
            raise damaged(path, "faiss cannot read it") from error
        if index.d != dimension:
            raise damaged(path, f"it has {index.d} numbers a vector instead of {dimension}")
        return cls(index, trained_on, file)

    def to_file(self) -> Mapped:
        """Return what is written for it."""
        return self.file or Mapped(_faiss().serialize_index(self.index))

    @property
    def covered(self) -> int:
        """How many slots it holds, from the first on."""
        return int(self.index.ntotal)

    def extended(self, segments: Segments) -> Lists:
        """Return lists that cover all slots, with the same centres; this one stays as it is."""
        faiss = _faiss()
        held = self.file.content if self.file else faiss.serialize_index(self.index)
        index = faiss.deserialize_index(np.asarray(held))
        _add(index, segments, progress=False)
        return Lists(index, self.trained_on)

    def candidates(
        self, queries: np.ndarray, k: int, live: np.ndarray | None, share: float
    ) -> list[np.ndarray]:
        """Find slots that are probably among the best k of each query, in no order.

        The fewer slots are live, the more lists must be looked through to meet as many. A filter
        may leave out just what lies near a query, so how many lists are enough is seen in what they
        bring: twice as many are looked through until those change next to nothing.

        Args:
            queries: float32 [m, d].
            k: How many are wanted.
            live: bool [n_slots], those that may come back; None: all.
            share: The share of the covered slots that is live.

        Returns:
            int64 slots for each query; fewer than k where the lists held no more.
        """
        faiss = _faiss()
        enough = math.ceil(_VECTORS_A_RESULT * k * self.index.nlist / max(share * self.covered, 1))
        within = None
        if live is not None:
            within = faiss.IDSelectorBitmap(np.packbits(live[: self.covered], bitorder="little"))
        return [self._found(query[None], k, max(_PROBES, enough // 2), within) for query in queries]

    def _found(self, query: np.ndarray, k: int, probes: int, within: object) -> np.ndarray:
        """Look through more and more lists until they bring nothing new."""
        wanted = min(math.ceil(_CANDIDATES * k), self.covered)
        best = np.empty(0, dtype=np.int64)
        while True:
            probes = min(probes, self.index.nlist)
            parameters = _faiss().SearchParametersIVF(nprobe=probes, sel=within)
            line: np.ndarray = self.index.search(query, wanted, params=parameters)[1][0]
            slots = line[line >= 0]
            known = np.isin(slots[:k], best).sum()
            if probes == self.index.nlist or known >= (1 - _NEW) * k:
                return slots
            best, probes = slots[:k], 2 * probes


def search_lists(
    lists: Lists, where: Slots, queries: np.ndarray, k: int, share: float, *, longest: float
) -> list[Found]:
    """Find nearly the best k live slots of each query: in lists, and behind what those cover.

    Args:
        lists: They cover the first slots.
        where: What is searched; at least k of it is live.
        queries: float32 [m, d].
        k: How many.
        share: The share of all slots that is live.
        longest: A length that no vector exceeds.
    """
    candidates = lists.candidates(queries, k, where.live, share)
    tail = search_all(where, queries, k, longest=longest, start=lists.covered)
    found = [
        score(where, slots, query, k).joined(beside, k)
        for slots, query, beside in zip(candidates, queries, tail, strict=True)
    ]
    for i, one in enumerate(found):
        if len(one.rows) < k:  # the lists held no more: all is looked at
            (found[i],) = search_all(where, queries[i : i + 1], k, longest=longest)
    return found


def up_to_date(
    lists: Lists | None,
    segments: Segments,
    n: int,
    live: Callable[[], np.ndarray | None],
    *,
    progress: bool,
) -> Lists:
    """Return lists that fit n live vectors: the same, those extended, or newly trained ones."""
    if lists and n > _GROWTH * max(lists.trained_on, 1):
        logger.info("%d vectors, trained on %d: again.", n, lists.trained_on)
        lists = None
    if lists and 2 * n < lists.covered:
        logger.info("%d vectors left of the %d in lists: again.", n, lists.covered)
        lists = None
    if lists is None:
        return Lists.train(segments, live(), progress=progress)
    missing = segments.total - lists.covered
    if missing > _TAIL_SHARE * lists.covered:
        logger.info("Sorting %d changed vectors into lists.", missing)
        return lists.extended(segments)
    return lists


def _add(
    index: Any,  # noqa: ANN401 - faiss has no types for what its indexes do
    segments: Segments,
    *,
    progress: bool,
) -> None:
    missing = segments.total - index.ntotal
    with tqdm(
        total=missing, desc="Filling lists", unit="vectors", disable=None if progress else True
    ) as bar:
        for _, block in segments.blocks(_ADDED_AT_ONCE, index.ntotal):
            index.add(np.ascontiguousarray(block, dtype=np.float32))
            bar.update(len(block))


def _faiss() -> ModuleType:
    try:
        import faiss  # noqa: PLC0415
    except ImportError as error:
        raise OptionError(
            "Searching so many vectors needs faiss, which is not installed.",
            hint="pip install 'llmrec[search]', or raise `exact_below` to search exactly.",
        ) from error
    return faiss
