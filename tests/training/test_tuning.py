from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.errors import LlmrecError, OptionError, StorageError
from llmrec.items.fusion import FusionConfig
from llmrec.training import tuning
from llmrec.training.tuning import tune_fusion
from tests.training.conftest import World

SHORT = FusionConfig(history=6, epochs=1, heads=1)


@pytest.mark.filterwarnings("ignore")
def test_trials_are_seeded_and_go_on_from_the_file(world: World, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    given = (world.training, world.modalities, world.split.validation, SHORT)
    first = tune_fusion(*given, trials=2, storage=tmp_path / "trials.sqlite3")
    assert first == tune_fusion(*given, trials=2)
    more = tune_fusion(*given, trials=3, storage=tmp_path / "trials.sqlite3")
    assert (first.trials, more.trials) == (2, 3)
    assert more.score >= first.score


@pytest.mark.filterwarnings("ignore")
def test_trials_of_other_settings_or_data_are_not_taken(world: World, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    file = tmp_path / "trials.sqlite3"
    given = (world.training, world.modalities, world.split.validation)
    tune_fusion(*given, SHORT, trials=1, storage=file)
    longer = replace(SHORT, epochs=2)
    assert tune_fusion(*given, longer, trials=1, storage=file) == tune_fusion(
        *given, longer, trials=1
    )
    less = (world.training, world.modalities[:1], world.split.validation, SHORT)
    assert tune_fusion(*less, trials=1, storage=file) == tune_fusion(*less, trials=1)


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_keeps_no_trials_is_refused(world: World, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    given = (world.training, world.modalities, world.split.validation, SHORT)
    (tmp_path / "file").write_text("no database, but long enough to be told from an empty one")
    for storage in (tmp_path / "file", tmp_path / "file" / "trials.sqlite3"):
        with pytest.raises(StorageError, match="trials cannot be saved"):
            tune_fusion(*given, trials=1, storage=storage)


def test_impossible_tuning_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="trials is 0"):
        tune_fusion(world.training, world.modalities, world.split.validation, trials=0)
    with pytest.raises(OptionError, match="no validation target"):
        tune_fusion(world.training, world.modalities, {}, trials=1)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tuning, "import_module", missing)
    with pytest.raises(LlmrecError, match=r"pip install 'llmrec\[tune\]'"):
        tune_fusion(world.training, world.modalities, world.split.validation, trials=1)
