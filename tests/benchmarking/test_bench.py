from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from llmrec.benchmarking import BenchmarkModels, BenchmarkPlan, bench
from llmrec.benchmarking.report import leaderboard_markdown
from llmrec.benchmarking.results import Result, RunFolder
from llmrec.benchmarking.run import Benchmark, run_benchmark
from llmrec.benchmarking.summary import Summary, SummaryRow, summarise
from llmrec.cli.leaderboard_view import leaderboard_view
from llmrec.errors import OptionError, OutOfMemoryError, PromptError, StorageError
from llmrec.models import LanguageModel
from llmrec.records import Caption, CaptionSource, Insight, Prompt
from llmrec.resumable import ResumableLog
from llmrec.retrieval import Index
from tests.benchmarking.faked import (
    BLIND,
    FAILS,
    GOOD,
    WRONG,
    Loading,
    benchmark_of,
    family,
    family_model,
    plan_of,
    revision_of,
    template,
    world,
)


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of a few draws: how good they are is tested elsewhere."""
    quick = partial(summarise, resamples=200)
    monkeypatch.setattr("llmrec.benchmarking.run.summarise", quick)


def run(benchmark: Benchmark, path: Path, load: Loading | None = None) -> Summary:
    folder, load = RunFolder(path), load or Loading()
    return run_benchmark(benchmark, folder, load, command="llmrec bench x")[0]


def results_in(path: Path) -> list[Result]:
    return list(RunFolder(path).results())


def scores_in(path: Path) -> dict[tuple[object, ...], object]:
    return {(one.cell, one.user_id, one.place): one.scores for one in results_in(path)}


def without_cost(summary: Summary) -> Summary:
    """A resumed run asks priors again, which the undisturbed one knows."""
    return replace(summary, rows=tuple(replace(row, cost={}) for row in summary.rows))


def row(summary: Summary, name: str) -> SummaryRow:
    return {row.name: row for row in summary.rows}[name]


def test_a_whole_run(kites: Path, tmp_path: Path) -> None:
    good, blind = (template(tmp_path, n, t) for n, t in (("good", GOOD), ("blind", BLIND)))
    benchmark = benchmark_of(kites, good, blind, "pointwise/plain-list", "setwise/plain-list")
    summary = run(benchmark, tmp_path / "run")
    kinds = {row.name: row.kind for row in summary.rows}
    assert kinds == {
        "random": "baseline",
        "popularity": "baseline",
        "retriever": "baseline",
        good: "cell",
        blind: "cell",
        "pointwise/plain-list": "cell",
        "setwise/plain-list": "cell",
        "oracle": "oracle",
    }
    assert row(summary, good).metrics["ndcg@10"].mean > 0.75
    assert row(summary, blind).metrics["ndcg@10"].mean < 0.65
    assert all(row.users == 12 and not row.faults for row in summary.rows)
    assert summary.about["dataset"] == "index"
    assert summary.about["dataset items"] == 60
    assert summary.about["command"] == "llmrec bench x"
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [cell["name"] for cell in kept["cells"]] == [cell.name for cell in benchmark.cells]
    assert [cell["key"] for cell in kept["cells"]] == [cell.key for cell in benchmark.cells]
    assert kept["fingerprint"] == "kites"
    assert len(results_in(tmp_path / "run")) == 4 * 12


def test_a_second_run_is_the_same_and_loads_nothing(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "listwise/plain-list", places=[1, 6])
    first = run(benchmark, tmp_path)
    load = Loading()
    assert run(benchmark, tmp_path, load) == first
    assert not load.loads
    assert set(first.position["listwise/plain-list"]) == {1, 6}


def test_stopped_run_resumes_to_the_same_results(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(
        kites,
        "likelihood/titles",
        "listwise/plain-list",
        models=["a", "b"],
        users=14,
        places=[2],
        place_users=3,
    )
    undisturbed = run(benchmark, tmp_path / "whole")
    asked = 0

    def label(title: str, place: int, prompt: Prompt) -> float:
        nonlocal asked
        asked += 1
        if asked % 151 == 0:
            raise OutOfMemoryError("full")
        return family(title, place, prompt)

    load, stops = Loading(family_model(label)), 0
    while True:
        try:
            summary = run(benchmark_of(kites, **_settings(benchmark)), tmp_path / "stopped", load)
        except OutOfMemoryError:
            stops += 1
            continue
        break
    assert stops > 2
    assert without_cost(summary) == without_cost(undisturbed)
    whole, stopped = (scores_in(tmp_path / name) for name in ("whole", "stopped"))
    assert stopped == whole


def _settings(benchmark: Benchmark) -> dict[str, object]:
    document = benchmark.plan.model_dump(mode="json", exclude={"index", "templates"})
    return {**document, "templates": list(benchmark.plan.templates)}


def test_positions_of_an_earlier_plan_are_not_shown(kites: Path, tmp_path: Path) -> None:
    name = "listwise/plain-list"
    run(benchmark_of(kites, name, places=[1, 6], place_users=5), tmp_path)
    later = run(benchmark_of(kites, name, places=[1, 3], place_users=4), tmp_path)
    alone = run(benchmark_of(kites, name, places=[1, 3], place_users=4), tmp_path / "alone")
    assert later.position == alone.position
    assert later.order == alone.order
    assert run(benchmark_of(kites, name), tmp_path).position == {}


def test_models_take_turns_once(kites: Path, tmp_path: Path) -> None:
    load = Loading()
    run(benchmark_of(kites, "likelihood/titles", models=["a", "b"], users=25), tmp_path, load)
    assert load.loads == {("a", "none"): 1, ("b", "none"): 1}


def test_race_drops_worse_rows_and_is_reproducible(kites: Path, tmp_path: Path) -> None:
    good, near, wrong = (
        template(tmp_path, name, text)
        for name, text in (("good", GOOD), ("near", f"Kites:\n{GOOD}"), ("wrong", WRONG))
    )
    orders = ("listwise/plain-list", "listwise/details")
    benchmark = benchmark_of(kites, good, near, wrong, *orders, users=40, race=True, places=[1])
    summary = run(benchmark, tmp_path / "run")
    dropped = {row.name: row.dropped for row in summary.rows if row.dropped}
    assert dropped[wrong].startswith("after 10 users: significantly worse than ")
    assert row(summary, wrong).users == 10
    assert row(summary, good).users == 40
    assert set(summary.position) == set(orders) - set(dropped)  # of those left alone
    before = results_in(tmp_path / "run")
    load = Loading()
    assert repr(run(benchmark, tmp_path / "run", load)) == repr(summary)  # NaN and all
    assert not load.loads
    assert results_in(tmp_path / "run") == before
    # Killed anywhere, it decides the same.
    path = tmp_path / "run" / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (3, 51, len(lines) - 1):
        path.write_bytes(b"".join(lines[:kept]))
        again = run(benchmark, tmp_path / "run")
        assert repr(without_cost(again)) == repr(without_cost(summary))  # NaN and all
        assert len(path.read_bytes().splitlines()) == len(lines)


def test_a_race_that_one_row_is_left_in_asks_it_about_everybody(
    kites: Path, tmp_path: Path
) -> None:
    good, wrong = (template(tmp_path, n, t) for n, t in (("good", GOOD), ("wrong", WRONG)))
    summary = run(benchmark_of(kites, good, wrong, users=40, race=True), tmp_path / "run")
    assert row(summary, good).users == 40
    assert row(summary, wrong).users == 10
    full = run(benchmark_of(kites, good, wrong, users=40), tmp_path / "run")
    assert row(full, good) == row(summary, good)
    assert row(full, wrong).users == 40
    assert not row(full, wrong).dropped


def test_more_users_are_asked_and_fewer_are_a_part(kites: Path, tmp_path: Path) -> None:
    some = benchmark_of(kites, "likelihood/titles", users=12)
    first = run(some, tmp_path / "run")
    more = run(benchmark_of(kites, "likelihood/titles", users=20), tmp_path / "run")
    assert more.user_ids[:12] == first.user_ids
    assert more.per_user["likelihood/titles"][:12] == first.per_user["likelihood/titles"]
    load = Loading()
    assert run(some, tmp_path / "run", load).rows == first.rows
    assert not load.loads
    assert len(results_in(tmp_path / "run")) == 20  # nothing that was answered is lost


def test_a_cell_that_fails_for_everybody_does_not_take_the_others_with_it(
    kites: Path, tmp_path: Path
) -> None:
    fails = template(tmp_path, "fails", FAILS.replace("> 4", "> 3"))
    summary = run(benchmark_of(kites, fails, "likelihood/titles"), tmp_path / "run")
    assert row(summary, fails).faults == {"PromptError": 12}
    assert row(summary, fails).users == 0
    assert row(summary, "likelihood/titles").users == 12
    assert leaderboard_markdown(summary)


def test_other_captions_of_the_same_data_are_refused(kites: Path, tmp_path: Path) -> None:
    """Prompts read them: their answers would stand in one row with those to other prompts."""
    run(benchmark_of(kites, "likelihood/titles", users=3), tmp_path / "run")
    index = Index.open(kites)
    seen = Insight(picture=Caption("a red kite", CaptionSource.MODEL))
    replace(index, insights={**index.insights, "i1": seen}).save(tmp_path / "other")
    with pytest.raises(StorageError, match="a run whose prompts show other captions"):
        run(benchmark_of(tmp_path / "other", "likelihood/titles", users=6), tmp_path / "run")


def test_another_data_set_is_refused(kites: Path, tmp_path: Path) -> None:
    run(benchmark_of(kites, "likelihood/titles"), tmp_path / "run")
    other = world(tmp_path / "other", fingerprint="others")
    load = Loading()
    with pytest.raises(StorageError, match="a run of another data set"):
        run(benchmark_of(other, "likelihood/titles"), tmp_path / "run", load)
    assert not load.loads


def test_end_to_end_is_summed_up_too(kites: Path, tmp_path: Path) -> None:
    settings = {"protocol": "end-to-end", "n_candidates": 3, "users": 40, "places": [1, 3]}
    summary = run(benchmark_of(kites, "listwise/plain-list", **settings), tmp_path)
    recall = float(summary.about["retrieval recall"])
    assert 0 < recall < 1
    assert row(summary, "oracle").metrics["ndcg@10"].mean == pytest.approx(recall)


def test_errors_come_before_a_model_is_downloaded(kites: Path, tmp_path: Path) -> None:
    def fetched(ref: str, quantization: str) -> str:
        raise AssertionError("a model was fetched")

    with pytest.raises(StorageError, match="is not an index"):
        Benchmark.of(plan_of(tmp_path, "likelihood/titles"), fetched)
    with pytest.raises(PromptError, match="no template file"):
        Benchmark.of(plan_of(kites, str(tmp_path / "likelihood" / "absent.jinja")), fetched)
    with pytest.raises(OptionError, match="No template matches"):
        Benchmark.of(plan_of(kites, "likelyhood/titles"), fetched)
    with pytest.raises(OptionError, match="users is 41"):
        Benchmark.of(plan_of(kites, "likelihood/titles", users=41), fetched)


def test_one_process_writes_a_run(kites: Path, tmp_path: Path) -> None:
    benchmark, load = benchmark_of(kites, "likelihood/titles"), Loading()
    with (
        ResumableLog(tmp_path / "results.jsonl"),
        pytest.raises(StorageError, match=r"is being written by .*process"),
    ):
        run(benchmark, tmp_path, load)
    assert not load.loads


def test_the_index_itself_is_not_touched(kites: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in kites.rglob("*") if path.is_file()}
    run(Benchmark.of(plan_of(kites, "likelihood/titles"), revision_of), tmp_path)
    assert {path: path.read_bytes() for path in kites.rglob("*") if path.is_file()} == before
    assert len(Index.open(kites).interactions) == 40 * 5 + 1


SERVED = "openai:http://127.0.0.1:9/v1#small"


def test_cost_per_user_by_the_price_table(kites: Path, tmp_path: Path) -> None:
    table = tmp_path / "prices.toml"
    table.write_text("[small]\ninput = 2.0\ncached_input = 0.5\noutput = 8.0\n")
    benchmark = benchmark_of(
        kites, "pointwise/plain-list", models=["kites", SERVED], prices=str(table)
    )
    summary = run(benchmark, tmp_path / "run")
    here, served = (row for row in summary.rows if row.kind == "cell")
    assert "price" not in here.cost
    given, forwarded = served.cost["tokens given"], served.cost["tokens forwarded"]
    expected = (2.0 * forwarded + 0.5 * (given - forwarded)) / 1e6
    assert served.cost["price"] == pytest.approx(expected)
    heads, *rows = [
        line.split(" | ")
        for line in leaderboard_markdown(summary).splitlines()
        if line.startswith("| ")
    ]
    prices = {row[1].partition(",")[2].strip(): row[-1] for row in rows if "pointwise" in row[1]}
    assert heads[-1] == "price |"
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(leaderboard_view(summary, 200))
    first, *shown = captured.get().splitlines()
    assert first.split()[-1] == "price"
    assert {line.split()[-1] for line in shown if "pointwise" in line} == {
        "\N{EN DASH}",
        f"{expected:.2g}",
    }
    assert set(prices.values()) == {"\N{EN DASH} |", f"{expected:.2g} |"}


def test_a_server_without_a_price_is_refused_before_anything(kites: Path, tmp_path: Path) -> None:
    table = tmp_path / "prices.toml"
    table.write_text("[smal]\ninput = 2.0\noutput = 8.0\n")
    with pytest.raises(OptionError, match="no prices of 'small'"):
        benchmark_of(kites, "likelihood/titles", models=[SERVED], prices=str(table))


@pytest.fixture
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> LanguageModel:
        return family_model()

    def revision(_: BenchmarkModels, ref: str, quantization: str) -> str:
        return revision_of(ref, quantization)

    monkeypatch.setattr(BenchmarkModels, "load", load)
    monkeypatch.setattr(BenchmarkModels, "reader", load)
    monkeypatch.setattr(BenchmarkModels, "revision", revision)


@pytest.mark.usefixtures("_no_model")
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
    assert all("paraphrase sensitivity" in rows[name].measures for name in summary.paraphrase)
    assert "Paraphrase sensitivity" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.usefixtures("_no_model")
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


@pytest.mark.usefixtures("_no_model")
def test_rows_with_equal_prompts_are_warned_about(
    kites: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields: dict[str, dict[str, int]] = {"all": {}, "bare": {"review": 0}}
    bench(plan_of(kites, "likelihood/titles", fields=fields), tmp_path / "run")
    assert "likelihood/titles, all and likelihood/titles, bare have the same scores" in caplog.text
    caplog.clear()
    bench(plan_of(kites, "likelihood/titles", history_items=[1, 20]), tmp_path / "other")
    assert "have the same scores" not in caplog.text


@pytest.mark.usefixtures("_no_model")
def test_no_row_leads_if_no_list_has_its_target(kites: Path, tmp_path: Path) -> None:
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
    assert told.startswith("# No candidate list has its target")
    assert "smallest detectable difference" not in told
    assert "smallest detectable difference" in leaderboard_markdown(summary)
    few = tuple(
        replace(one, comparison=replace(one.comparison, detectable=0.9))
        for one in summary.contrasts
    )
    told = leaderboard_markdown(replace(summary, contrasts=few))
    assert "Too few users to show any difference, corrected for 3 comparisons." in told


KITES = [
    {
        "user_id": f"u{n}",
        "history": [f"Kite {n}", f"Kite {n + 6}", f"Kite {n + 12}"],
        "candidates": [f"Kite {n + 19}", f"Kite {n + 20}", f"Kite {n + 18}", f"Kite {n + 24}"],
        "relevant": [f"Kite {n + 18}", f"Kite {n + 24}"],
    }
    for n in range(12)
]


@pytest.mark.usefixtures("_no_model")
def test_prompts_are_compared_on_labelled_requests_without_an_index(tmp_path: Path) -> None:
    good, wrong = (template(tmp_path, n, t) for n, t in (("good", GOOD), ("wrong", WRONG)))
    compared = partial(bench, templates=[good, wrong], models=["kites"], race=True, places=[1])
    summary = compared(requests=KITES, out=tmp_path / "run")
    assert row(summary, good).metrics["ndcg@10"].mean > 0.95
    assert row(summary, wrong).metrics["ndcg@10"].mean < 0.7
    assert row(summary, "given order").metrics["mrr"].mean == pytest.approx(1 / 3)
    assert row(summary, good).metrics["recall@1"].mean > 0.4
    assert summary.about["protocol"] == "labelled"
    text = (tmp_path / "run" / "leaderboard.md").read_text()
    assert "significantly better than the given order" in text
    assert "12 users of requests.jsonl, ranking the candidates of each request." in text
    assert "Against the given order" in (tmp_path / "run" / "report.html").read_text()
    again = compared(requests=tmp_path / "run" / "requests.jsonl", out=tmp_path / "run")
    assert repr(again.per_user) == repr(summary.per_user)  # NaN and all
    assert repr(compared(requests=KITES).per_user) == repr(summary.per_user)


@pytest.mark.usefixtures("_no_model")
def test_requests_in_memory_overwrite_nothing_of_another_run(kites: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    bench(requests=KITES, templates="likelihood/titles", models="kites", out=out)
    for folder, told in ((out, "a run of another data set"), (kites, "an index, not a run")):
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        with pytest.raises(StorageError, match=f"holds {told}"):
            bench(requests=KITES[:5], templates="likelihood/titles", models="kites", out=folder)
        after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert after == before


@pytest.mark.usefixtures("_no_model")
def test_without_a_folder_no_report_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("llmrec.benchmarking.run.render_report")
    summary = bench(requests=KITES, templates="likelihood/titles", models="kites")
    assert row(summary, "likelihood/titles").users == 12


@pytest.mark.usefixtures("_no_model")
def test_a_folder_whose_name_is_no_text_is_summed_up(kites: Path, tmp_path: Path) -> None:
    index = tmp_path / "i\udcff"
    shutil.copytree(kites, index)
    bench(plan_of(index, "likelihood/titles"), tmp_path / "r\udcff")
    kept = json.loads((tmp_path / "r\udcff" / "summary.json").read_text(encoding="utf-8"))
    assert kept["about"]["dataset"] == "i\udcff"


def test_settings_beside_a_plan_are_refused(kites: Path) -> None:
    with pytest.raises(OptionError, match="A plan and models are given"):
        bench(plan_of(kites, "likelihood/titles"), models=["kites"])
