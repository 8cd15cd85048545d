from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from llmrec.errors import DataError, ModelError, OptionError, StorageError
from llmrec.models import TransformersModel
from llmrec.models.adapter import RECORD, apply_adapter, read_adapter
from llmrec.prompting import load_template
from llmrec.training import train_reranker
from llmrec.training.packed_rows import Segment, segment_scores
from llmrec.training.train_reranker import tune_reranker
from llmrec.training.tuning_data import (
    GrowingPrompt,
    TuningData,
    TuningList,
    title_tokens,
    windows_of,
)
from llmrec.training.tuning_settings import Objective, TuningSettings

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Rows: TypeAlias = Sequence[Sequence[Segment]]
TEMPLATE = load_template("likelihood/list")
KINDS, ITEMS = 3, 24
FAST = TuningSettings(step_lists=8, step_tokens=2048, validations=2, learning_rate=3e-3)


def load(folder: Path) -> TransformersModel:
    return TransformersModel.from_pretrained(str(folder), device="cpu")


def made_data(model: TransformersModel, lists: int = 32) -> TuningData:
    """Users stay with one kind; a title's first letter is its kind; the retriever knows nothing."""
    draw = np.random.default_rng(0)
    titles = [f"{'abc'[row % KINDS]}{row:02}" for row in range(ITEMS)]
    growing = GrowingPrompt.of(TEMPLATE, model, 8)

    def entry() -> TuningList:
        kind = int(draw.integers(KINDS))
        own, others = np.arange(kind, ITEMS, KINDS), np.arange(ITEMS) % KINDS != kind
        past, target = np.split(draw.permutation(own)[:5], [4])
        items = draw.permutation([*draw.permutation(np.flatnonzero(others))[:7], target[0]])
        return TuningList(
            np.array(model.encode_prompt(growing.prompt([titles[i] for i in past])), np.int32),
            items,
            draw.normal(size=8),
            int(np.flatnonzero(items == target[0])[0]),
        )

    sequences = [draw.permutation(np.arange(u % KINDS, ITEMS, KINDS)) for u in range(60)]
    return TuningData(
        {row: title_tokens(title, growing.start, model) for row, title in enumerate(titles)},
        np.array(model.encode_prompt(growing.prompt(())), np.int32),
        np.arange(1, ITEMS + 1),
        list(windows_of(sequences, titles, model.reader, growing, size=8)),
        [entry() for _ in range(lists)],
        [entry() for _ in range(24)],
    )


def test_windows_learn_titles_and_their_ends_alone(byte_model: Path) -> None:
    model = load(byte_model)
    growing = GrowingPrompt.of(TEMPLATE, model, 3)
    window = growing.window(["Heat", "Ran"], model.reader)
    text = "".join(model.tokenizer.convert_ids_to_tokens(window.prompt[window.learned].tolist()))
    assert text == "ĠHeatĊĠRanĊ"


@pytest.mark.parametrize("name", ["likelihood/list", "likelihood/numbered"])
def test_growing_prompts_are_those_of_the_template(name: str, byte_model: Path) -> None:
    model = load(byte_model)
    growing = GrowingPrompt.of(load_template(name), model, 3)
    end = "- x\n- y\n-" if name == "likelihood/list" else "1. x\n2. y\n3."
    assert str(growing.prompt(["x", "y"]).text).endswith(end)


def test_a_chat_template_cannot_be_trained_title_by_title(byte_model: Path) -> None:
    with pytest.raises(OptionError, match="does not go on from title to title"):
        GrowingPrompt.of(load_template("likelihood/chat-next"), load(byte_model), 3)


@pytest.mark.parametrize("weights", ["lora", "full"])
@pytest.mark.parametrize("objective", ["next-title", "list"])
def test_tuning_is_kept_where_validation_gains(
    objective: Objective, weights: Literal["lora", "full"], byte_model: Path, tmp_path: Path
) -> None:
    model = load(byte_model)
    settings = replace(FAST, objective=objective, weights=weights, epochs=4, patience=0)
    if objective == "next-title":
        settings = replace(settings, epochs=15, step_tokens=600)
    tuned = tune_reranker(model, made_data(model), TEMPLATE, tmp_path, settings)
    record = read_adapter(tmp_path)
    assert tuned.finished
    assert tuned.best > 0
    assert record.kind == weights
    assert record.template_sha256 == TEMPLATE.sha256
    # What is loaded scores like what was tuned.
    ids = torch.tensor([[5, 9, 17, 3]])
    fresh = load(byte_model)
    applied = apply_adapter(fresh.model, fresh.tokenizer, tmp_path)
    with torch.inference_mode():
        apart = (applied(ids).logits - model.model.eval()(ids).logits).abs().max()
    assert apart < (5e-2 if weights == "full" else 5e-3)


