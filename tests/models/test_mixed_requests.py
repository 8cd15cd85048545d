"""One call for requests of every kind: scores do not depend on who shares it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from llmrec.models import ScoredSequence, prefix_scoring, tree_attention
from llmrec.models.prefix_scoring import PrefixCache, forward_chunk, score_sequences
from llmrec.models.prefix_tree import PrefixTree
from llmrec.models.tree_attention import Sizes
from tests.models.conftest import tiny_model

INSTRUCTION = (3, 4, 5)


def request(rng: np.random.Generator, history: int, candidates: int) -> list[ScoredSequence]:
    """An instruction, a history, and candidates of up to five tokens."""
    prompt = (*INSTRUCTION, *rng.integers(3, 97, history).tolist())
    titles = [rng.integers(3, 97, rng.integers(1, 6)).tolist() for _ in range(candidates)]
    return [ScoredSequence((*prompt, *title), len(prompt)) for title in titles]


def scores(sequences: Sequence[ScoredSequence], max_rows: int = 1024) -> list[Tensor]:
    with torch.inference_mode():
        return [*score_sequences(tiny_model("llama"), sequences, max_rows=max_rows).log_probs]


def whole(model: PreTrainedModel, sequence: ScoredSequence) -> Tensor:
    kept = len(sequence.tokens) - sequence.start + 1
    ids = torch.tensor([list(sequence.tokens)])
    logits = model(input_ids=ids, logits_to_keep=kept).logits[0, :-1]
    scores: Tensor = logits.log_softmax(-1).gather(1, ids[0, sequence.start :, None])[:, 0]
    return scores


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 12)), min_size=2, max_size=7),
    max_rows=st.sampled_from([16, 100, 1024]),
    run=st.sampled_from([16, 64]),
    keys=st.sampled_from([64, 16_384]),
    seed=st.integers(0, 99),
)
def test_who_shares_a_call_does_not_change_scores(
    shapes: list[tuple[int, int]], max_rows: int, run: int, keys: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    users = [request(rng, history, candidates) for history, candidates in shapes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "ON_CPU", Sizes(run, keys, 16_000_000))
        shared = scores([one for user in users for one in user], max_rows)
    apart = [one for user in users for one in scores(user)]
    torch.testing.assert_close(torch.cat(shared), torch.cat(apart), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("history", "candidates"), [(1500, 400), pytest.param(30_000, 5000, marks=pytest.mark.slow)]
)
def test_long_and_empty_histories_and_many_candidates_share_a_call(
    history: int, candidates: int
) -> None:
    rng = np.random.default_rng(0)
    users = [
        request(rng, 0, 1),
        request(rng, history, 3),
        request(rng, 20, candidates),
        request(rng, 0, 3),
        [ScoredSequence(INSTRUCTION, 1), ScoredSequence((*INSTRUCTION, 6, 7), 2)],
    ]
    together = [one for user in users for one in user]
    shared, plain = scores(together, 2048), tiny_model("llama", attention="sdpa")
    assert len(shared) == len(together)
    places = [0, 1, 3, 4, candidates // 2, *range(candidates, len(together))]
    with torch.inference_mode():
        for place in places:
            expected = whole(plain, together[place])
            torch.testing.assert_close(shared[place], expected, atol=1e-4, rtol=0)


def test_one_long_history_does_not_lengthen_the_keys_of_the_others() -> None:
    rng = np.random.default_rng(0)
    users = [request(rng, history, 20) for history in (40, 6000, 50, 30)]
    tree = PrefixTree.of([one for user in users for one in user])
    (chunk,) = tree.chunks(len(tree))
    attention = tree_attention.TreeAttention.of(tree, chunk)
    needed = sum(int(tree.depths[head]) + 64 for head in attention.heads)
    assert len(attention.keys) < 1.5 * needed


def test_memory_that_fails_in_the_middle_of_a_call_changes_no_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    sequences = [one for _ in range(6) for one in request(rng, 100, 4)]
    expected, calls = scores(sequences, 128), []

    def fails_once(*args: object) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward_chunk(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(prefix_scoring, "forward_chunk", fails_once)
    cached = PrefixCache()
    with torch.inference_mode():
        passed = score_sequences(tiny_model("llama"), sequences, max_rows=128, cached=cached)
    assert passed.halvings == 1
    torch.testing.assert_close(passed.scores, torch.cat(expected), atol=2e-5, rtol=1e-5)
