from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.models.prefix_tree import PrefixTree, ScoredSequence

# Few tokens and short sequences: shared beginnings, repeats, prefixes of each other all occur.
sequences = st.lists(
    st.lists(st.integers(0, 2), min_size=2, max_size=9).flatmap(
        lambda tokens: st.integers(1, len(tokens) - 1).map(
            lambda start: ScoredSequence(tuple(tokens), start)
        )
    ),
    min_size=1,
    max_size=12,
)


def path_of(tree: PrefixTree, row: int) -> list[int]:
    return [int(tree.tokens[a]) for a in range(len(tree)) if a <= row < tree.ends[a]]


def positions(tree: PrefixTree, values: NDArray[np.int64]) -> list[list[int]]:
    return [some.tolist() for some in np.split(values, np.cumsum(tree.counts)[:-1])]


def test_shared_beginnings_are_one_branch() -> None:
    tree = PrefixTree.of([ScoredSequence((5, 6, 7, 1), 3), ScoredSequence((5, 6, 8, 1), 3)])
    assert tree.tokens.tolist() == [5, 6, 7, 8]
    assert tree.depths.tolist() == [0, 1, 2, 2]
    assert tree.ends.tolist() == [4, 4, 3, 4]
    assert positions(tree, tree.score_rows) == [[2], [3]]


def test_labels_after_one_prompt_cost_no_rows() -> None:
    prompt = (4, 5, 6)
    tree = PrefixTree.of([ScoredSequence((*prompt, label), 3) for label in (1, 2, 3)])
    assert len(tree) == 3
    assert positions(tree, tree.score_tokens) == [[1], [2], [3]]


def test_alternatives_are_read_where_the_last_token_is() -> None:
    tree = PrefixTree.of([ScoredSequence((4, 5, 6, 1), 2, (2, 3)), ScoredSequence((4, 5), 1, (9,))])
    assert len(tree) == 3
    assert positions(tree, tree.score_tokens) == [[6, 1, 2, 3], [5, 9]]
    assert positions(tree, tree.score_rows) == [[1, 2, 2, 2], [0, 0]]


@given(sequences)
def test_one_row_for_every_distinct_prefix(batch: list[ScoredSequence]) -> None:
    tree = PrefixTree.of(batch)
    prefixes = {s.tokens[:end] for s in batch for end in range(1, len(s.tokens))}
    assert len(tree) == len(prefixes)
    assert {tuple(path_of(tree, row)) for row in range(len(tree))} == prefixes
    assert tree.given == sum(map(len, {s.tokens[:-1] for s in batch}))


@given(sequences)
def test_score_positions_match_their_prefixes(batch: list[ScoredSequence]) -> None:
    tree = PrefixTree.of(batch)
    scored = zip(positions(tree, tree.score_rows), positions(tree, tree.score_tokens), strict=True)
    for sequence, (rows, tokens) in zip(batch, scored, strict=True):
        assert tokens == list(sequence.tokens[sequence.start :])
        for i, row in enumerate(rows, start=sequence.start):
            assert path_of(tree, row) == list(sequence.tokens[:i])


@given(sequences, st.integers(1, 7))
def test_chunks_cover_all_rows_and_carry_exactly_the_path_above(
    batch: list[ScoredSequence], max_rows: int
) -> None:
    tree = PrefixTree.of(batch)
    chunks = list(tree.chunks(max_rows))
    assert [c.start for c in chunks] == [0, *(c.end for c in chunks[:-1])]
    assert chunks[-1].end == len(tree)
    for chunk in chunks:
        assert 0 < chunk.end - chunk.start <= max_rows
        above = [a for a in range(chunk.start) if tree.ends[a] > chunk.start]
        assert chunk.carried.tolist() == above
        for row in range(chunk.start, chunk.end):
            needed = {a for a in range(chunk.start) if a <= row < tree.ends[a]}
            assert needed <= set(above)


@pytest.mark.parametrize(("tokens", "start"), [((1, 2), 0), ((1, 2), 2), ((1,), 1), ((), 0)])
def test_a_sequence_without_context_or_target_is_refused(
    tokens: tuple[int, ...], start: int
) -> None:
    with pytest.raises(OptionError, match=f"start={start}"):
        ScoredSequence(tokens, start)
