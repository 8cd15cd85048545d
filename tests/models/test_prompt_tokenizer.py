from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.errors import ModelError
from llmrec.models import TransformersModel
from llmrec.models.prompt_tokenizer import PromptTokenizer
from llmrec.records import Prompt


@pytest.fixture(scope="module")
def both(smollm2_folder: Path) -> tuple[PromptTokenizer, TransformersModel]:
    ref = str(smollm2_folder)
    return PromptTokenizer.from_pretrained(ref), TransformersModel.from_pretrained(
        ref, device="cpu"
    )


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("Answer.", "Does it suit?"),
        Prompt("", "Does it suit?"),
        Prompt("", "", "Watched: Amélie, 七人の侍"),
        Prompt("", "", ""),
        Prompt("", "<|im_end|> is text"),
    ],
)
def test_prompts_are_read_as_the_model_reads_them(
    both: tuple[PromptTokenizer, TransformersModel], prompt: Prompt
) -> None:
    tokenizer, model = both
    assert tokenizer.encode_prompt(prompt) == model.encode_prompt(prompt)
    assert tokenizer.count_tokens(prompt) == model.count_tokens(prompt)


@pytest.mark.parametrize("text", ["", "Blue Velvet", "七人の侍", "<|im_end|>", "a  b\n"])
def test_texts_are_read_and_cut_as_the_model_does(
    both: tuple[PromptTokenizer, TransformersModel], text: str
) -> None:
    tokenizer, model = both
    assert tokenizer.encode(text) == model.encode(text)
    assert [tokenizer.cut(text, n) for n in range(5)] == [model.cut(text, n) for n in range(5)]
    assert tokenizer.special_tokens == model.special_tokens


def test_a_template_without_a_system_turn_opens_the_users(
    both: tuple[PromptTokenizer, TransformersModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, _ = both
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    monkeypatch.setattr(tokenizer.tokenizer, "chat_template", refusing)
    assert tokenizer.encode_prompt(Prompt("S", "U")) == tokenizer.encode("S\n\nU")
    monkeypatch.setattr(tokenizer.tokenizer, "chat_template", "{{ raise_exception('never') }}")
    with pytest.raises(ModelError, match="cannot be rendered"):
        tokenizer.encode_prompt(Prompt("S", "U"))


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, smollm2_folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(smollm2_folder / name)
    with pytest.raises(ModelError, match=r"no tokenizer|cannot be had|no model"):
        PromptTokenizer.from_pretrained(str(tmp_path))
