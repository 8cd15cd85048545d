"""The engine's contract, line by line, on small random models of several families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, Cache, PreTrainedModel

from llmrec.errors import ModelError, OutOfMemoryError
from llmrec.models import ScoredSequence, prefix_scoring, tree_attention
from llmrec.models.prefix_scoring import (
    PrefixCache,
    check_prefix_sharing,
    score_sequences,
)
from llmrec.models.prefix_tree import Chunk, PrefixTree
from llmrec.models.tree_attention import ON_CPU, TreeAttention
from tests.models.conftest import FAMILIES, SIZE, tiny_model


def batch(vocabulary: int, seed: int = 0) -> list[ScoredSequence]:
    """Sequences that share beginnings at many depths, some equal, one a prefix of another."""
    rng = np.random.default_rng(seed)
    trunk = rng.integers(3, vocabulary, 90).tolist()
    sequences = []
    for _ in range(24):
        shared = trunk[: rng.integers(0, 90)]
        own = rng.integers(3, vocabulary, rng.integers(2, 80)).tolist()
        tokens = (*shared, *own)
        sequences.append(ScoredSequence(tokens, int(rng.integers(1, len(tokens)))))
    longest = max(sequences, key=lambda s: len(s.tokens))
    return [*sequences, longest, ScoredSequence(longest.tokens[:40], 39)]


def alone(model: PreTrainedModel, sequence: ScoredSequence) -> Tensor:
    """What a plain forward of the whole sequence gives."""
    log_probs = model(input_ids=torch.tensor([sequence.tokens])).logits[0].log_softmax(-1)
    places = range(sequence.start, len(sequence.tokens))
    return torch.stack([log_probs[i - 1, sequence.tokens[i]] for i in places])


@pytest.mark.parametrize("max_rows", [16, 100, 5000])
def test_scores_equal_whole_sequences_forwarded_alone(family: str, max_rows: int) -> None:
    sequences = batch(97)
    plain = tiny_model(family, attention="eager")
    with torch.inference_mode():
        passed = score_sequences(tiny_model(family), sequences, max_rows=max_rows)
        for sequence, scores in zip(sequences, passed.log_probs, strict=True):
            torch.testing.assert_close(scores, alone(plain, sequence), atol=1e-4, rtol=0)


def test_tokens_forwarded_are_the_nodes_of_the_tree() -> None:
    seen = []
    model = tiny_model("llama")
    model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0].numel())
    )
    sequences = batch(97)
    distinct = {s.tokens[:end] for s in sequences for end in range(1, len(s.tokens))}
    with torch.inference_mode():
        passed = score_sequences(model, sequences, max_rows=100)
    assert sum(seen) == passed.rows == len(distinct)
    assert len(seen) == passed.forwards


def test_forward_passes_stay_within_the_budget() -> None:
    model = tiny_model("llama")
    rows: list[int] = []
    keys: list[int] = []
    model.model.layers[0].self_attn.q_proj.register_forward_hook(
        lambda _module, inputs, _output: rows.append(inputs[0].shape[1])
    )
    update = prefix_scoring._PathLayer.update

    def watched(
        self: prefix_scoring._PathLayer, *args: Tensor, **_: object
    ) -> tuple[Tensor, Tensor]:
        kept = update(self, *args)
        assert self.keys is not None
        keys.append(int(self.keys.shape[2]))
        return kept

    trunk = tuple(range(3, 63))
    sequences = [ScoredSequence((*trunk, 64 + i % 30, 3 + i // 30, 1), 62) for i in range(600)]
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_scoring._PathLayer, "update", watched)
        score_sequences(model, sequences, max_rows=128)
    assert max(rows) <= 128
    assert max(keys) <= max(len(s.tokens) for s in sequences)


def test_the_vocabulary_is_projected_only_where_a_score_is_read() -> None:
    model = tiny_model("llama")
    projected = []
    model.get_output_embeddings().register_forward_hook(
        lambda _module, inputs, _output: projected.append(inputs[0].shape[1])
    )
    sequences = batch(97)
    with torch.inference_mode():
        score_sequences(model, sequences, max_rows=100)
    assert sum(projected) == len(np.unique(PrefixTree.of(sequences).score_rows))


@pytest.mark.parametrize("max_rows", [64, 5000])
def test_gradients_equal_those_of_whole_sequences(family: str, max_rows: int) -> None:
    sequences = batch(97, seed=1)[:8]
    model, plain = tiny_model(family), tiny_model(family, attention="eager")
    passed = score_sequences(model, sequences, max_rows=max_rows)
    torch.cat(passed.log_probs).sum().backward()
    torch.cat([alone(plain, sequence) for sequence in sequences]).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert theirs.grad is not None, name
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3, msg=name)


def test_alternatives_score_as_sequences_of_their_own() -> None:
    model, prompt = tiny_model("llama"), tuple(range(10, 40))
    with torch.inference_mode():
        together = score_sequences(
            model, [ScoredSequence((*prompt, 3), 30, (4, 5))], max_rows=99
        ).log_probs[0]
        apart = score_sequences(
            model, [ScoredSequence((*prompt, label), 30) for label in (3, 4, 5)], max_rows=99
        ).log_probs
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("max_rows", [16, 5000])
def test_a_kept_beginning_is_not_forwarded_again_and_scores_stay(
    family: str, max_rows: int
) -> None:
    rng = np.random.default_rng(1)
    history = tuple(rng.integers(3, 97, 70).tolist())

    def ask(n: int, own: int, begin: tuple[int, ...] = history) -> list[ScoredSequence]:
        tails = [tuple(rng.integers(3, 97, own).tolist()) for _ in range(n)]
        return [ScoredSequence((*begin, *tail), len(begin) + own - 1) for tail in tails]

    calls = [ask(5, 9), ask(1, 12), ask(3, 4), ask(2, 3, history[:30]), ask(2, 30), ask(1, 1)]
    plain, cached = tiny_model(family, attention="eager"), PrefixCache()
    forwarded = []
    with torch.inference_mode():
        for sequences in calls:
            passed = score_sequences(
                tiny_model(family), sequences, max_rows=max_rows, cached=cached
            )
            forwarded.append(passed.rows)
            for sequence, scores in zip(sequences, passed.log_probs, strict=True):
                torch.testing.assert_close(scores, alone(plain, sequence), atol=1e-4, rtol=0)
    # The last token of a sequence is only scored; a shorter beginning takes nothing away.
    assert forwarded == [70 + 5 * 8, 11, 3 * 3, 2 * 2, 2 * 29, 1]


def test_masks_too_large_to_keep_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sequences = tiny_model("gemma3, window 24"), batch(97)
    with torch.inference_mode():
        kept = score_sequences(model, sequences, max_rows=100).log_probs
        monkeypatch.setattr(tree_attention, "ON_CPU", replace(ON_CPU, mask=0))
        made_anew = score_sequences(model, sequences, max_rows=100).log_probs
    torch.testing.assert_close(torch.cat(kept), torch.cat(made_anew), atol=0, rtol=0)


def test_half_precision_is_as_exact_as_whole_sequences_are() -> None:
    exact, half = tiny_model("llama"), tiny_model("llama").bfloat16()
    sequences = batch(97)
    with torch.inference_mode():
        true = torch.cat([alone(exact, s) for s in sequences])
        plain = torch.cat([alone(half, s).float() for s in sequences])
        shared = torch.cat(score_sequences(half, sequences, max_rows=100).log_probs)
    assert (shared - true).abs().mean() <= 1.1 * (plain - true).abs().mean()


def test_the_known_families_would_pass_the_check_at_loading(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny_model(family).config.model_type in prefix_scoring.TESTED_FAMILIES
    monkeypatch.setattr(prefix_scoring, "TESTED_FAMILIES", frozenset())
    check_prefix_sharing(tiny_model(family))


HYBRIDS: dict[str, tuple[dict[str, Any], str]] = {
    "llama4_text": (
        {"head_dim": 16, "num_local_experts": 2, "attention_chunk_size": 16, "rope_scaling": None},
        "chunked_attention",
    ),
    "recurrent_gemma": ({"head_dim": 8, "lru_width": 32}, "linear_attention"),
    "doge": ({}, "differ from those of whole sequences"),
}


@pytest.mark.parametrize("kind", HYBRIDS)
def test_models_with_state_beside_attention_are_refused(kind: str) -> None:
    settings, message = HYBRIDS[kind]
    torch.manual_seed(0)
    config = AutoConfig.for_model(**(SIZE | settings | {"model_type": kind}))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=tree_attention.NAME)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    with pytest.raises(ModelError, match=message):
        check_prefix_sharing(model.eval())


def test_the_families_that_need_no_check_are_those_tested_here() -> None:
    assert {kind["model_type"] for kind in FAMILIES.values()} == prefix_scoring.TESTED_FAMILIES


def test_no_sequences_cost_nothing() -> None:
    passed = score_sequences(tiny_model("llama"), [], max_rows=10)
    assert (passed.log_probs, passed.rows, passed.forwards) == ((), 0, 0)


def test_a_model_without_the_tree_attention_is_refused_not_misjudged() -> None:
    with torch.inference_mode(), pytest.raises(ModelError, match="routes 0 of its 3 layers"):
        score_sequences(tiny_model("llama", attention="sdpa"), batch(97), max_rows=5000)


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make forwards of more rows than the list's number fail as if memory were short."""
    limit = [0]
    forward = prefix_scoring.forward_chunk

    def short(
        model: PreTrainedModel,
        tree: PrefixTree,
        chunk: Chunk,
        attention: TreeAttention,
        cache: Cache | None,
    ) -> Tensor:
        if chunk.end - chunk.start > limit[0]:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"
            )
        return forward(model, tree, chunk, attention, cache)

    monkeypatch.setattr(prefix_scoring, "forward_chunk", short)
    return limit


