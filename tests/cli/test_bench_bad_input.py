"""What ``llmrec bench`` refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.retrieval import Index
from tests.cli.calls import Document, Run, said

TEMPLATES = "likelihood/titles,likelihood/list"
SERVER = "openai:http://127.0.0.1:9/v1#m"


def _file(folder: Path, text: str) -> Path:
    path = folder / "bench.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_command_that_is_misspelt_is_not_taken_for_a_file(run: Run) -> None:
    ended = run("bench", "cmpare", "a", "b")
    assert ended.returncode == 2
    assert "Did you mean 'compare'?" in said(ended)


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("--users", "50000"), 2, "users is 50000; "),
        (("--users", "0"), 2, "--users"),
        (("--n-candidates", "5000"), 2, "n_candidates is 5000; the index has 80 items"),
        (("--templates", "likelyhood/titles"), 2, "Did you mean 'likelihood/titles'"),
        (("--templates", "own.jinja"), 1, "no template file 'own.jinja'"),
        (("--templates", "explain/shopper"), 2, "No template matches 'explain/shopper'"),
        (("--protocol", "discriminate"), 2, "protocol"),
        (("--model", SERVER, "--skip-layers", "2"), 2, "skip_last_layers=2 is not supported"),
        (("--model", SERVER, "--device", "cpu", "--dry-run"), 2, "device='cpu' is not supported"),
        (("--seed", "one"), 2, "--seed"),
    ],
)
def test_options_that_cannot_be(
    run: Run,
    loaded: list[str],
    plain_index: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    status: int,
    part: str,
) -> None:
    ended = run("bench", plain_index, *words, "--out", tmp_path / "run")
    assert ended.returncode == status
    assert part in said(ended)
    assert not loaded
    assert not (tmp_path / "run").exists()


def test_files_and_folders_that_are_none(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "run")
    ended = run("bench", tmp_path / "absent.yaml", *out)
    assert ended.returncode == 2
    assert "There is no" in said(ended)
    ended = run("bench", _file(tmp_path, f"index: {plain_index}\nusrs: 3\n"), *out, "--json")
    assert ended.returncode == 2
    error = document(ended)["error"]
    assert "unknown key 'usrs'" in error["message"]
    assert "Did you mean 'users'" in error["hint"]
    for empty in (tmp_path, _file(tmp_path, "index: .\n")):
        ended = run("bench", empty, *out)
        assert ended.returncode == 1
        assert "is not an index" in said(ended)
    assert not loaded


def test_unknown_model_fails_before_the_run(run: Run, plain_index: Path, tmp_path: Path) -> None:
    ended = run("bench", plain_index, "--model", "smolm2-135m-instruct", "--users", "3",
                "--out", tmp_path / "run")  # fmt: skip
    assert ended.returncode == 1
    assert "Did you mean 'smollm2-135m-instruct'" in said(ended)
    assert not (tmp_path / "run").exists()


def test_an_index_that_changed_since_is_refused(
    run: Run, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words = ("--templates", "likelihood/titles", "--users", "3", "--out", tmp_path / "run")
    assert run("bench", plain_index, *words).returncode == 0
    index = Index.open(plain_index)
    object.__setattr__(index, "fingerprint", "another")
    index.save(tmp_path / "index")
    ended = run("bench", tmp_path / "index", *words)
    assert ended.returncode == 1
    assert "holds a run of another data set" in said(ended)


def test_a_report_that_cannot_be_written_issaid(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.html").mkdir()
    words = ("--templates", TEMPLATES, "--users", "2", "--n-candidates", "5", "--model", "words")
    ended = run("bench", plain_index, *words, "--out", tmp_path, "--json")
    assert (ended.returncode, loaded) == (1, ["words"])
    assert document(ended)["error"]["type"] == "StorageError"
    assert "cannot be written: Is a directory" in said(ended)
    assert "run the same command to resume" in said(ended)


def test_compare_refuses_incomparable_runs(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        "likelihood/titles",
        "--users",
        "3",
    )
    before, after = tmp_path / "before", tmp_path / "after"
    assert run(*words, "--n-candidates", "5", "--out", before).returncode == 0
    ended = run("bench", "compare", before, after)
    assert ended.returncode == 1
    assert "holds no run" in said(ended)
    assert run(*words, "--n-candidates", "6", "--out", after).returncode == 0
    ended = run("bench", "compare", before, after, "--json")
    assert ended.returncode == 2
    assert document(ended)["error"]["type"] == "OptionError"
    ended = run(*words, "--n-candidates", "6", "--out", before)
    assert ended.returncode == 1
    assert "holds a run with candidates 5, not 6" in said(ended)
    (after / "run.json").write_text("{")
    ended = run("bench", "compare", before, after)
    assert ended.returncode == 1
    assert "not of a benchmark run" in said(ended)
    assert "--out" not in said(ended)
