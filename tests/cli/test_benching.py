"""``llmrec bench`` on the sample shop, with a model that is none but once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrec.benchmarking.plan import plan_schema
from tests.benchmarking.faked import template
from tests.cli.calls import Document, Run, said

GOES_ON = "{% for past in history %}\n- {{ past.title }}\n{% endfor %}\n- "
TEMPLATES = "likelihood/titles,likelihood/list"


def _file(folder: Path, text: str) -> Path:
    path = folder / "bench.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_index_and_options(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        "likelihood/titles, likelihood/list",
    )
    words += ("--users", "4", "--n-candidates", "5", "--model", "words", "--out", tmp_path)
    ended = run(*words)
    assert ended.returncode == 0, ended.stderr
    assert loaded == ["words"]
    assert "likelihood/titles" in ended.stdout
    assert "retriever" in ended.stdout
    assert (tmp_path / "leaderboard.md").read_text().startswith("# ")
    assert (tmp_path / "report.html").read_text().startswith("<!")
    lines = (tmp_path / "results.jsonl").read_bytes()
    assert lines.count(b"\n") == 2 * 4
    again = run(*words, "--json")
    assert again.returncode == 0
    assert loaded == ["words"]  # it was finished
    assert (tmp_path / "results.jsonl").read_bytes() == lines
    found = document(again)
    assert found["out"] == str(tmp_path)
    rows = {row["name"]: row for row in found["summary"]["rows"]}
    assert rows["likelihood/list"]["users"] == 4
    assert rows["oracle"]["metrics"]["ndcg@10"]["mean"] == 1


def test_a_file_and_options_over_it(
    run: Run, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    template(tmp_path / "mine", "own", GOES_ON)
    file = _file(
        tmp_path,
        f"index: {plain_index}\nusers: 50000\nn_candidates: 5\nmodels: [words]\n"
        "templates: [likelihood/titles, mine/likelihood/own.jinja]\n",
    )
    ended = run("bench", file, "--users", "3", "--out", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["benchmark"]["users"] == 3
    own = str(tmp_path / "mine" / "likelihood" / "own.jinja")
    assert [cell["template"] for cell in kept["cells"]] == ["likelihood/titles", own]


def test_compare_ends_with_1_where_a_row_lost_more_than_allowed(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    own = template(tmp_path, "own", GOES_ON)
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        own,
        "--users",
        "8",
        "--n-candidates",
        "5",
    )
    before, after = tmp_path / "before", tmp_path / "after"
    assert run(*words, "--out", before).returncode == 0
    template(tmp_path, "own", f"Things:\n{GOES_ON}")
    assert run(*words, "--out", after).returncode == 0
    change = document(run("bench", "compare", before, after, "--json"))["rows"][0]["difference"]
    assert change != 0
    worse = (after, before) if change > 0 else (before, after)
    lost = run("bench", "compare", *worse, "--fail-if-drop", "0.01")
    assert lost.returncode == 1
    assert "more than 0.01" in " ".join(lost.stdout.split())
    assert run("bench", "compare", *worse[::-1], "--fail-if-drop", "0.01").returncode == 0
    assert run("bench", "compare", *worse, "--fail-if-drop", "1").returncode == 0
    assert run("bench", "compare", *worse).returncode == 0  # nothing was forbidden
    same = run("bench", "compare", before, before, "--fail-if-drop", "0")
    assert same.returncode == 0
    found = document(run("bench", "compare", *worse, "--fail-if-drop", "0.01", "--json"))
    assert list(found["worse"]) == [own]
    assert document(run("bench", "compare", *worse, "--json"))["worse"] == {}
    assert run("bench", "compare", *worse, "--fail-if-drop", "-1").returncode == 2
    fewer = tmp_path / "fewer"
    words = (*words[:3], TEMPLATES.split(",", maxsplit=1)[0], *words[4:])
    assert run(*words, "--out", fewer).returncode == 0
    both = tmp_path / "both"
    assert run(*words[:3], TEMPLATES, *words[4:], "--out", both).returncode == 0
    gone = run("bench", "compare", both, fewer, "--fail-if-drop", "1")
    assert gone.returncode == 1
    assert "Missing rows: likelihood/list." in gone.stdout
    assert run("bench", "compare", fewer, both, "--fail-if-drop", "1").returncode == 0


def test_the_schema_is_printed_as_it_is(run: Run) -> None:
    assert run("bench", "schema").stdout == plan_schema()


def test_with_a_real_model(
    run: Run, document: Document, plain_index: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        "likelihood/titles,pointwise/plain-list",
    )
    words += ("--users", "3", "--n-candidates", "5", "--model", smollm2_folder, "--json")
    estimate = document(run(*words, "--out", tmp_path, "--dry-run"))["cells"]
    found = document(run(*words, "--out", tmp_path, "--device", "cpu"))["summary"]
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["likelihood/titles"]["users"] == rows["pointwise/plain-list"]["users"] == 3
    pointwise = rows["pointwise/plain-list"]["cost"]
    assert pointwise["prompts"] == estimate[1]["prompts"] == 5
    # What is counted without the weights is what the model was given, but for the answer's token.
    assert pointwise["tokens given"] == pytest.approx(estimate[1]["tokens"], abs=5)
    assert rows["likelihood/titles"]["cost"]["tokens given"] > estimate[0]["tokens"]
    assert not rows["pointwise/plain-list"]["faults"]


def test_strategies_calibration_and_shuffles_are_options(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words = ("--strategy", "tournament", "--calibrate", "--shuffles", "2", "--quantization", "none")
    few = ("--users", "2", "--n-candidates", "5", "--model", "words", "--out", tmp_path)
    ended = run("bench", plain_index, *words, *few, "--json")
    assert ended.returncode == 0, ended.stderr
    rows = [row for row in document(ended)["summary"]["rows"] if row["kind"] == "cell"]
    assert {row["settings"]["strategy"] for row in rows} == {"tournament"}
    assert {(row["settings"]["calibrate"], row["settings"]["shuffles"]) for row in rows} == {
        (calibrate, shuffles) for calibrate in (False, True) for shuffles in (0, 2)
    }
    ended = run("bench", plain_index, "--strategy", "tournamant", "--out", tmp_path / "other")
    assert ended.returncode == 2
    assert "unknown strategy 'tournamant'" in said(ended)
    assert loaded == ["words"]


def test_attacks_are_planted_and_shown(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = ("bench", plain_index, "--attacks", "--users", "3")
    words += (
        "--templates",
        "pointwise/plain-list",
        "--n-candidates",
        "5",
        "--model",
        "words",
        "--out",
        tmp_path,
        "--yes",
    )
    ended = run(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    (row, *_) = document(ended)["summary"]["attacks"]
    assert row["row"].startswith("pointwise/plain-list")
    assert row["trials"] > 0
    assert "Words are planted in one field" in run(*words).stdout
    assert loaded == ["words"]


def test_the_attacks_of_a_file_stay_as_they_are(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    text = f"index: {plain_index}\nusers: 3\nn_candidates: 5\ntemplates: [pointwise/plain-list]\n"
    own = "attacks: {users: 2, per_list: 1, fields: [title]}\n"
    for more, left in ((own, 2 * 2), ("", 2 * 3 * 3)):
        words = ("bench", _file(tmp_path, text + more), "--attacks", "--out", tmp_path / "run")
        (cell,) = document(run(*words, "--dry-run", "--json"))["cells"]
        assert cell["left"] == 3 + left


def test_labelled_requests_need_no_index(
    run: Run, document: Document, loaded: list[str], tmp_path: Path
) -> None:
    lines = [
        {"history": ["Alien"], "candidates": ["Heat", f"Aliens {n}"], "relevant": f"Aliens {n}"}
        for n in range(4)
    ]
    file = tmp_path / "labelled.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    words: tuple[object, ...] = ("bench", "--requests", file)
    words += ("--templates", "likelihood/titles,likelihood/list")
    words += ("--templates", "pointwise/plain-list", "--model", "words", "--out", tmp_path / "run")
    ended = run(*words, "--yes", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "expected: " in ended.stderr
    rows = [row["name"] for row in document(ended)["summary"]["rows"]]
    assert rows == ["random", "given order", "likelihood/titles", "likelihood/list",
                    "pointwise/plain-list", "oracle"]  # fmt: skip
    assert "given order" in run(*words).stdout
    ended = run("bench", "--out", tmp_path / "other")
    assert ended.returncode == 2
    assert "needs a benchmark file, an index or --requests" in said(ended)
