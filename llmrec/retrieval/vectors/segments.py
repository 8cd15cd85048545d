"""Vectors as they lie in memory or in files: segments, only ever appended to.

A vector's place in this line of segments is its *slot*. What is changed or deleted leaves its slot
unused; the store knows which slots are in use, and for which row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmrec.errors import DataError
from llmrec.retrieval.storage import FileEntry, Mapped

_LENGTHS_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class Segment:
    """float32 [n, d], read-only, and the file it is mapped from where there is one."""

    vectors: np.ndarray
    entry: FileEntry | None = None

    @classmethod
    def mapped(cls, file: Mapped, dimension: int) -> Segment:
        """Take a file's content, without reading it."""
        return cls(file.content.view(np.dtype("<f4")).reshape(-1, dimension), file.entry)

    def file(self) -> Mapped:
        """Return what is written for it; a segment that came from a file says from which."""
        content = np.ascontiguousarray(self.vectors, dtype="<f4")
        return Mapped(content.reshape(-1).view(np.uint8), self.entry)


@dataclass(frozen=True, eq=False)
class Segments:
    """Vectors by slot: all segments in one line.

    Args:
        dimension: d, also where there is no vector.
        parts: The segments, none empty.
    """

    dimension: int
    parts: tuple[Segment, ...] = ()

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 [n_parts + 1]: the first slot of each part, and the number of slots."""
        return np.cumsum([0, *(len(part.vectors) for part in self.parts)])

    @property
    def total(self) -> int:
        """How many slots there are."""
        return int(self.starts[-1])

    def append(self, vectors: np.ndarray) -> Segments:
        """Return these segments with float32 [n, d] behind them.

        A last part that has grown to half of the one before it is merged with that one, so that
        many small changes make few parts. The first part, mostly the largest, is never copied.
        """
        if not len(vectors):
            return self
        parts = [*self.parts, Segment(frozen(vectors))]
        while len(parts) > 2 and 2 * len(parts[-1].vectors) >= len(parts[-2].vectors):
            last, before = parts.pop(), parts.pop()
            parts.append(Segment(frozen(np.concatenate([before.vectors, last.vectors]))))
        return Segments(self.dimension, tuple(parts))

    def gather(self, slots: np.ndarray) -> np.ndarray:
        """Copy the vectors of some slots: float32 [len(slots), d]."""
        if len(self.parts) == 1:
            only: np.ndarray = self.parts[0].vectors[slots]
            return only
        gathered = np.empty((len(slots), self.dimension), dtype=np.float32)
        homes = np.searchsorted(self.starts, slots, side="right") - 1
        for home, part in enumerate(self.parts):
            here = np.flatnonzero(homes == home)
            gathered[here] = part.vectors[slots[here] - self.starts[home]]
        return gathered

    def blocks(self, size: int, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Run through the vectors from slot ``start`` on.

        Yields:
            The first slot of a block, and a view float32 [<= size, d].
        """
        for first, part in zip(self.starts, self.parts, strict=False):
            for at in range(max(0, start - int(first)), len(part.vectors), size):
                yield int(first) + at, part.vectors[at : at + size]


def frozen(vectors: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written through."""
    view = vectors.view()
    view.setflags(write=False)
    return view


def lengths(vectors: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Return the lengths of vectors [n, d] as float32 [n].

    Raises:
        DataError: One is not finite, or so long that an inner product would not be; its id is
            named.
    """
    blocks = range(0, len(vectors), _LENGTHS_AT_ONCE)
    squares = np.empty(len(vectors), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in blocks:
            block = vectors[start : start + _LENGTHS_AT_ONCE]
            squares[start : start + len(block)] = np.einsum("ij,ij->i", block, block)
    broken = np.flatnonzero(~np.isfinite(squares))
    if broken.size:
        raise DataError(
            f"The vectors of {broken.size} items are not finite, "
            f"the first that of {ids[broken[0]]!r}.",
            hint="Check the encoder on that item's text.",
        )
    return np.sqrt(squares)
