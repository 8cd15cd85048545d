"""``llmrec train reranker``, and ``--adapter`` of the commands that name a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec import Catalog, Index, Reranker
from llmrec.errors import StorageError
from llmrec.models.adapter import RECORD, read_adapter
from tests.cli.calls import Document, Run, said


@pytest.fixture(autouse=True)
def _models_loaded_once() -> None:
    """Load a model for every command: tuning changes it."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users who stay with one of three kinds of items."""
    draw = np.random.default_rng(3)
    items = [{"item_id": f"i{n}", "title": f"{'abc'[n % 3]}{n}"} for n in range(30)]
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{3 * item + user % 3}", "timestamp": place}
        for user in range(40)
        for place, item in enumerate(draw.permutation(10)[:6])
    ]
    catalog = Catalog.from_datasets(items, interactions=rows)
    vectors = draw.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder = tmp_path_factory.mktemp("tuning") / "index"
    Index(
        items=catalog.items, vectors=vectors, interactions=catalog.interactions, encoder="none@1"
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def words(index: Path, byte_model: Path) -> tuple[object, ...]:
    model = ("--model", byte_model, "--device", "cpu", "--events", 1, "--epochs", 1)
    return ("train", "reranker", index, *model, "--set", "validations=1")


@pytest.fixture(scope="module")
def adapter(run: Run, words: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapter")
    ended = run(*words, "--out", out, "--set", "learning_rate=0.01")
    assert ended.returncode == 0, ended.stderr
    return out


def test_training_reports_validation(
    run: Run, document: Document, words: tuple[object, ...], adapter: Path
) -> None:
    again = document(run(*words, "--out", adapter, "--set", "learning_rate=0.01", "--json"))
    assert again["finished"] is True
    assert again["validation_lists"] >= 20
    assert again["ndcg"].keys() == {"0", str(again["steps"])}
    assert read_adapter(adapter).template == "likelihood/list"


def test_time_that_runs_out_says_how_to_resume(
    run: Run, words: tuple[object, ...], tmp_path: Path
) -> None:
    ended = run(*words, "--out", tmp_path, "--max-time", 0)
    assert ended.returncode == 0
    assert "run again to resume" in " ".join(ended.stdout.split())
    assert not (tmp_path / RECORD).exists()


def test_settings_are_tried_and_the_best_is_trained(
    run: Run, document: Document, words: tuple[object, ...], tmp_path: Path
) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    few = ("--trials", 1, "--objective", "listwise", "--lists", 8, "--set", "sizes=4,6")
    found = document(run("tune", *words[1:], *few, "--out", tmp_path, "--json"))
    assert found["trials"] == 1
    assert found["settings"].keys() <= {"learning_rate", "weight_decay", "rank", "dropout"}
    assert read_adapter(tmp_path).strategy == "listwise"


def test_every_command_with_a_model_takes_the_adapter(
    run: Run, document: Document, index: Path, adapter: Path, byte_model: Path, tmp_path: Path
) -> None:
    model = ("--model", byte_model, "--device", "cpu", "--adapter", adapter)
    asked = ("--user", "u1", "-k", 3, "--n-candidates", 5, "--always-ask", "--json")
    found = document(run("recommend", index, *asked, *model))
    assert "+adapter-" in json.dumps(found)
    ended = run("explain", index, "--user", "u1", "--item", "i1", *model)
    assert ended.returncode == 0, ended.stderr
    ended = run("fit", index, "--users", 30, *model)
    assert ended.returncode == 0, ended.stderr
    few = ("--users", 3, "--n-candidates", 5, "--out", tmp_path / "run", "--yes")
    ended = run("bench", index, "--templates", "likelihood/list", *few, *model)
    assert ended.returncode == 0, ended.stderr


def test_python_takes_the_adapter(index: Path, adapter: Path, byte_model: Path) -> None:
    reranker = Reranker(str(byte_model), Index.open(index), adapter=adapter, device="cpu")
    assert "+adapter-" in reranker.model.revision
    ranking = reranker.rank(["i1", "i2", "i3"], user="u1")
    assert sorted(ranking.item_ids) == ["i1", "i2", "i3"]


def test_a_merged_model_scores_like_base_and_adapter(
    run: Run, document: Document, adapter: Path, byte_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    words = ("train", "merge", adapter, "--model", byte_model, "--out", out)
    assert document(run(*words, "--json"))["difference"] <= 1e-4
    assert (out / "model.safetensors").exists()
    ended = run(*words)
    assert ended.returncode != 0
    assert "is not empty" in said(ended)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ("recommend", "INDEX", "--user", "u1", "--template", "likelihood/numbered"),
            "was tuned on",
        ),
        (("recommend", "INDEX", "--user", "u1", "--strategy", "pointwise"), "was tuned on"),
        (("bench", "INDEX", "--templates", "likelihood/titles", "--out", "RUN"), "--templates"),
        (("recommend", "INDEX", "--user", "u1", "--adapter", "nowhere"), "is no adapter"),
        (("recommend", "INDEX", "--user", "u1", "--model", "openai:http://x/v1#m"), "adapter="),
    ],
)
def test_an_adapter_of_other_prompts_is_refused(
    command: tuple[str, ...],
    message: str,
    run: Run,
    index: Path,
    adapter: Path,
    byte_model: Path,
    tmp_path: Path,
) -> None:
    given = {"INDEX": index, "RUN": tmp_path / "run"}
    words = [given.get(word, word) for word in command]
    words += [] if "--adapter" in command else ["--adapter", adapter]
    words += [] if "--model" in command else ["--model", byte_model, "--device", "cpu"]
    ended = run(*words)
    assert ended.returncode != 0
    assert message in said(ended)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "rank=0"), "rank is '0'"),
        (("--set", "sizes=9,8"), "the least first"),
        (("--set", "ranks=4"), "There is no setting 'ranks'"),
        (("--set", "offset=prior"), "offset is 'prior'"),
        (("--template", "pointwise/plain-list"), "takes templates of likelihood"),
        (("--objective", "listwise", "--template", "likelihood/list"), "templates of listwise"),
        (("--objective", "listwise", "--set", "sizes=8,40"), "can label 26 candidates"),
        (("--weights", "full", "--set", "dropout=0.1"), "dropout is 0.1 with all weights"),
        (("--set", "temperature=0"), "temperature is '0'"),
        (("--set", "crop=1.5"), "crop is '1.5'"),
        (("--teacher", "nowhere.jsonl"), "cannot be read"),
        (("--template", "likelihood/chat-next", "--objective", "next-title"), "does not go on"),
        (("--start", "nowhere"), "is no adapter"),
    ],
)
def test_bad_options_are_refused(
    options: tuple[str, ...], message: str, run: Run, words: tuple[object, ...], tmp_path: Path
) -> None:
    ended = run(*words, "--out", tmp_path, *options)
    assert ended.returncode != 0
    assert message in said(ended)


def test_a_damaged_adapter_is_refused(adapter: Path, tmp_path: Path, byte_model: Path) -> None:
    (tmp_path / RECORD).write_text((adapter / RECORD).read_text()[:-20])
    with pytest.raises(StorageError, match="is damaged"):
        Reranker(str(byte_model), adapter=tmp_path)
