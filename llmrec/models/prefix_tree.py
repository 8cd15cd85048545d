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

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScoredSequence:
    """A token sequence and the positions in it that are scored.

    Each of ``tokens[start:]`` is scored, given all tokens before it, and each of ``alternatives``
    in place of the last token. Labels ("Yes", "No") and titles are scored in the same way: as a
    prompt and what follows it.

    Raises:
        OptionError: ``start`` leaves nothing to condition on, or nothing to score.
    """

    tokens: tuple[int, ...]
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
class ScorePositions:
    """The positions of one sequence's scores: ``tokens[i]`` is scored at ``rows[i]``."""

    rows: Rows
    tokens: Rows


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows that are forwarded together.

    ``carried`` are the ancestors of ``start``, root first; earlier chunks computed their keys and
    values. ``scored`` are the chunk's rows with scored positions.
    """

    start: int
    end: int
    carried: Rows
    scored: Rows


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """All nodes of a batch, by row, and the scored positions.

    ``tokens[n]`` is a row's token and ``depths[n]`` its depth (0 at a root); ``ends[n]`` is the row
    after its subtree. ``positions`` has one entry per sequence, in the given order.
    """

    tokens: Rows
    depths: Rows
    ends: Rows
    positions: tuple[ScorePositions, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, sequences: Sequence[ScoredSequence]) -> PrefixTree:
        """Build the tree: sequences with a common prefix share a branch, in any order."""
        order = sorted(range(len(sequences)), key=lambda i: sequences[i].tokens)
        tokens: list[int] = []
        depths: list[int] = []
        ends: list[int] = []
        positions: list[ScorePositions | None] = [None] * len(sequences)
        above = np.empty(0, dtype=np.int64)  # tokens of the previous sequence; ``path``: its rows
        path = np.empty(0, dtype=np.int64)
        for i in order:
            asked = np.asarray(sequences[i].tokens + sequences[i].alternatives, dtype=np.int64)
            context = asked[: len(sequences[i].tokens) - 1]
            shared = common_length(above, context)
            for row in path[shared:]:
                ends[row] = len(tokens)
            fresh = np.arange(len(tokens), len(tokens) + len(context) - shared)
            tokens.extend(context[shared:].tolist())
            depths.extend(range(shared, len(context)))
            ends.extend([-1] * len(fresh))
            path = np.concatenate([path[:shared], fresh])
            above = context
            start = sequences[i].start
            last = path[-1:].repeat(len(sequences[i].alternatives))
            positions[i] = ScorePositions(np.concatenate([path[start - 1 :], last]), asked[start:])
        for row in path:
            ends[row] = len(tokens)
        return cls(
            np.asarray(tokens, dtype=np.int64),
            np.asarray(depths, dtype=np.int64),
            np.asarray(ends, dtype=np.int64),
            tuple(some for some in positions if some is not None),
        )

    def paths(self, starts: Sequence[int]) -> list[Rows]:
        """The ancestors of each of ``starts`` (ascending rows), root first, in one pass."""
        newest = np.zeros(int(self.depths.max(initial=0)) + 1, dtype=np.int64)
        paths = []
        done = 0
        for start in starts:
            # In depth-first order, the latest row at a smaller depth is the ancestor at that depth.
            # An assignment with repeated indices keeps the last value.
            newest[self.depths[done:start]] = np.arange(done, start)
            paths.append(newest[: self.depths[start]].copy())
            done = start
        return paths

    def scored_rows(self) -> Rows:
        """Rows with scored positions, ascending."""
        if not self.positions:
            return np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([some.rows for some in self.positions]))

    def common_prefix(self) -> Rows:
        """The common prefix of all sequences, up to the first scored position."""
        common = int(np.argmax(np.append(self.ends, -1) != len(self)))
        return self.tokens[: min(common, int(self.scored_rows()[0]))]

    def chunks(self, max_rows: int, max_scored: int, start: int = 0) -> Iterator[Chunk]:
        """Split the rows from ``start`` on into chunks of limited rows and scored rows."""
        scored = self.scored_rows()
        bounds = [start]
        while bounds[-1] < len(self):
            begin = bounds[-1]
            first = int(np.searchsorted(scored, begin))
            end = min(begin + max_rows, len(self))
            if first + max_scored < len(scored):
                end = min(end, int(scored[first + max_scored]))
            bounds.append(end)
        for begin, end, carried in zip(bounds, bounds[1:], self.paths(bounds[:-1]), strict=False):
            inside = scored[np.searchsorted(scored, begin) : np.searchsorted(scored, end)]
            yield Chunk(begin, end, carried, inside)


def common_length(a: Rows, b: Rows) -> int:
    """Length of the common prefix of two sequences."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
