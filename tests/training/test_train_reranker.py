from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmrec.errors import DataError, DivergedError, ModelError, OptionError, StorageError
from llmrec.models import TransformersModel
from llmrec.models.adapter import RECORD, add_lora, apply_adapter, read_adapter
from llmrec.prompting import Context, load_template
from llmrec.records import Interaction, Item, User
from llmrec.reranking.reranker import tuned_strategies
from llmrec.training import gated_validation, train_reranker, tuning
from llmrec.training.gated_validation import Limits, all_scores
from llmrec.training.packed_rows import Segment, segment_scores
from llmrec.training.train_reranker import tune_reranker
from llmrec.training.tuning import TRIED, tune_reranker_settings
from llmrec.training.tuning_data import (
    GrowingPrompt,
    TuningData,
    TuningList,
    windows_of,
)
from llmrec.training.tuning_lists import ListWriter
from llmrec.training.tuning_settings import Objective, TuningSettings
from llmrec.training.tuning_state import TuningState

Rows: TypeAlias = Sequence[Sequence[Segment]]
TEMPLATE = load_template("likelihood/list")
TEMPLATES = {
    "likelihood": TEMPLATE,
    "pointwise": load_template("pointwise/plain-list"),
    "listwise": load_template("listwise/plain-list"),
}
KINDS, ITEMS = 3, 24
FAST = TuningSettings(step_lists=8, step_tokens=2048, validations=2, learning_rate=3e-3)

TWICE: dict[str, Any] = {"epochs": 2, "dropout": 0.1, "crop": 0.5, "weight_decay": 0.1}


def load(folder: Path) -> TransformersModel:
    return TransformersModel.from_pretrained(str(folder), device="cpu")


