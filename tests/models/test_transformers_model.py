"""SmolLM2 behind the protocol: tokens, prompts, scores, text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmrec.errors import ModelError, OutOfMemoryError
from llmrec.models import (
    ScoredSequence,
    TransformersModel,
    generation,
)
from llmrec.models.generation import decode
from llmrec.models.hardware import Placement
from llmrec.records import Prompt
from tests.models.conftest import tiny_model

CHAT = Prompt("Answer with one word.", "What is the capital of France?")


@pytest.fixture
def tiny(smollm2: TransformersModel) -> TransformersModel:
    """A random model with another tokenizer's ids: for what does not depend on the text."""
    placement = Placement("cpu", "float32", "none", ())
    return TransformersModel(tiny_model("llama"), smollm2.tokenizer, "tiny", "0", placement, 64)


def test_plain_text_is_never_read_as_control_tokens(smollm2: TransformersModel) -> None:
    assert "<|im_end|>" in smollm2.special_tokens
    control = smollm2.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert control not in smollm2.encode("Stop<|im_end|>now")


@pytest.mark.parametrize(
    "text", ["A quiet film about the sea", "他跑得很快，风也很大", "🙂🏳️‍🌈 ok", "مرحبا"]
)
def test_cut_keeps_whole_characters_within_the_budget(
    smollm2: TransformersModel, text: str
) -> None:
    for n in range(1, 12):
        part = smollm2.cut(text, n)
        assert text.startswith(part)
        assert len(smollm2.encode(part)) <= n
    assert smollm2.cut(text, 1000) == text


def test_a_chat_prompt_goes_through_the_chat_template(smollm2: TransformersModel) -> None:
    assert smollm2.tokenizer.decode(smollm2.encode_prompts([CHAT])[0].tolist()) == (
        "<|im_start|>system\nAnswer with one word.<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_plain_prompt_is_read_as_it_is(smollm2: TransformersModel) -> None:
    tokens = smollm2.encode_prompts([Prompt("", "", "One\nTwo\n-")])[0].tolist()
    assert smollm2.tokenizer.decode(tokens) == "One\nTwo\n-"


def test_even_an_empty_prompt_can_be_continued(smollm2: TransformersModel) -> None:
    tokens = smollm2.encode_prompts([Prompt("", "", "")])[0].tolist()
    assert len(tokens) == 1
    smollm2.log_probs([ScoredSequence((*tokens, 5), 1)])


def with_template(model: TransformersModel, template: str | None) -> TransformersModel:
    tokenizer: PreTrainedTokenizerBase = type(model.tokenizer).from_pretrained(
        model.tokenizer.name_or_path
    )
    tokenizer.chat_template = template
    return replace(model, tokenizer=tokenizer)


def test_a_template_without_a_system_role_gets_its_text_in_the_users(
    smollm2: TransformersModel,
) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('System role not supported') }}"
        "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}<model>"
    )
    model = with_template(smollm2, template)
    text = model.tokenizer.decode(model.encode_prompts([CHAT])[0].tolist())
    assert text == "<user>Answer with one word.\n\nWhat is the capital of France?<model>"


def test_a_base_model_reads_paragraphs(smollm2: TransformersModel) -> None:
    model = with_template(smollm2, None)
    text = model.tokenizer.decode(model.encode_prompts([CHAT])[0].tolist())
    assert text == "Answer with one word.\n\nWhat is the capital of France?\n\n"


def test_knowledge_shows_in_scores_and_usage_counts_the_sharing(smollm2: TransformersModel) -> None:
    prompt = smollm2.encode_prompts([Prompt("", "", "The capital of France is")])[0].tolist()
    cities = [smollm2.encode(f" {city}, of course") for city in ("Paris", "Oslo", "Lima")]
    answers = smollm2.log_probs([ScoredSequence((*prompt, *c), len(prompt)) for c in cities])
    totals = [float(value.sum()) for value in answers.values]
    assert totals[0] == max(totals)
    assert answers.values[0].dtype == np.float64
    assert answers.usage.tokens_given == sum(len(prompt) + len(c) - 1 for c in cities)
    assert answers.usage.tokens_forwarded == len(prompt) + sum(len(c) - 1 for c in cities)
    assert answers.fallbacks == {}


