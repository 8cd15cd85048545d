"""Greedy decoding depends on the weights alone, whatever a checkpoint's settings say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmrec.models import TransformersModel
from llmrec.models.generation import Decoded, decode
from llmrec.records import Prompt
from tests.models.conftest import tiny_model

WORDS = ["<pad>", "<s>", "</s>", *(f"word{number}" for number in range(3, 97))]
PROMPTS = [f"word{a} word{b} word{c}" for a, b, c in ((5, 6, 7), (8, 9, 8), (20, 21, 22))]
HOSTILE: dict[str, Any] = {
    "no_repeat_ngram_size": 1,
    "repetition_penalty": 5.0,
    "encoder_repetition_penalty": 3.0,
    "bad_words_ids": [[token] for token in range(3, 50)],
    "suppress_tokens": list(range(3, 60)),
    "begin_suppress_tokens": list(range(3, 90)),
    "forced_bos_token_id": 9,
    "forced_eos_token_id": 2,
    "decoder_start_token_id": 7,
    "min_length": 30,
    "min_new_tokens": 20,
    "max_length": 2,
    "sequence_bias": [[[11], 90.0]],
    "penalty_alpha": 0.6,
    "num_beams": 4,
    "guidance_scale": 3.0,
    "watermarking_config": {"greenlist_ratio": 0.3, "bias": 20.0},
    "exponential_decay_length_penalty": [1, 9.0],
    "renormalize_logits": True,
    "stop_strings": ["word"],
    "prompt_lookup_num_tokens": 3,
    "cache_implementation": "static",
    "use_cache": False,
    "do_sample": True,
    "temperature": 3.0,
    "top_k": 3,
    "typical_p": 0.2,
    "num_return_sequences": 3,
    "return_dict_in_generate": True,
    "output_scores": True,
    "max_time": 0.0,
    "diversity_penalty": 2.0,
    "an_option_of_its_own": 1,
}


def folder(path: Path, config: dict[str, Any], generation: dict[str, Any] | None) -> Path:
    """A tiny Llama with these settings in its files."""
    tiny_model("llama").save_pretrained(path)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(path)
    written = json.loads((path / "config.json").read_text()) | config
    (path / "config.json").write_text(json.dumps(written))
    if generation is None:
        (path / "generation_config.json").unlink(missing_ok=True)
    else:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


@pytest.fixture(scope="module")
def greedy() -> list[list[int]]:
    """The 12 most probable next tokens of each prompt, one forward of the whole text each."""
    model = tiny_model("llama", attention="eager")
    found = []
    for text in PROMPTS:
        tokens = [WORDS.index(word) for word in text.split()]
        with torch.inference_mode():
            for _ in range(12):
                tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        found.append(tokens[3:])
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> TransformersModel:
    return load(folder(tmp_path_factory.mktemp("weights"), {}, None))


def load(path: Path, **options: Any) -> TransformersModel:  # noqa: ANN401
    return TransformersModel.from_pretrained(str(path), device="cpu", **options)


def answers(model: TransformersModel, n: int = 6) -> list[str]:
    return list(model.generate([Prompt("", "", text) for text in PROMPTS], max_new_tokens=n).texts)


def expected(greedy: list[list[int]], ends: set[int], n: int = 6) -> list[str]:
    special = {0, 1, 2}
    texts = []
    for tokens in greedy:
        end = next((at for at, token in enumerate(tokens[:n]) if token in ends), n)
        texts.append(" ".join(WORDS[token] for token in tokens[:end] if token not in special))
    return texts


def test_prompts_of_a_batch_share_their_beginning_and_are_continued_as_alone(family: str) -> None:
    model = tiny_model(family)
    rng = np.random.default_rng(0)
    shared = rng.integers(3, 97, 40).tolist()
    prompts = [[*shared[:n], *rng.integers(3, 97, n % 7 + 1).tolist()] for n in (40, 40, 33, 2)]
    prompts.append(shared[:30])

    def answers(*some: list[int]) -> Decoded:
        return decode(
            model, some, [None] * len(some), ends=(2,), max_new_tokens=9, temperature=0.0, seed=0
        )

    together = answers(*prompts)
    assert together.answers == tuple(answers(prompt).answers[0] for prompt in prompts)
    assert together.rows == 40 + 3 * 5 + 2 + len(prompts)


@pytest.mark.parametrize("where", ["generation_config.json", "config.json", "both"])
def test_every_setting_at_once_changes_nothing(
    tmp_path: Path, greedy: list[list[int]], where: str
) -> None:
    ids = {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1}
    # transformers itself refuses a config.json with settings that exclude each other.
    one = {name: value for name, value in HOSTILE.items() if "suppress" not in name}
    in_config = {} if where == "generation_config.json" else one
    made = folder(tmp_path, in_config, None if where == "config.json" else {**HOSTILE, **ids})
    model = load(made)
    assert answers(model, 12) == expected(greedy, {2}, 12)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_setting_changes_greedy_text(
    weights: TransformersModel, greedy: list[list[int]], name: str
) -> None:
    setattr(weights.model.generation_config, name, HOSTILE[name])
    assert answers(weights) == expected(greedy, {2})


def test_a_quantized_model_with_such_settings_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    made = folder(tmp_path / "m", {}, {"eos_token_id": 2, "temperature": 0.6, "num_beams": 4})
    for _ in range(2):
        assert len(answers(load(made, quantization="int8"), 4)) == len(PROMPTS)


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        ({"eos_token_id": 40}, {"eos_token_id": 41}, {2, 40, 41}),
        ({"eos_token_id": [40, 41]}, None, {2, 40, 41}),
        ({}, {"eos_token_id": [2, 50, 51]}, {2, 50, 51}),
        ({"eos_token_id": None}, {"eos_token_id": None}, {2}),
        ({"eos_token_id": 97}, {"eos_token_id": [-1, 5000, 60]}, {2, 60}),
    ],
)
def test_end_tokens_are_gathered_from_every_place(
    tmp_path: Path,
    config: dict[str, Any],
    generation: dict[str, Any] | None,
    ends: set[int],
    greedy: list[list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load(folder(tmp_path, config, generation))
    assert set(model.end_tokens) == ends
    unknown = 97 in config.values()
    assert ("names end tokens" in caplog.text) == unknown
    assert answers(model, 12) == expected(greedy, ends, 12)


def test_an_answer_stops_at_an_end_token_and_nowhere_else(
    tmp_path: Path, greedy: list[list[int]]
) -> None:
    model = load(folder(tmp_path, {}, {"eos_token_id": [greedy[0][2], greedy[1][4]]}))
    assert answers(model, 12) == expected(greedy, {2, greedy[0][2], greedy[1][4]}, 12)


def test_the_padding_token_is_text_where_the_model_writes_it(
    tmp_path: Path, greedy: list[list[int]]
) -> None:
    made = folder(tmp_path, {}, {"eos_token_id": 2})
    first = greedy[0]
    settings = json.loads((made / "tokenizer_config.json").read_text())
    settings["pad_token"] = WORDS[first[1]]
    (made / "tokenizer_config.json").write_text(json.dumps(settings))
    model = load(made)
    assert model.tokenizer.pad_token_id == first[1]
    found = model.generate([Prompt("", "", PROMPTS[0])], max_new_tokens=3)
    assert found.usage.tokens_generated == 3