def test_a_killed_run_resumes_and_ends_with_the_same_weights(
    byte_model: Path, tmp_path: Path
) -> None:
    settings = replace(FAST, epochs=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    model = load(byte_model)
    tune_reranker(model, made_data(model), TEMPLATE, whole, settings)
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); from pathlib import Path\n"
        "import os, test_train_reranker as t\n"
        "from llmrec.training import train_reranker as r\n"
        "r._CHECKPOINT_SECONDS = 0\n"
        "class Kill:\n"
        "    def log(self, metrics, *, step):\n"
        "        if step == 4: os.kill(os.getpid(), 9)\n"
        "    def close(self): ...\n"
        "model = t.load(Path(sys.argv[1]))\n"
        "t.tune_reranker(model, t.made_data(model), t.TEMPLATE, Path(sys.argv[2]),\n"
        "                t.replace(t.FAST, epochs=2), tracker=Kill())\n"
    )
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(byte_model), str(parts), here],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr.decode()
    assert not (parts / RECORD).exists()
    model = load(byte_model)
    tuned = tune_reranker(model, made_data(model), TEMPLATE, parts, settings)
    assert tuned.step == 8
    name = "adapter_model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_time_that_runs_out_leaves_a_checkpoint_and_no_adapter(
    byte_model: Path, tmp_path: Path
) -> None:
    model = load(byte_model)
    tuned = tune_reranker(model, made_data(model), TEMPLATE, tmp_path, FAST, minutes=0.0)
    assert not tuned.finished
    with pytest.raises(StorageError, match="is missing"):
        read_adapter(tmp_path)
    with pytest.raises(ModelError, match="is tuned already"):
        tune_reranker(model, made_data(model), TEMPLATE, tmp_path, FAST)


def test_the_base_is_kept_where_tuning_is_not_better(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    settings = replace(FAST, epochs=1, learning_rate=1e-12, offset="none")
    tuned = tune_reranker(model, made_data(model), TEMPLATE, tmp_path, settings)
    assert tuned.best == 0
    assert read_adapter(tmp_path).kind == "base"
    fresh = load(byte_model)
    assert apply_adapter(fresh.model, fresh.tokenizer, tmp_path) is fresh.model


def test_a_loss_that_is_not_finite_stops_with_the_checkpoint_kept(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reranker, "_CHECKPOINT_SECONDS", 0)
    model = load(byte_model)
    data = made_data(model)
    real = segment_scores
    calls = []

    def broken(model: PreTrainedModel, rows: Rows, *, whole: bool = False) -> list[torch.Tensor]:
        calls.append(rows)
        scores = real(model, rows, whole=whole)
        return [score * float("nan") for score in scores] if len(calls) > 2 else scores

    monkeypatch.setattr(train_reranker, "segment_scores", broken)
    with pytest.raises(ModelError, match="Training diverged: the loss of step"):
        tune_reranker(model, data, TEMPLATE, tmp_path, FAST)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_an_out_of_memory_step_is_taken_in_smaller_batches(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(FAST, epochs=1)
    model = load(byte_model)
    tune_reranker(model, made_data(model), TEMPLATE, tmp_path / "whole", settings)
    real = segment_scores

    def small(model: PreTrainedModel, rows: Rows, *, whole: bool = False) -> list[torch.Tensor]:
        if sum(len(segment) for row in rows for segment in row) > 600:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, rows, whole=whole)

    monkeypatch.setattr(train_reranker, "segment_scores", small)
    model = load(byte_model)
    tuned = tune_reranker(model, made_data(model), TEMPLATE, tmp_path / "halved", settings)
    assert tuned.fallbacks["batch_halved"] == 2
    ends = [read_adapter(tmp_path / name).validation["tuned"] for name in ("whole", "halved")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lists": []}, "No training list holds its target"),
        ({"validation": []}, "0 validation lists hold their target"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    change: dict[str, Any], message: str, byte_model: Path, tmp_path: Path
) -> None:
    model = load(byte_model)
    with pytest.raises(DataError, match=message):
        tune_reranker(model, replace(made_data(model), **change), TEMPLATE, tmp_path, FAST)


def test_a_checkpoint_of_other_settings_is_refused(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    tune_reranker(model, made_data(model), TEMPLATE, tmp_path, FAST, minutes=0.0)
    model = load(byte_model)
    with pytest.raises(StorageError, match="another training: rank differ"):
        tune_reranker(model, made_data(model), TEMPLATE, tmp_path, replace(FAST, rank=4))


def test_an_adapter_of_another_base_is_refused(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    tune_reranker(model, made_data(model), TEMPLATE, tmp_path, replace(FAST, epochs=1))
    other = load(byte_model)
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    with pytest.raises(ModelError, match="another model"):
        apply_adapter(other.model, other.tokenizer, tmp_path)


def test_peft_reads_the_adapter(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    settings = replace(FAST, epochs=4, patience=0)
    tune_reranker(model, made_data(model), TEMPLATE, tmp_path, settings)
    read = PeftModel.from_pretrained(load(byte_model).model, tmp_path)
    assert read.peft_config["default"].to_dict()["r"] == 16
