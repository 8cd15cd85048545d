from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmrec.catalog import sample_folder
from llmrec.cli.app import app
from llmrec.embedding.fusion import Fusion

SHORT = ("--epochs", "2", "--set", "dimension=16", "--set", "history=10", "--json")


@pytest.mark.filterwarnings("ignore")
def test_a_fusion_is_trained_on_the_sample(minilm_folder: Path, tmp_path: Path) -> None:
    call = ["train", "fusion", str(sample_folder()), "--out", str(tmp_path), *SHORT]
    ran = CliRunner().invoke(app, [*call, "--track", "tensorboard"])
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    fusion = Fusion.open(tmp_path)
    assert said["name"] == fusion.name
    assert "text" in fusion.modalities
    assert len(said["epochs"]) == 2
    assert list(tmp_path.glob("runs/events*"))
    assert json.loads(CliRunner().invoke(app, call).stdout)["name"] == fusion.name


@pytest.mark.filterwarnings("ignore")
def test_a_fusion_is_tuned_on_the_sample(minilm_folder: Path, tmp_path: Path) -> None:
    call = ["tune", "fusion", str(sample_folder()), "--out", str(tmp_path), "--trials", "2"]
    ran = CliRunner().invoke(app, [*call, *SHORT])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["trials"] == 2
    assert Fusion.open(tmp_path).name == json.loads(ran.stdout)["name"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("--set", "dimensions=16"), "no setting"),
        (("--set", "dimension"), "NAME=VALUE"),
        (("--set", "dropout=2"), "below 1"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_loaded(
    tmp_path: Path, wrong: tuple[str, str], says: str
) -> None:
    ran = CliRunner().invoke(app, ["train", "fusion", "nowhere", "--out", str(tmp_path), *wrong])
    assert ran.exit_code == 2
    assert says in ran.stderr
