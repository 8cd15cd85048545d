"""A plan's whole way to its folder, as `llmrec.benchmarking.bench` goes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.benchmarking import BenchmarkModels, bench
from llmrec.benchmarking.leaderboard import leaderboard_markdown
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.models import LanguageModel
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


def test_rows_that_ask_the_same_under_other_settings_are_told(
    kites: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields: dict[str, dict[str, int]] = {"all": {}, "bare": {"review": 0}}
    bench(plan_of(kites, "likelihood/titles", fields=fields), tmp_path / "run")
    assert (
        "likelihood/titles, all and likelihood/titles, bare gave every candidate the same score"
        in caplog.text
    )
    caplog.clear()
    bench(plan_of(kites, "likelihood/titles", history_items=[1, 20]), tmp_path / "other")
    assert "gave every" not in caplog.text


def test_where_no_list_holds_its_target_nothing_leads(kites: Path, tmp_path: Path) -> None:
    summary = bench(plan_of(kites, "likelihood/titles"), tmp_path / "run")
    nowhere = replace(
        summary,
        about={**summary.about, "retrieval recall": 0.0},
        contrasts=tuple(
            replace(one, comparison=replace(one.comparison, detectable=0.0))
            for one in summary.contrasts
        ),
    )
    told = leaderboard_markdown(nowhere)
    assert told.startswith("# No list holds what its user chose")
    assert "Four times out of five" not in told
    assert "Four times out of five" in leaderboard_markdown(summary)
    few = tuple(
        replace(one, comparison=replace(one.comparison, detectable=0.9))
        for one in summary.contrasts
    )
    told = leaderboard_markdown(replace(summary, contrasts=few))
    assert "So few users show no difference, corrected for 3 comparisons." in told
