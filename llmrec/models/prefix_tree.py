"""The prefix tree of a batch of token sequences.

Sequences that begin alike share the nodes of what they have in common: one node is one token after
one particular beginning. Nodes are numbered depth first (*rows*), so that

- the ancestors of a row stand before it, and its subtree is the run of rows ``row .. ends[row]``;
- hence ``a`` is an ancestor of ``b``, or ``b`` itself, exactly if ``a <= b < ends[a]``;
- and for any run of rows that begins at ``s``, every ancestor that stands before ``s`` is an
  ancestor of ``s`` itself.

The last line is what makes the tree cheap to work through in chunks: however many branches a chunk
holds, all it needs from earlier ones is the single path that leads to its first row.

The last token of a sequence is never a node: it is only scored, by the row before it.
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

    Scored are each of ``tokens[start:]``, given all tokens before it, and each of ``alternatives``
    in the place of the last token. Labels ("Yes", "No") and whole titles are scored alike: as a
    prompt followed by them.

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
    """Where one sequence's scores are read: the log-probability of ``tokens[i]`` at ``rows[i]``."""

    rows: Rows
    tokens: Rows


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of rows to forward together.

    ``carried`` are the rows of the path above ``start``, root first: their keys and values were
    computed with earlier chunks. ``scored`` are the rows of the run at which scores are read.
    """

    start: int
    end: int
    carried: Rows
    scored: Rows


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """All nodes of a batch, by row, and what to read from them.

    ``tokens[n]`` and ``depths[n]`` (0 at a root) describe a row; ``ends[n]`` is the row after its
    subtree. ``positions`` has one entry per sequence, in the order the sequences were given.
    """

    tokens: Rows
    depths: Rows
    ends: Rows
    positions: tuple[ScorePositions, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, sequences: Sequence[ScoredSequence]) -> PrefixTree:
        """Build the tree; equal beginnings, in any order, are one branch."""
        order = sorted(range(len(sequences)), key=lambda i: sequences[i].tokens)
        tokens: list[int] = []
        depths: list[int] = []
        ends: list[int] = []
        positions: list[ScorePositions | None] = [None] * len(sequences)
        above = np.empty(0, dtype=np.int64)  # the previous sequence, and the rows of its tokens
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
            # In depth-first order the newest row at each smaller depth is the ancestor there;
            # an assignment with repeated indices keeps the last.
            newest[self.depths[done:start]] = np.arange(done, start)
            paths.append(newest[: self.depths[start]].copy())
            done = start
        return paths

    def scored_rows(self) -> Rows:
        """Every row at which some score is read, ascending."""
        if not self.positions:
            return np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([some.rows for some in self.positions]))

    def common_prefix(self) -> Rows:
        """The tokens that all sequences begin with, up to the first at which a score is read."""
        common = int(np.argmax(np.append(self.ends, -1) != len(self)))
        return self.tokens[: min(common, int(self.scored_rows()[0]))]

    def chunks(self, max_rows: int, max_scored: int, start: int = 0) -> Iterator[Chunk]:
        """Cut the tree from ``start`` on into runs of at most so many rows and scored rows."""
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
    """How many leading tokens two sequences share."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
