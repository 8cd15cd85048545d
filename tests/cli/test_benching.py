"""``llmrec bench`` on the sample shop, with a model that is none but once."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from llmrec.benchmarking import BenchmarkModels
from llmrec.benchmarking.plan import plan_schema
from llmrec.language_models import LanguageModel
from llmrec.prompting import Prompt
from llmrec.retrieval import Index
from tests.benchmarking.faked import revision_of, template
from tests.reranking.oracle import Oracle

Run = Callable[..., CompletedProcess[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]
GOES_ON = "{% for past in history %}\n- {{ past.title }}\n{% endfor %}\n- "
TEMPLATES = "likelihood/titles,likelihood/list"


def _said(ended: CompletedProcess[str]) -> str:
    return " ".join(ended.stderr.split())


def _worth(title: str, _place: int, prompt: Prompt) -> float:
    return -1 - zlib.crc32(f"{title}{prompt.text}".encode()) / 2**30


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model of words stands in for every model; what was loaded."""
    loads: list[str] = []

    def load(_: BenchmarkModels, ref: str, _quantization: str) -> LanguageModel:
        loads.append(ref)
        return Oracle(_worth)

    def read(*_: object) -> LanguageModel:
        return Oracle(_worth)

    def revision(_: BenchmarkModels, ref: str, quantization: str) -> str:
        return revision_of(ref, quantization)

    monkeypatch.setattr(BenchmarkModels, "load", load)
    monkeypatch.setattr(BenchmarkModels, "revision", revision)
    monkeypatch.setattr(BenchmarkModels, "reader", read)
    return loads


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
    words += ("--users", "4", "--candidates", "5", "--model", "words", "--out", tmp_path)
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
        f"index: {plain_index}\nusers: 50000\ncandidates: 5\nmodels: [words]\n"
        "templates: [likelihood/titles, mine/likelihood/own.jinja]\n",
    )
    ended = run("bench", file, "--users", "3", "--out", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["benchmark"]["users"] == 3
    own = str(tmp_path / "mine" / "likelihood" / "own.jinja")
    assert [cell["template"] for cell in kept["cells"]] == ["likelihood/titles", own]


def test_a_dry_run_asks_nothing_and_writes_nothing(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        f"{TEMPLATES},pointwise/plain-list",
    )
    words += ("--users", "4", "--candidates", "5", "--out", out, "--dry-run")
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
    assert found["detectable"] > 0.3
    assert [cell["left"] for cell in found["cells"]] == [4, 4, 4]
    assert [cell["prompts"] for cell in found["cells"]] == [5, 5, 5]
    assert run(*[word for word in words if word != "--dry-run"]).returncode == 0
    timed = document(run(*words, "--json"))
    assert [cell["left"] for cell in timed["cells"]] == [0, 0, 0]
    assert [cell["seconds"] for cell in timed["cells"]] == [0, 0, 0]


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
        "--candidates",
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
    assert "Rows that are gone: likelihood/list." in gone.stdout
    assert run("bench", "compare", fewer, both, "--fail-if-drop", "1").returncode == 0


def test_a_command_that_is_misspelt_is_not_taken_for_a_file(run: Run) -> None:
    ended = run("bench", "cmpare", "a", "b")
    assert ended.returncode == 2
    assert "Did you mean 'compare'?" in _said(ended)


def test_compare_of_what_cannot_be(
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
    assert run(*words, "--candidates", "5", "--out", before).returncode == 0
    ended = run("bench", "compare", before, after)
    assert ended.returncode == 1
    assert "holds no run" in _said(ended)
    assert run(*words, "--candidates", "6", "--out", after).returncode == 0
    ended = run("bench", "compare", before, after, "--json")
    assert ended.returncode == 2
    assert document(ended)["error"]["type"] == "OptionError"
    ended = run(*words, "--candidates", "6", "--out", before)
    assert ended.returncode == 1
    assert "holds a run with candidates 5, not 6" in _said(ended)


def test_the_schema_is_printed_as_it_is(run: Run) -> None:
    assert run("bench", "schema").stdout == plan_schema()


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("--users", "50000"), 2, "users is 50000; "),
        (("--users", "0"), 2, "--users"),
        (("--candidates", "5000"), 2, "candidates is 5000; the index has 80 items"),
        (("--templates", "likelyhood/titles"), 2, "Did you mean 'likelihood/titles'"),
        (("--templates", "own.jinja"), 1, "no template file 'own.jinja'"),
        (("--templates", "explain/plain"), 2, "No template fits 'explain/plain'"),
        (("--protocol", "discriminate"), 2, "protocol"),
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
    assert part in _said(ended)
    assert not loaded
    assert not (tmp_path / "run").exists()


def test_files_and_folders_that_are_none(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "run")
    ended = run("bench", tmp_path / "absent.yaml", *out)
    assert ended.returncode == 2
    assert "There is no" in _said(ended)
    ended = run("bench", _file(tmp_path, f"index: {plain_index}\nusrs: 3\n"), *out, "--json")
    assert ended.returncode == 2
    error = document(ended)["error"]
    assert "unknown key 'usrs'" in error["message"]
    assert "Did you mean 'users'" in error["hint"]
    for empty in (tmp_path, _file(tmp_path, "index: .\n")):
        ended = run("bench", empty, *out)
        assert ended.returncode == 1
        assert "is not an index" in _said(ended)
    assert not loaded


def test_an_unknown_model_is_said_before_anything_is_asked(
    run: Run, plain_index: Path, tmp_path: Path
) -> None:
    ended = run("bench", plain_index, "--model", "smolm2-135m-instruct", "--users", "3",
                "--out", tmp_path / "run")  # fmt: skip
    assert ended.returncode == 1
    assert "Did you mean 'smollm2-135m-instruct'" in _said(ended)
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
    assert "holds a run with fingerprint" in _said(ended)


def test_with_a_real_model(
    run: Run, document: Document, plain_index: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = (
        "bench",
        plain_index,
        "--templates",
        "likelihood/titles,pointwise/plain-list",
    )
    words += ("--users", "3", "--candidates", "5", "--model", smollm2_folder, "--json")
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


def test_a_report_that_cannot_be_written_is_said(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.html").mkdir()
    words = ("--templates", TEMPLATES, "--users", "2", "--candidates", "5", "--model", "words")
    ended = run("bench", plain_index, *words, "--out", tmp_path, "--json")
    assert (ended.returncode, loaded) == (1, ["words"])
    assert document(ended)["error"]["type"] == "StorageError"
    assert "cannot be written: Is a directory" in _said(ended)
    assert "What was answered is kept" in _said(ended)


def test_strategies_calibration_and_shuffles_are_options(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words = ("--strategy", "tournament", "--calibrate", "--shuffles", "2", "--quantization", "none")
    few = ("--users", "2", "--candidates", "5", "--model", "words", "--out", tmp_path)
    ended = run("bench", plain_index, *words, *few, "--json")
    assert ended.returncode == 0, ended.stderr
    rows = [row for row in document(ended)["summary"]["rows"] if row["kind"] == "cell"]
    assert {row["settings"]["strategy"] for row in rows} == {"tournament"}
    assert {(row["settings"]["calibrate"], row["settings"]["shuffles"]) for row in rows} == {
        (calibrate, shuffles) for calibrate in (False, True) for shuffles in (0, 2)
    }
    ended = run("bench", plain_index, "--strategy", "tournamant", "--out", tmp_path / "other")
    assert ended.returncode == 2
    assert "no strategy 'tournamant'" in _said(ended)
    assert loaded == ["words"]


def test_a_dry_run_refuses_the_folder_of_another_run(
    run: Run, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words = ("bench", plain_index, "--templates", TEMPLATES, "--users", "2", "--candidates", "5")
    assert run(*words, "--model", "words", "--out", tmp_path).returncode == 0
    again = run(*words, "--model", "words", "--seed", "7", "--dry-run", "--out", tmp_path)
    assert again.returncode == 1
    assert "holds a run with seed 0, not 7" in _said(again)
    assert "Name another folder" in _said(again)


def test_what_so_many_users_show_is_said_before_the_run(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    words: tuple[object, ...] = ("bench", plain_index, "--templates", TEMPLATES)
    words += ("--users", "2", "--candidates", "5")
    words += ("--model", "words", "--out", tmp_path, "--json")
    dry = document(run(*words, "--dry-run"))
    ended = run(*words)
    assert "2 users show differences in nDCG@10 from about" in _said(ended)
    assert _said(ended).count("corrected for 7 comparisons") == 1
    assert f"{dry['detectable']:.3f} on, corrected" in _said(ended)
    assert dry["comparisons"] == 7 == len(document(ended)["summary"]["contrasts"])


def test_a_dry_run_times_other_cells_by_those_that_were_answered(
    run: Run, document: Document, loaded: list[str], plain_index: Path, tmp_path: Path
) -> None:
    few = ("--users", "3", "--candidates", "5", "--model", "words", "--out", tmp_path)
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
    assert "~ goes by the seconds a token of the model's other cells" in " ".join(told.split())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    other = run(*words, TEMPLATES, *few[:-3], "hawks", *few[-2:], "--dry-run").stdout
    assert "not timed yet" in other
    assert "~" not in other
