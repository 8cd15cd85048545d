from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.embedding.fusion import FusionConfig
from llmrec.errors import LlmrecError, OptionError
from llmrec.training import tuning
from llmrec.training.tuning import tune_fusion
from tests.training.world import World

SHORT = FusionConfig(history=6, epochs=1, heads=1)


@pytest.mark.filterwarnings("ignore")
def test_trials_are_seeded_and_go_on_from_the_file(world: World, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    given = (world.training, world.modalities, world.split.validation, SHORT)
    first = tune_fusion(*given, trials=2, storage=tmp_path / "trials.sqlite3")
    assert first == tune_fusion(*given, trials=2)
    more = tune_fusion(*given, trials=3, storage=tmp_path / "trials.sqlite3")
    assert (first.trials, more.trials) == (2, 3)
    assert more.figure >= first.figure


def test_what_cannot_be_tuned_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="trials is 0"):
        tune_fusion(world.training, world.modalities, world.split.validation, trials=0)
    with pytest.raises(OptionError, match="no validation target"):
        tune_fusion(world.training, world.modalities, {}, trials=1)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tuning, "import_module", missing)
    with pytest.raises(LlmrecError, match=r"pip install 'llmrec\[tune\]'"):
        tune_fusion(world.training, world.modalities, world.split.validation, trials=1)