def test_out_of_memory_halves_the_batch_and_says_so(
    memory_for: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    memory_for[0] = 40
    model, sequences = tiny_model("llama"), batch(97)
    with torch.inference_mode():
        passed = score_sequences(model, sequences, max_rows=128)
        torch.testing.assert_close(passed.log_probs[3], alone(model, sequences[3]))
    assert passed.halvings == 2
    assert "trying again with 32 tokens" in caplog.text


def test_out_of_memory_to_the_end_is_a_clear_error(memory_for: list[int]) -> None:
    with torch.inference_mode(), pytest.raises(OutOfMemoryError, match="Not even 16 tokens fit"):
        score_sequences(tiny_model("llama"), batch(97), max_rows=128)


def test_other_runtime_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(prefix_scoring, "forward_chunk", broken)
    with pytest.raises(RuntimeError, match="something else"):
        score_sequences(tiny_model("llama"), batch(97), max_rows=128)


def test_smollm2_scores_equal_whole_prompts(smollm2_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        smollm2_folder, dtype=torch.float32, attn_implementation=tree_attention.NAME
    )
    sequences = batch(49_000, seed=2)[:6]
    with torch.inference_mode():
        passed = score_sequences(model, sequences, max_rows=100)
        model.set_attn_implementation("sdpa")
        for sequence, scores in zip(sequences, passed.log_probs, strict=True):
            torch.testing.assert_close(scores, alone(model, sequence), atol=1e-4, rtol=0)
