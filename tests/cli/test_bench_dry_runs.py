"""``llmrec bench --dry-run``: what a run would ask, before it asks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.calls import Document, Run, said

TEMPLATES = "likelihood/titles,likelihood/list"


def test_dry_run_calls_no_model_and_writes_nothing(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        f"{TEMPLATES},pointwise/plain-list",
    )
    words += ("--users", "4", "--n-candidates", "5", "--out", out, "--dry-run")
    ended = run(*words, columns=80)
    assert ended.returncode == 0, ended.stderr
    assert not loaded
    assert not out.exists()
    assert "pointwise/plain-list" in ended.stdout
    assert "not timed yet" in ended.stdout
    assert "4 of " in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80
    found = document(run(*words, "--json"))
    assert found["users"] == 4
    assert found["detectable"] > found["detectable_alone"] > 0.3
    assert found["qualifying"] > 4
    assert [cell["left"] for cell in found["cells"]] == [4, 4, 4]
    assert [cell["prompts"] for cell in found["cells"]] == [5, 5, 5]
    assert run(*[word for word in words if word != "--dry-run"]).returncode == 0
    timed = document(run(*words, "--json"))
    assert [cell["left"] for cell in timed["cells"]] == [0, 0, 0]
    assert [cell["seconds"] for cell in timed["cells"]] == [0, 0, 0]


def test_a_dry_run_refuses_the_folder_of_another_run(
    run: Run, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words = ("bench", plain_index, "--templates", TEMPLATES, "--users", "2", "--n-candidates", "5")
    assert run(*words, "--model", "words", "--out", tmp_path).returncode == 0
    again = run(*words, "--model", "words", "--seed", "7", "--dry-run", "--out", tmp_path)
    assert again.returncode == 1
    assert "holds a run with seed 0, not 7" in said(again)
    assert "Name another folder" in said(again)


def test_detectable_difference_is_printed_before_the_run(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = ("bench", plain_index, "--templates", TEMPLATES)
    words += ("--users", "2", "--n-candidates", "5")
    words += ("--model", "words", "--out", tmp_path, "--json")
    dry = document(run(*words, "--dry-run"))
    ended = run(*words)
    assert "The smallest detectable difference in nDCG@10 with 2 users is about" in said(ended)
    assert said(ended).count("corrected for 7 comparisons") == 1
    assert f"about {dry['detectable']:.3f}, corrected" in said(ended)
    assert f"({dry['detectable_alone']:.3f} for one alone)" in said(ended)
    assert dry["comparisons"] == 7 == len(document(ended)["summary"]["contrasts"])


def test_a_dry_run_times_other_cells_by_those_that_were_answered(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    few = ("--users", "3", "--n-candidates", "5", "--model", "words", "--out", tmp_path)
    words = ("bench", plain_index, "--templates")
    assert run(*words, "likelihood/titles", *few).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for templates in (TEMPLATES, "likelihood/list"):  # beside the answered one, and without it
        cell = document(run(*words, templates, *few, "--dry-run", "--json"))["cells"][-1]
        assert (cell["left"], cell["guessed"]) == (3, True)
        assert cell["seconds"] is not None
    told = run(*words, TEMPLATES, *few, "--dry-run").stdout
    assert re.search(r"likelihood/list .* 3 +~\d+\.\d min\+", told)
    assert "3 lists, about " in told
    assert "~ extrapolated from other cells" in " ".join(told.split())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    other = run(*words, TEMPLATES, *few[:-3], "hawks", *few[-2:], "--dry-run").stdout
    assert "not timed yet" in other
    assert "~" not in other


def test_a_long_run_is_confirmed_on_a_terminal_and_resumes(
    run: Run, loaded: list[str], plain_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: tuple[object, ...] = ("bench", plain_index, "--templates", TEMPLATES, "--users", "3")
    words += ("--n-candidates", "5", "--model", "words", "--out", tmp_path)
    monkeypatch.setattr("llmrec.cli.bench._ASK_ABOVE", -1)
    monkeypatch.setattr("llmrec.cli.bench._on_terminal", lambda: True)
    declined = run(*words)  # nothing answers: that is a no
    assert declined.returncode == 1
    assert "expected: ~" in declined.stderr
    assert "--yes" in declined.stderr
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1  # which timed the rest
    assert not (tmp_path / "leaderboard.md").exists()
    assert run(*words, "--yes").returncode == 0
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 6
    finished = run(*words)
    assert finished.returncode == 0
    assert "expected" not in finished.stderr
