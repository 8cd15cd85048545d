"""``llmrec prompts check --model``: whether the model can read what a template makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig

from llmrec.cli import prompts
from llmrec.errors import ModelError
from llmrec.language_models import TransformersModel
from llmrec.language_models.references import load_reader

Run = Callable[..., CompletedProcess[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]


def test_prompts_check_refuses_what_a_model_cannot_read(
    run: Run, document: Document, smollm2_folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "pointwise" / "long.jinja"
    template.parent.mkdir()
    body = "{% for past in history %}\n{{ past.title }}\n{% endfor %}\nYes or No: {{ item.title }}?"
    for words, usable in ((7_900, True), (9_600, False)):  # the model reads 8,192 tokens
        filler = "and " * words
        template.write_text(
            "{# Long. #}\n{% block system %}\nSay Yes or No.\n{% endblock %}\n"
            f"{{% block user %}}\n{filler}{body}\n{{% endblock %}}\n"
        )
        ended = run("prompts", "check", template, "--model", smollm2_folder, "--json")
        found = document(ended)
        assert (found["usable"], ended.returncode) == (usable, 0 if usable else 1)
    (error,) = (one for one in found["findings"] if one["level"] == "error")
    assert "takes up to 9,6" in error["message"]
    assert "the model reads 8,192" in error["message"]
    told = run("prompts", "check", template, "--model", smollm2_folder)
    assert "cannot be used." in told.stdout
    assert run("prompts", "check", template).returncode == 0  # without a model nobody can say


@pytest.mark.parametrize(
    "given",
    [
        {"max_position_embeddings": 640},
        {
            "max_position_embeddings": 640,
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 10_000.0,
                "factor": 2.0,
                "original_max_position_embeddings": 320,
            },
        },
    ],
    ids=["plain", "dynamic"],
)
def test_what_a_model_can_read_is_what_it_says_once_it_is_loaded(
    given: dict[str, Any], smollm2_folder: Path, tmp_path: Path
) -> None:
    for file in smollm2_folder.glob("tokenizer*"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.safetensors").write_bytes(b"")  # weights that nobody reads
    config = LlamaConfig(**given)
    config.save_pretrained(tmp_path)
    reader = load_reader(str(tmp_path))
    loaded = SimpleNamespace(model=SimpleNamespace(config=config))
    limit = vars(TransformersModel)["max_length"].fget(loaded)
    assert prompts._context(str(tmp_path), reader) == limit
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="no configuration that can be read"):
        prompts._context(str(tmp_path), reader)