def made_data(
    model: TransformersModel, lists: int = 32, strategy: str = "likelihood"
) -> TuningData:
    """Users stay with one kind; a title's first letter is its kind; the retriever knows nothing."""
    draw = np.random.default_rng(0)
    titles = [f"{'abc'[row % KINDS]}{row:02}" for row in range(ITEMS)]
    ids = [str(row) for row in range(ITEMS)]
    items = {item_id: Item(item_id, title) for item_id, title in zip(ids, titles, strict=True)}
    growing = GrowingPrompt.of(TEMPLATE, model, 8)

    def entry() -> TuningList:
        kind = int(draw.integers(KINDS))
        own, others = np.arange(kind, ITEMS, KINDS), np.arange(ITEMS) % KINDS != kind
        past, target = np.split(draw.permutation(own)[:5], [4])
        items = draw.permutation([*draw.permutation(np.flatnonzero(others))[:7], target[0]])
        return TuningList(
            User("", tuple(Interaction("", str(row)) for row in past)),
            items,
            draw.normal(size=8),
            int(np.flatnonzero(items == target[0])[0]),
        )

    sequences = [draw.permutation(np.arange(u % KINDS, ITEMS, KINDS)) for u in range(60)]
    return TuningData(
        strategy,
        ListWriter(strategy, TEMPLATES[strategy], model, Context(items), ids),
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
    growing = GrowingPrompt.of(load_template(name), load(byte_model), 3)
    text = growing.start + "".join(f"x{after}" for after in growing.breaks[:2])
    assert text.endswith("- x\n- x\n- " if name == "likelihood/list" else "1. x\n2. x\n3. ")


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


class Losses:
    """A tracker that keeps the losses."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        if step:
            self.seen.append(metrics["loss"])

    def close(self) -> None: ...


@pytest.mark.parametrize("strategy", ["pointwise", "listwise"])
def test_labels_are_tuned_for_their_strategy_alone(
    strategy: Objective, label_model: Path, tmp_path: Path
) -> None:
    model, tracker = load(label_model), Losses()
    data = made_data(model, 8, strategy)
    settings = replace(FAST, objective=strategy, epochs=2, sizes=(4, 4), validations=1)
    tuned = tune_reranker(model, data, TEMPLATES[strategy], tmp_path, settings, tracker=tracker)
    assert tuned.finished
    assert np.isfinite(tracker.seen).all()
    assert read_adapter(tmp_path).strategy == strategy
    assert {strategy, f"{strategy} x popularity"} < read_adapter(tmp_path).gate.keys()
    (made,) = tuned_strategies(strategy, None, tmp_path)
    assert made.name == strategy
    for other in ("likelihood", "tournament"):
        with pytest.raises(OptionError, match=f"for the strategy {strategy}"):
            tuned_strategies(other, None, tmp_path)
    with pytest.raises(OptionError, match="The prompts are those of"):
        tune_reranker(load(label_model), data, TEMPLATE, tmp_path, FAST)


def test_a_teacher_is_learned_instead_of_the_target(byte_model: Path, tmp_path: Path) -> None:
    model, tracker = load(byte_model), Losses()
    data = made_data(model, 8)
    # the teacher likes what stands first in the catalogue
    taught = [replace(e, teacher=-e.items.astype(float), target=0) for e in data.lists]
    settings = replace(FAST, epochs=3, offset="none", temperature=0.1)
    tune_reranker(model, replace(data, lists=taught), TEMPLATE, tmp_path, settings, tracker=tracker)
    assert tracker.seen[-1] < tracker.seen[0]
    wish = taught[0].wished(0.1)
    assert wish.sum() == pytest.approx(1)
    assert wish.argmax() == taught[0].items.argmin()
    assert taught[0].wished(100).max() < 0.2


def test_weights_in_nf4_are_tuned_by_lora(byte_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    quantized = TransformersModel.from_pretrained(
        str(byte_model), device="cpu", quantization="nf4", dtype="float32"
    )
    settings = replace(FAST, weights="qlora", epochs=1, learning_rate=0.03, patience=0)
    with pytest.raises(OptionError, match="cannot be tuned on a model with the quantization"):
        tune_reranker(load(byte_model), made_data(quantized), TEMPLATE, tmp_path, settings)
    tuned = tune_reranker(quantized, made_data(quantized), TEMPLATE, tmp_path, settings)
    assert tuned.finished
    for quantization in ("none", "nf4"):  # the adapter knows its base in either
        again = TransformersModel.from_pretrained(
            str(byte_model), device="cpu", quantization=quantization, adapter=tmp_path
        )
        assert again.adapter is not None
    other = load(byte_model)
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    with pytest.raises(ModelError, match="another model"):
        apply_adapter(other.model, other.tokenizer, tmp_path)


def test_settings_are_tried_and_trials_resumed(byte_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    data = made_data(load(byte_model), 8)
    settings = replace(FAST, epochs=1, validations=1)
    found = [
        tune_reranker_settings(
            lambda: load(byte_model),
            data,
            TEMPLATE,
            settings,
            trials=trials,
            storage=tmp_path / "trials.sqlite3",
        )
        for trials in (1, 2)
    ]
    assert [best.trials for best in found] == [1, 2]
    assert found[1].score >= found[0].score
    assert found[1].config.rank in {8, 16, 32}


def test_trials_that_diverge_are_left_out(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    drawn: list[float] = []

    def tried(*given: object, **_: object) -> train_reranker.Tuned:
        assert isinstance(given[4], TuningSettings)
        drawn.append(given[4].rate)
        if len(drawn) <= 3:
            raise DivergedError("Training diverged.")
        return train_reranker.Tuned(True, 1, 1, 0, {0: 0.5}, 0.5, 20, 1.0)

    monkeypatch.setattr(tuning, "tune_reranker", tried)
    data = made_data(load(byte_model), 8)

    def search(trials: int) -> tuning.BestTrial[TuningSettings]:
        file = tmp_path / "trials.sqlite3"
        return tune_reranker_settings(
            lambda: load(byte_model), data, TEMPLATE, FAST, trials=trials, storage=file
        )

    with pytest.raises(DivergedError, match="All 2 trials diverged"):
        search(2)
    best = search(2)
    assert (best.trials, best.config.learning_rate) == (1, drawn[3])
    assert len(set(drawn)) == 4

    def missing(*_: object, **__: object) -> train_reranker.Tuned:
        raise ModelError("There are no layers for LoRA.")

    monkeypatch.setattr(tuning, "tune_reranker", missing)
    with pytest.raises(ModelError, match="no layers for LoRA"):
        search(3)


@pytest.mark.parametrize("change", [{"crop": 0.9}, {"mask": 0.9}, {"reorder": 0.9}])
def test_histories_are_changed_by_the_draw_alone(change: dict[str, Any]) -> None:
    user = User("", tuple(Interaction("", str(n)) for n in range(6)))
    settings = replace(FAST, **change)

    def drawn(seed: int) -> list[str]:
        made = settings.augmented(user, np.random.default_rng(seed))
        return [row.item_id for row in made.history]

    found = [drawn(seed) for seed in range(20)]
    assert found == [drawn(seed) for seed in range(20)]
    assert all(0 < len(some) <= 6 and len(set(some)) == len(some) for some in found)
    ordered = [some == sorted(some) for some in found]
    assert any(some != [row.item_id for row in user.history] for some in found)
    assert all(ordered) != ("reorder" in change)
    assert FAST.augmented(user, np.random.default_rng(0)) is user


def test_steps_are_fitted_to_the_time() -> None:
    state = TuningState(step=3, steps=10_000, every=1250, judging=60.0)
    state.plan(left=1800.0, seconds=10.0, validations=8)
    assert state.steps == 3 + int(0.9 * (1800 - 8 * 60) / 10)
    assert state.every * 8 >= state.steps
    late = TuningState(step=3, steps=10_000, every=1250, judging=60.0)
    late.plan(left=100.0, seconds=10.0, validations=8)
    assert (late.steps, late.every) == (6, 6)
    short = TuningState(step=3, steps=5, every=1)
    short.plan(left=1800.0, seconds=10.0, validations=8)
    assert short.steps == 5


def test_an_interrupted_save_leaves_no_adapter_and_is_made_up_for(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(FAST, epochs=1)

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedTokenizerBase, "save_pretrained", full)
        model = load(byte_model)
        rate = replace(settings, learning_rate=0.01)
        with pytest.raises(StorageError, match="No space left"):
            tune_reranker(model, made_data(model), TEMPLATE, tmp_path, rate)
    with pytest.raises(StorageError, match="is missing"):
        read_adapter(tmp_path)
    model = load(byte_model)
    assert tune_reranker(model, made_data(model), TEMPLATE, tmp_path, rate).best > 0
    assert read_adapter(tmp_path).kind == "lora"


def test_a_model_without_layers_for_lora_is_refused() -> None:
    config = AutoConfig.for_model(
        "llama", num_hidden_layers=0, vocab_size=8, hidden_size=8, num_attention_heads=2
    )
    with pytest.raises(ModelError, match="no linear layers for LoRA"):
        add_lora(AutoModelForCausalLM.from_config(config), 4)


def test_a_model_with_one_score_for_all_stops_the_training(
    byte_model: Path, tmp_path: Path
) -> None:
    model = load(byte_model)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.zero_()
    data = made_data(model)
    tuned = tune_reranker(model, data, TEMPLATE, tmp_path, replace(FAST, offset="none"))
    assert tuned.fallbacks == {"collapsed": 1}
    assert tuned.step == 0
    assert read_adapter(tmp_path).kind == "base"


def test_a_killed_run_resumes_and_ends_with_the_same_weights(
    byte_model: Path, tmp_path: Path
) -> None:
    settings = replace(FAST, **TWICE)
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
        "                t.replace(t.FAST, **t.TWICE), tracker=Kill())\n"
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
    assert (tuned.finished, tuned.step) == (False, 1)  # a run that is resumed goes on
    with pytest.raises(StorageError, match="is missing"):
        read_adapter(tmp_path)
    with pytest.raises(ModelError, match="is tuned already"):
        tune_reranker(model, made_data(model), TEMPLATE, tmp_path, FAST)


def test_validation_is_cut_to_the_time_and_stays_so(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    data = made_data(model)
    cut = tune_reranker(model, data, TEMPLATE, tmp_path, FAST, minutes=1e-6, fit_time=True)
    assert (cut.finished, cut.validation_lists) == (False, 20)
    assert cut.fallbacks == {"validation_lists_left_out": 4}
    whole = tune_reranker(load(byte_model), data, TEMPLATE, tmp_path, FAST)
    assert (whole.finished, whole.validation_lists) == (True, 20)
    assert whole.ndcg[0] == cut.ndcg[0]
    assert read_adapter(tmp_path).validation["lists"] == 20


@pytest.fixture
def never_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every validation is worse than the one before."""
    real: Callable[..., gated_validation.Validated] = gated_validation.validate
    values = iter(np.linspace(1, 0, 20))

    def worse(*given: object, **options: object) -> gated_validation.Validated:
        return replace(real(*given, **options), gate=np.array([next(values)]))

    monkeypatch.setattr(train_reranker, "validate", worse)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(torch.tensor([[5, 9, 17, 3]])).logits
    return found


@pytest.mark.usefixtures("never_better")
def test_the_base_is_kept_where_tuning_is_not_better(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    tuned = tune_reranker(model, made_data(model), TEMPLATE, tmp_path, FAST)
    assert tuned.best == 0
    assert read_adapter(tmp_path).kind == "base"
    fresh = load(byte_model)
    assert apply_adapter(fresh.model, fresh.tokenizer, tmp_path) is fresh.model
    assert torch.equal(logits(model.model), logits(fresh.model))


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_a_start_is_kept_where_tuning_is_not_better(
    weights: Literal["lora", "full"],
    byte_model: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    titles = replace(FAST, objective="next-title", weights=weights, epochs=15, step_tokens=600)
    model = load(byte_model)
    assert tune_reranker(model, made_data(model), TEMPLATE, first, titles).best > 0
    request.getfixturevalue("never_better")
    model = load(byte_model)
    settings = replace(FAST, weights=weights)
    assert tune_reranker(model, made_data(model), TEMPLATE, second, settings, start=first).best == 0
    scored = [logits(model.model)]
    for folder in (first, second):
        fresh = load(byte_model)
        scored.append(logits(apply_adapter(fresh.model, fresh.tokenizer, folder)))
    assert read_adapter(second).kind == weights
    assert (scored[1] - logits(load(byte_model).model)).abs().max() > 0.01
    for other in scored[1:]:
        assert (scored[0] - other).abs().max() < 1e-5


def test_a_start_must_suit_the_tuning(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    data = made_data(model)
    for name, change in (("full", {"weights": "full"}), ("lora", {"rank": 4})):
        settings = replace(FAST, epochs=4, patience=0, **change)
        assert tune_reranker(load(byte_model), data, TEMPLATE, tmp_path / name, settings).best
    out = tmp_path / "out"
    for name, message in (("full", "lora cannot start from them"), ("lora", "has rank 4")):
        with pytest.raises(OptionError, match=message):
            tune_reranker(model, data, TEMPLATE, out, FAST, start=tmp_path / name)
    small = replace(FAST, rank=4, dropout=0.25)
    tune_reranker(model, data, TEMPLATE, out, small, start=tmp_path / "lora", minutes=0.0)
    left_out = [m.p for m in model.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(left_out) == {0.25}
    with pytest.raises(StorageError, match="another training: start differ"):
        tune_reranker(load(byte_model), data, TEMPLATE, out, small)


@pytest.mark.parametrize(
    ("weights", "name"), [("lora", "adapter_model.safetensors"), ("full", "model.safetensors")]
)
def test_weights_are_read_as_safetensors_alone(
    weights: Literal["lora", "full"], name: str, byte_model: Path, tmp_path: Path
) -> None:
    model = load(byte_model)
    settings = replace(FAST, epochs=4, patience=0, weights=weights)
    assert tune_reranker(model, made_data(model), TEMPLATE, tmp_path, settings).best > 0
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:100])
    fresh = load(byte_model)
    with pytest.raises(StorageError, match="cannot be read"):
        apply_adapter(fresh.model, fresh.tokenizer, tmp_path)
    if weights == "lora":
        config = (tmp_path / "adapter_config.json").rename(tmp_path / "config")
        with pytest.raises(StorageError, match=r"adapter_config.json is missing"):
            apply_adapter(load(byte_model).model, fresh.tokenizer, tmp_path)
        config.rename(tmp_path / "adapter_config.json")
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(StorageError, match="is missing"):
        apply_adapter(load(byte_model).model, fresh.tokenizer, tmp_path)


def test_every_step_has_a_window(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    settings = replace(FAST, objective="next-title", epochs=1, step_tokens=1)
    tuned = tune_reranker(model, made_data(model), TEMPLATE, tmp_path, settings)
    assert tuned.step == tuned.steps <= len(made_data(model).windows)


def test_steps_that_become_slow_are_fitted_to_the_time(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: object, state: TuningState) -> tuple[float, int, float]:
        return 0.0, 1, 20.0 if state.step == 2 else 1.0

    monkeypatch.setattr(train_reranker._Tuning, "train_step", slow)
    model, data = load(byte_model), made_data(load(byte_model))
    settings = replace(FAST, epochs=20)
    tuned = tune_reranker(model, data, TEMPLATE, tmp_path, settings, minutes=1.0, fit_time=True)
    assert tuned.finished
    assert 3 < tuned.steps < 8


def test_more_patience_takes_further_steps(
    byte_model: Path, tmp_path: Path, never_better: None
) -> None:
    model, data = load(byte_model), made_data(load(byte_model))
    few = replace(FAST, patience=1, validations=4)
    stopped = tune_reranker(model, data, TEMPLATE, tmp_path, few)
    assert 0 < stopped.step < stopped.steps
    more = tune_reranker(load(byte_model), data, TEMPLATE, tmp_path, replace(few, patience=0))
    assert more.step == more.steps == stopped.steps


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


def test_validation_out_of_memory_is_taken_in_smaller_batches(
    byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(byte_model)
    data = made_data(model, 2)
    segments = [data.write(entry.user, entry.items) for entry in data.validation]
    limits = Limits.of(model.model)
    whole = all_scores(model.model, segments, limits)
    real = segment_scores

    def small(model: PreTrainedModel, rows: Rows, *, whole: bool = False) -> list[torch.Tensor]:
        if sum(len(segment) for row in rows for segment in row) > 600:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, rows, whole=whole)

    monkeypatch.setattr(gated_validation, "segment_scores", small)
    for one, other in zip(all_scores(model.model, segments, limits), whole, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_model_that_cannot_share_prompts_is_trained_on_whole_rows(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reranker, "gradient_difference", lambda _: 1.0)
    model = load(byte_model)
    settings = replace(FAST, epochs=1, validations=1)
    tuned = tune_reranker(model, made_data(model, 8), TEMPLATE, tmp_path, settings)
    assert tuned.fallbacks == {"whole_rows": tuned.steps}


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
    model = load(byte_model)
    few = replace(FAST, rank=4, epochs=1)
    data = made_data(model)
    with pytest.raises(StorageError, match="another training: rank, epochs differ"):
        tune_reranker(model, data, TEMPLATE, tmp_path, few, restart=TRIED)
    few = replace(FAST, rank=4)
    model = load(byte_model)
    assert tune_reranker(model, data, TEMPLATE, tmp_path, few, restart=TRIED).finished
    assert read_adapter(tmp_path).settings["rank"] == 4


def test_an_adapter_of_another_base_is_refused(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    tune_reranker(model, made_data(model), TEMPLATE, tmp_path, replace(FAST, epochs=1))
    other = load(byte_model)
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    with pytest.raises(ModelError, match="another model"):
        apply_adapter(other.model, other.tokenizer, tmp_path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_reads_the_adapter(byte_model: Path, tmp_path: Path) -> None:
    model = load(byte_model)
    settings = replace(FAST, epochs=4, patience=0)
    tune_reranker(model, made_data(model), TEMPLATE, tmp_path, settings)
    read = PeftModel.from_pretrained(load(byte_model).model, tmp_path)
    assert read.peft_config["default"].to_dict()["r"] == 16
