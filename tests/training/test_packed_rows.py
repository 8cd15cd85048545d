from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llmrec.models import tree_attention
from llmrec.training.packed_rows import (
    Segment,
    batches_of,
    gradient_difference,
    longer_than_window,
    rows_of,
    segment_scores,
)

SIZE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "gemma2, capped": {"model_type": "gemma2", "head_dim": 16, "attn_logit_softcapping": 2.0},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 16},
}


def tiny(family: str, **options: object) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**(SIZE | FAMILIES[family] | options))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=tree_attention.NAME)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    made: PreTrainedModel = model
    return made


def segments(draw: np.random.Generator) -> list[Segment]:
    def some(size: int) -> np.ndarray:
        return draw.integers(0, SIZE["vocab_size"], size, dtype=np.int32)

    learned = np.array([False, True, True, False, True, True])
    return [
        Segment(some(9), (some(3), some(1), some(5))),
        Segment(some(6), learned=learned),
        Segment(some(4), (some(2), some(2))),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_scores_are_those_of_each_answer_alone(family: str) -> None:
    model, given = tiny(family), segments(np.random.default_rng(1))
    packed = segment_scores(model, [given[:2], given[2:]])
    for segment, scores in zip(given, packed, strict=True):
        expected = []
        for alone in segment.apart():
            ids = torch.from_numpy(alone.prompt.astype(np.int64))[None]
            logs = model(ids, use_cache=False).logits[0].detach().float().log_softmax(-1)
            assert alone.learned is not None
            scored = np.flatnonzero(alone.learned[1:]) + 1
            expected.append(float(logs[scored - 1, alone.prompt[scored].astype(np.int64)].sum()))
        assert scores.tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_whole_rows(family: str) -> None:
    assert gradient_difference(tiny(family)) < 1e-4


def test_a_model_that_ignores_the_block_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    forward = model.forward

    def causal(**given: torch.Tensor) -> object:
        mask = given["attention_mask"]
        return forward(**{**given, "attention_mask": mask if mask.ndim == 2 else None})

    monkeypatch.setattr(model, "forward", causal)
    assert gradient_difference(model) > 1e-3


def test_whole_rows_give_the_same_scores() -> None:
    model, given = tiny("llama"), segments(np.random.default_rng(2))
    apart = segment_scores(model, [given], whole=True)
    packed = segment_scores(model, [given])
    for one, other in zip(packed, apart, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("whole", [False, True])
def test_labels_are_read_where_their_prompt_ends(whole: bool) -> None:
    model, draw = tiny("llama"), np.random.default_rng(4)
    prompt, *answers = (draw.integers(0, 61, size, dtype=np.int32) for size in (7, 3, 5, 4))
    labels = ((5, 6), (7,), (8, 9))
    pointwise = Segment(prompt, tuple(answers), labels=labels[:2])
    listwise = Segment(prompt, labels=labels)
    found = segment_scores(model, [[pointwise, listwise], [listwise]], whole=whole)

    def chances(*parts: np.ndarray) -> list[torch.Tensor]:
        ids = torch.from_numpy(np.concatenate(parts).astype(np.int64))[None]
        last = model(ids, use_cache=False).logits[0, -1].detach().float().log_softmax(-1)
        return [last[list(tokens)].logsumexp(0) for tokens in labels]

    odds = [yes - no for yes, no, _ in (chances(prompt, answer) for answer in answers)]
    assert torch.allclose(found[0], torch.stack(odds), atol=1e-4)
    for scores in found[1:]:
        assert torch.allclose(scores, torch.stack(chances(prompt)), atol=1e-4)
    found[0].sum().backward()  # gradients flow, and none is NaN
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_rows_hold_every_segment_once_and_stay_within_their_length() -> None:
    draw = np.random.default_rng(3)
    given = [Segment(np.zeros(size, dtype=np.int32)) for size in draw.integers(1, 90, 40)]
    rows = rows_of(given, 64)
    assert sorted(number for row in rows for number in row) == list(range(40))
    assert all(len(row) == 1 or sum(len(given[n]) for n in row) <= 64 for row in rows)
    for batch in batches_of(given, 64, 200):
        longest = max(sum(len(given[n]) for n in row) for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= 200


def test_only_segments_beyond_a_sliding_window_need_whole_rows() -> None:
    model = tiny("gemma3", sliding_window=24)
    lists = [[Segment(np.zeros(size, np.int32), (np.zeros(4, np.int32),))] for size in (20, 21)]
    assert [longer_than_window(model, some) for some in lists] == [False, True]
    assert not longer_than_window(tiny("llama"), lists[1])
