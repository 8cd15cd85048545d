"""The prefix tree of a batch of token sequences.

Sequences with a common prefix share its nodes. A node is one token after one prefix. Nodes are
numbered depth first; a node's number is its *row*. Therefore:

- the ancestors of a row come before it, and its subtree is the rows ``row`` to ``ends[row]``;
- ``a`` is ``b`` or an ancestor of it if and only if ``a <= b < ends[a]``;
- for consecutive rows from ``s`` on, every ancestor before ``s`` is an ancestor of ``s``.

The last property makes chunks cheap: however many branches a chunk has, it needs from earlier
chunks only the path to its first row.

The last token of a sequence is never a node. It is only scored, by the row before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError

Rows = NDArray[np.int64]
Tokens: TypeAlias = Sequence[int] | NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ScoredSequence:
    """A token sequence and the positions in it that are scored.

    Each of ``tokens[start:]`` is scored, given all tokens before it, and each of ``alternatives``
    in place of the last token. Labels ("Yes", "No") and titles are scored in the same way: as a
    prompt and what follows it. An array of tokens needs the least time and memory.

    Raises:
        OptionError: ``start`` leaves nothing to condition on, or nothing to score.
    """

    tokens: Tokens
    start: int
    alternatives: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise OptionError(
                f"start={self.start} for a sequence of {len(self.tokens)} tokens: "
                f"allowed is 1 to {len(self.tokens) - 1}.",
                hint="Put at least one token before, and one token at, the scored position.",
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows that are forwarded together.

    ``carried`` are the ancestors of ``start``, root first; earlier chunks computed their keys and
    values.
    """

    start: int
    end: int
    carried: Rows


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """All nodes of a batch, by row, and the scored positions.

    ``tokens[n]`` is a row's token and ``depths[n]`` its depth (0 at a root); ``ends[n]`` is the row
    after its subtree. Scored is ``score_tokens[i]`` at ``score_rows[i]``, one sequence after the
    other in the given order, ``counts`` of each. ``given`` counts the tokens of all distinct
    sequences without the tree.
    """

    tokens: Rows
    depths: Rows
    ends: Rows
    score_rows: Rows
    score_tokens: Rows
    counts: Rows
    given: int

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, sequences: Sequence[ScoredSequence]) -> PrefixTree:
        """Build the tree: sequences with a common prefix share a branch, in any order."""
        whole = [np.asarray(sequence.tokens, dtype=np.int32) for sequence in sequences]
        n = len(whole)
        # Big-endian bytes sort as the tokens do. The last token is scored only.
        order = sorted(
            range(n), key=[one[:-1].astype(">u4").tobytes() for one in whole].__getitem__
        )
        contexts = [whole[i][:-1] for i in order]
        lengths = np.array([len(context) for context in contexts], dtype=np.int64)
        shared = np.array([0, *(common_length(a, b) for a, b in pairwise(contexts))])[:n]
        first = np.append(0, np.cumsum(lengths - shared))  # each sequence's first row of its own
        owners = np.repeat(np.arange(n), lengths - shared)
        depths = shared[owners] + np.arange(first[-1]) - first[owners]
        # A subtree ends at the next sequence that shares no more than what is above it.
        ends = first[_next_at_most(shared, owners + 1, depths)]

        place = np.empty(n, dtype=np.int64)
        place[order] = np.arange(n)
        starts = np.array([sequence.start for sequence in sequences], dtype=np.int64)
        others = np.array([len(sequence.alternatives) for sequence in sequences], dtype=np.int64)
        counts = lengths[place] + 1 - starts + others
        asked = [(*s.tokens[s.start :], *s.alternatives) for s in sequences]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        above = np.minimum(
            np.repeat(starts - 1, counts) + inside, np.repeat(lengths[place] - 1, counts)
        )
        # The row at a depth belongs to the last sequence that shares no more than what is above it.
        holder = n - 1 - _next_at_most(shared[::-1], n - 1 - np.repeat(place, counts), above)
        repeated = np.append(False, (shared == lengths)[1:] & (lengths[1:] == lengths[:-1]))[:n]
        return cls(
            tokens=_joined([c[s:] for c, s in zip(contexts, shared, strict=True)]),
            depths=depths,
            ends=ends,
            score_rows=first[holder] + above - shared[holder],
            score_tokens=_joined(asked),
            counts=counts,
            given=int(lengths[~repeated].sum()),
        )

    def common_prefix(self) -> Rows:
        """The common prefix of all sequences, up to the first scored position."""
        common = int(np.argmax(np.append(self.ends, -1) != len(self)))
        return self.tokens[: min(common, int(self.score_rows.min()))]

    def chunks(self, max_rows: int, start: int = 0) -> Iterator[Chunk]:
        """Split the rows from ``start`` on into chunks of at most ``max_rows``."""
        for begin in range(start, len(self), max_rows):
            carried = np.flatnonzero(self.ends[:begin] > begin)
            yield Chunk(begin, min(begin + max_rows, len(self)), carried)


def common_length(a: NDArray[np.integer], b: NDArray[np.integer]) -> int:
    """Length of the common prefix of two sequences."""
    n = min(len(a), len(b))
    different = a[:n] != b[:n]
    first = int(different.argmax()) if n else 0
    return first if n and different[first] else n


def _next_at_most(values: Rows, at: Rows, bounds: Rows) -> Rows:
    """Index of the first of ``values`` from ``at`` on that is at most its bound, else their number.

    Jumps by powers of two over minima of as many values.
    """
    low, width, minima = np.append(values, -1), 1, []
    while width <= len(values):
        minima.append(low)
        low = np.minimum(low, np.append(low[width:], np.full(width, -1)))
        width *= 2
    for level in reversed(minima):
        width //= 2
        at = at + width * (level[at] > bounds)
    return at


def _joined(parts: Sequence[Tokens]) -> Rows:
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *(np.asarray(part, dtype=np.int64) for part in parts)])