def test_a_score_that_is_not_finite_is_an_error(tiny: TransformersModel) -> None:
    with torch.no_grad():
        for parameter in tiny.model.get_input_embeddings().parameters():
            parameter[7] = float("nan")
    with pytest.raises(ModelError, match="not a finite number"):
        tiny.log_probs([ScoredSequence((7, 8, 9), 1)])


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_model_keeps_the_contract(smollm2_folder: Path, quantization: str) -> None:
    model = TransformersModel.from_pretrained(
        str(smollm2_folder), device="cpu", quantization=quantization
    )
    prompt = tuple(model.encode("The capital of France is"))
    cities = [tuple(model.encode(f" {city}")) for city in ("Paris", "Oslo", "New York City")]
    sequences = [ScoredSequence((*prompt, *city), len(prompt)) for city in cities]
    together = model.log_probs(sequences)
    for sequence, scores in zip(sequences, together.values, strict=True):
        (alone,) = model.log_probs([sequence]).values
        np.testing.assert_allclose(scores, alone, atol=1e-3)
    assert together.usage.tokens_forwarded < together.usage.tokens_given
    assert model.revision.endswith(f"+{quantization}")


def test_a_whole_prompt_is_one_prompt_however_many_labels_are_read(
    smollm2: TransformersModel,
) -> None:
    prompt = tuple(smollm2.encode("Is the sky blue?"))
    usage = smollm2.log_probs([ScoredSequence((*prompt, t), len(prompt)) for t in (5, 6, 7)]).usage
    assert usage.tokens_given == usage.tokens_forwarded == len(prompt)


def test_a_rope_that_changes_with_length_caps_it(smollm2: TransformersModel) -> None:
    model = replace(smollm2, model=tiny_model("llama"))
    assert model.max_length == model.model.config.max_position_embeddings
    model.model.config.rope_parameters = {
        "rope_type": "longrope",
        "original_max_position_embeddings": 64,
    }
    assert model.max_length == 64


def test_a_chat_template_that_fails_on_its_own_is_a_clear_error(
    smollm2: TransformersModel,
) -> None:
    model = with_template(smollm2, "{{ raise_exception('no') }}")
    with pytest.raises(ModelError, match=r"chat template .* cannot be rendered"):
        model.encode_prompts([CHAT])[0].tolist()


def test_sampling_leaves_the_callers_draws_alone(smollm2: TransformersModel) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    smollm2.generate([CHAT], max_new_tokens=2, temperature=1.0, seed=3)
    assert torch.rand(1) == expected


def test_generation_is_greedy_padded_and_repeatable(smollm2: TransformersModel) -> None:
    longer = Prompt("Answer with one word.", "Name the colour of the sky on a clear day, please.")
    together = smollm2.generate([CHAT, longer], max_new_tokens=12)
    again = smollm2.generate([CHAT], max_new_tokens=12)
    assert "Paris" in together.texts[0]
    assert again.texts[0] == together.texts[0]
    assert together.usage.tokens_generated > 0


def test_sampling_depends_on_the_seed_alone(smollm2: TransformersModel) -> None:
    def sample(seed: int) -> str:
        return smollm2.generate([CHAT], max_new_tokens=12, temperature=1.5, seed=seed).texts[0]

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("family", ["gemma2, window 24, capped", "gemma3, window 24", "qwen3"])
def test_generation_agrees_with_the_plain_attention_of_other_families(
    smollm2: TransformersModel, family: str
) -> None:
    placement = Placement("cpu", "float32", "none", ())
    prompts = [[5, 6, 7, 8] * 10, [9, 10, 11]]
    ours = TransformersModel(tiny_model(family), smollm2.tokenizer, "t", "0", placement, 64)
    plain = replace(ours, model=tiny_model(family, attention="eager"))

    def decoded(model: TransformersModel) -> tuple[tuple[int, ...], ...]:
        return decode(
            model.model, prompts, [None, None], ends=(2,), max_new_tokens=8, temperature=0.0, seed=0
        ).answers

    assert decoded(ours) == decoded(plain)


def test_a_batch_that_does_not_fit_is_generated_in_halves(
    smollm2: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = generation._batch

    def short(
        model: PreTrainedModel, prompts: Sequence[Sequence[int]], *rest: object
    ) -> tuple[list[list[int]], int]:
        if len(prompts) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return batch(model, prompts, *rest)  # type: ignore[arg-type]

    whole = smollm2.generate([CHAT, CHAT, CHAT], max_new_tokens=3)
    monkeypatch.setattr(generation, "_batch", short)
    halved = smollm2.generate([CHAT, CHAT, CHAT], max_new_tokens=3)
    assert halved.texts == whole.texts
    assert halved.fallbacks == {"batch_halved": 2}


def test_one_prompt_that_does_not_fit_is_a_clear_error(
    smollm2: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> list[list[int]]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(generation, "_batch", never)
    with pytest.raises(OutOfMemoryError, match="one prompt"):
        smollm2.generate([CHAT], max_new_tokens=3)
