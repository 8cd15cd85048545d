"""The adapter on a stand-in for vLLM, which needs an environment of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from llmrec.errors import ModelError
from llmrec.models import (
    MOST_LABELS,
    ContinuationRequest,
    LabelRequest,
    ScoredSequence,
    TransformersModel,
)
from llmrec.models.references import load_model
from llmrec.models.vllm_engine import VllmModel
from llmrec.records import Prompt

CHAT = Prompt("Answer Yes or No.", "Is bread something to eat?")
PLAIN = Prompt("", "", "Watched before: Toy Story. Watched next: ")


@dataclass
class SamplingParams:
    max_tokens: int
    temperature: float
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    structured_outputs: Any = None
    stop_token_ids: list[int] | None = None


@dataclass
class Engine:
    """Answers as ``vllm.LLM`` does, with the scores of a model of transformers."""

    model: TransformersModel
    options: dict[str, Any]
    asked: list[SamplingParams] = field(default_factory=list)

    @property
    def llm_engine(self) -> SimpleNamespace:
        return SimpleNamespace(model_config=SimpleNamespace(max_model_len=1234))

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.model.tokenizer

    def generate(
        self, prompts: Sequence[Any], sampling_params: Sequence[SamplingParams], *, use_tqdm: bool
    ) -> list[SimpleNamespace]:
        assert not use_tqdm
        self.asked.extend(sampling_params)
        return [
            self._one(prompt["prompt_token_ids"], parameters)
            for prompt, parameters in zip(prompts, sampling_params, strict=True)
        ]

    def _one(self, tokens: list[int], parameters: SamplingParams) -> SimpleNamespace:
        listed, places = None, None
        if parameters.logprob_token_ids:
            first, *others = parameters.logprob_token_ids
            sequence = ScoredSequence((*tokens, first), len(tokens), tuple(others))
            values = self.model.log_probs([sequence]).values[0]
            named = zip(parameters.logprob_token_ids, values, strict=True)
            listed = [{token: SimpleNamespace(logprob=value) for token, value in named}]
        if parameters.prompt_logprobs:
            values = self.model.log_probs([ScoredSequence(tuple(tokens), 1)]).values[0]
            scored = zip(tokens[1:], values, strict=True)
            places = [None, *({token: SimpleNamespace(logprob=value)} for token, value in scored)]
        answer = SimpleNamespace(
            text="[A] > [B]", token_ids=[5, 6, 7], logprobs=listed, finish_reason="stop"
        )
        return SimpleNamespace(
            prompt_token_ids=tokens, num_cached_tokens=1, prompt_logprobs=places, outputs=[answer]
        )


@pytest.fixture
def vllm(smollm2: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("vllm")
    made: dict[str, Any] = {
        "LLM": lambda **options: Engine(smollm2, options),
        "SamplingParams": SamplingParams,
        "sampling_params": SimpleNamespace(StructuredOutputsParams=lambda **held: held),
    }
    for name, value in made.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def loaded(folder: Path, **options: object) -> VllmModel:
    model = load_model(f"vllm:{folder}", **options)  # type: ignore[arg-type]
    assert isinstance(model, VllmModel)
    return model


def test_scores_are_those_of_the_engine(
    vllm: ModuleType, smollm2: TransformersModel, smollm2_folder: Path
) -> None:
    model = loaded(smollm2_folder)
    labels = [LabelRequest(CHAT, ("Yes", "No"))]
    titles = [ContinuationRequest(PLAIN, "Monsters, Inc."), ContinuationRequest(PLAIN, "Up")]
    for here, there in (
        (smollm2.label_log_probs(labels), model.label_log_probs(labels)),
        (smollm2.continuation_log_probs(titles), model.continuation_log_probs(titles)),
    ):
        for ours, theirs in zip(here.values, there.values, strict=True):
            assert theirs == pytest.approx(ours, abs=1e-3)
        assert there.tokens == here.tokens
        assert there.usage.tokens_given - there.usage.tokens_forwarded == len(there.values)


def test_name_and_revision(
    vllm: ModuleType, smollm2: TransformersModel, smollm2_folder: Path
) -> None:
    model = loaded(smollm2_folder, quantization="nf4", dtype="float16", max_length=512)
    assert isinstance(model.engine, Engine)
    options = model.engine.options
    assert (options["quantization"], options["dtype"]) == ("bitsandbytes", "float16")
    assert options["max_model_len"] == 512
    assert options["max_logprobs"] >= 2 * MOST_LABELS
    assert model.revision.endswith("+nf4")
    assert model.name.startswith("vllm:")
    assert model.max_length == 1234
    assert model.session() is model
    assert model.count_tokens([CHAT])[0] == smollm2.count_tokens([CHAT])[0]
    assert model.special_tokens == smollm2.special_tokens
    assert model.cut("Blue Velvet", 1) == smollm2.cut("Blue Velvet", 1)


def test_orders_are_held_to_their_form(vllm: ModuleType, smollm2_folder: Path) -> None:
    model = loaded(smollm2_folder)
    found = model.generate([CHAT, PLAIN], max_new_tokens=9, orders_of=[("A", "B"), ()])
    assert found.texts == ("[A] > [B]",) * 2
    assert found.finished == (True, True)
    assert found.usage.tokens_generated == 6
    assert found.tokens == (model.count_tokens([CHAT])[0] + 3, model.count_tokens([PLAIN])[0] + 3)
    assert isinstance(model.engine, Engine)
    held, free = model.engine.asked
    assert held.structured_outputs == {"regex": r"(?:\[A\] > \[B\]|\[B\] > \[A\])"}
    assert free.structured_outputs is None


def test_missing_log_probabilities_are_an_error(
    vllm: ModuleType, smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(smollm2_folder)
    with pytest.raises(ModelError, match="a single token alone"):
        model.log_probs([ScoredSequence((1, 2, 3), 1, (4,))])

    def old(max_tokens: int, temperature: float, logprobs: int | None = None) -> None:
        pass

    monkeypatch.setattr(vllm, "SamplingParams", old)
    with pytest.raises(ModelError, match="logprob_token_ids"):
        model.label_log_probs([LabelRequest(CHAT, ("Yes", "No"))])


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_score_that_is_no_number_is_an_error(
    vllm: ModuleType, smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    model = loaded(smollm2_folder)
    place = {3: SimpleNamespace(logprob=value)}
    output = SimpleNamespace(prompt_token_ids=[1, 2, 3], prompt_logprobs=[None, place, place])
    monkeypatch.setattr(model.engine, "generate", lambda *_, **__: [output])
    with pytest.raises(ModelError, match="not a finite number"):
        model.log_probs([ScoredSequence((1, 2, 3), 2)])
    with pytest.raises(ModelError, match="did not give"):
        model.log_probs([ScoredSequence((1, 2, 4), 2)])


def test_unsupported_model_is_an_error(
    vllm: ModuleType, smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: object) -> None:
        raise ValueError("No available memory for the cache blocks")

    monkeypatch.setattr(vllm, "LLM", failing)
    with pytest.raises(ModelError, match=r"vLLM cannot run .* cache blocks"):
        loaded(smollm2_folder)
