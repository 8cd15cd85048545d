from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from llmrec.catalog import sample_folder
from llmrec.items.fusion import Fusion
from llmrec.retrieval import WEIGHTS_KEY, Index
from tests.cli.calls import Run

SHORT = ("--epochs", "2", "--set", "dimension=16", "--set", "history=10", "--json")


@pytest.mark.filterwarnings("ignore")
def test_a_fusion_is_trained_on_the_sample(run: Run, minilm_folder: Path, tmp_path: Path) -> None:
    call = ["train", "fusion", str(sample_folder()), "--out", str(tmp_path), *SHORT]
    ran = run(*call, "--track", "tensorboard")
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    fusion = Fusion.open(tmp_path)
    assert said["name"] == fusion.name
    assert "text" in fusion.modalities
    assert len(said["epochs"]) == 2
    assert list(tmp_path.glob("runs/events*"))
    assert json.loads(run(*call).stdout)["name"] == fusion.name


@pytest.mark.filterwarnings("ignore")
def test_a_fusion_is_tuned_on_the_sample(run: Run, minilm_folder: Path, tmp_path: Path) -> None:
    call = ["tune", "fusion", str(sample_folder()), "--out", str(tmp_path), "--trials", "2"]
    ran = run(*call, *SHORT)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["trials"] == 2
    assert Fusion.open(tmp_path).name == json.loads(ran.stdout)["name"]
    # The checkpoint of the first run, perhaps of other settings, is not used.
    more = run(*call[:-1], "4", *SHORT)
    assert more.returncode == 0, more.stderr
    assert json.loads(more.stdout)["trials"] == 4


@pytest.mark.filterwarnings("ignore")
def test_one_command_trains_the_sequence_signal_and_all_weights(
    run: Run, minilm_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    ran = run("index", sample_folder(), "--out", out, "--train-sequence", "--json")
    assert ran.returncode == 0, ran.stderr
    said, made = json.loads(ran.stdout), Index.open(out)
    assert made.fusion is not None
    assert said["fusion"] == made.fusion.name
    weights = made.weights[WEIGHTS_KEY]
    assert {"sequence", "co_occurrence", "content"} <= weights.keys()
    assert said["weights"][WEIGHTS_KEY] == weights
    assert not (tmp_path / "index.training").exists()
    fitted = run("fit", out, "--retriever", "--json")
    assert json.loads(fitted.stdout)["weights"] == pytest.approx(weights)


def test_two_sources_of_a_fusion_are_refused(run: Run, tmp_path: Path) -> None:
    words = ("--fusion", tmp_path, "--train-sequence", "--out", tmp_path / "index")
    ran = run("index", sample_folder(), *words)
    assert ran.returncode == 2
    assert "--fusion and --train-sequence" in ran.stderr


def test_without_interactions_there_is_nothing_to_train(run: Run, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    ran = run("index", tmp_path, "--out", tmp_path / "index", "--train-sequence")
    assert ran.returncode == 1
    assert "no interactions" in ran.stderr


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(
    run: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").touch()
    ran = run(command, "fusion", "nowhere", "--out", tmp_path / "file" / "model")
    assert ran.returncode == 1
    assert "is a file, not a folder" in " ".join(ran.stderr.split())


@pytest.mark.filterwarnings("ignore")
def test_broken_rows_are_left_out_with_skip_broken(
    run: Run, minilm_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "items.csv").write_text("item_id,title\na,A\nb,B\nb,B\n")
    (data / "interactions.csv").write_text("user_id,item_id\nu,a\nu,b\n")
    call = ("train", "fusion", data, "--out", tmp_path / "model", *SHORT)
    refused = run(*call)
    assert refused.returncode == 1
    assert "--skip-broken" in refused.stderr
    ran = run(*call, "--skip-broken")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.filterwarnings("ignore")
def test_pictures_of_another_folder_are_read_with_media_root(
    run: Run, minilm_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    (data / "items.csv").write_text("item_id,title,image\na,A,../a.png\nb,B,../b.png\n")
    (data / "interactions.csv").write_text("user_id,item_id\nu,a\nu,b\n")
    call = ("train", "fusion", data, *SHORT)
    modalities = [
        json.loads(run(*call, "--out", tmp_path / name, *root).stdout)["modalities"]
        for name, root in (("inside", ()), ("wide", ("--media-root", tmp_path)))
    ]
    assert [list(each) for each in modalities] == [["text"], ["text", "image"]]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("--set", "dimensions=16"), "no setting"),
        (("--set", "dimension"), "NAME=VALUE"),
        (("--set", "dropout=2"), "below 1"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_loaded(
    run: Run, tmp_path: Path, wrong: tuple[str, str], says: str
) -> None:
    ran = run("train", "fusion", "nowhere", "--out", str(tmp_path), *wrong)
    assert ran.returncode == 2
    assert says in ran.stderr
