"""A plan's whole way to its folder, as `llmrec.benchmarking.bench` goes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrec.benchmarking import BenchmarkModels, bench
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.language_models import LanguageModel
from tests.benchmarking.faked import GOOD, family_model, plan_of, revision_of, template


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> LanguageModel:
        return family_model()

    def revision(_: BenchmarkModels, ref: str, quantization: str) -> str:
        return revision_of(ref, quantization)

    monkeypatch.setattr(BenchmarkModels, "load", load)
    monkeypatch.setattr(BenchmarkModels, "reader", load)
    monkeypatch.setattr(BenchmarkModels, "revision", revision)


def test_wordings_of_one_template_are_compared(kites: Path, tmp_path: Path) -> None:
    """Rows that differ in the history's length or in fields are no wordings of each other."""
    other = template(tmp_path, "other", f"Kites:\n{GOOD}")
    wordings = {"likelihood/titles": [other]}
    plan = plan_of(kites, "likelihood/titles", variants=wordings, history_items=[2, 20])
    summary = bench(plan, tmp_path / "run")
    assert sorted(summary.paraphrase) == [
        "likelihood/titles, history 2",
        "likelihood/titles, history 20",
    ]
    rows = {row.name: row for row in summary.rows if row.kind == "cell"}
    assert all("paraphrase sensitivity" in rows[name].beyond for name in summary.paraphrase)
    assert "How much the wording matters" in (tmp_path / "run" / "report.html").read_text()


def test_the_folder_holds_every_figure_and_how_to_run_it_again(kites: Path, tmp_path: Path) -> None:
    plan = plan_of(kites, "likelihood/titles", history_items=[2, 20], places=[1, 3], place_users=5)
    summary = bench(plan, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["name"] for row in kept["rows"]] == [row.name for row in summary.rows]
    assert kept["rows"][1]["metrics"]["recall@5"]["mean"] == (
        summary.rows[1].metrics["recall@5"].mean
    )
    file = tmp_path / "again.yaml"
    file.write_text(kept["about"]["plan"], encoding="utf-8")
    assert BenchmarkPlan.from_file(file) == plan
    report = (tmp_path / "run" / "report.html").read_text()
    for line in kept["about"]["plan"].splitlines():
        assert line.replace("'", "&#39;") in report
    assert "recall@5" in (tmp_path / "run" / "leaderboard.md").read_text()
