from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from llmrec.errors import LlmrecError, OptionError
from llmrec.training import tracking
from llmrec.training.tracking import open_tracker


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_writes_its_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tracking` is not installed")
    tracker = open_tracker("tensorboard", tmp_path, {"seed": 0})
    tracker.log({"loss": 2.5}, step=1)
    tracker.close()
    reading = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.5)]


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_keeps_the_run_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra `tracking` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = open_tracker("wandb", tmp_path, {"seed": 0})
    tracker.log({"loss": 2.5}, step=1)
    tracker.close()
    assert list(tmp_path.rglob("*.wandb"))


def test_wandb_without_a_key_says_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra `tracking` is not installed")

    def refuse(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(LlmrecError, match="No API key configured") as caught:
        open_tracker("wandb", tmp_path, {})
    assert "WANDB_MODE=offline" in caught.value.hint


def test_a_missing_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tracking, "import_module", missing)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(LlmrecError, match=r"pip install 'llmrec\[tracking\]'"):
            open_tracker(name, tmp_path, {})
    with pytest.raises(OptionError, match="no tracker 'wandbb'"):
        open_tracker("wandbb", tmp_path, {})
