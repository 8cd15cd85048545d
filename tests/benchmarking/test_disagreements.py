from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from llmrec.benchmarking.disagreements import (
    SHOWN,
    Disagreement,
    disagreeing_users,
    disagreements,
)
from llmrec.benchmarking.results import Failure, Result, Results, RunFolder
from llmrec.benchmarking.run import Benchmark, run_benchmark
from llmrec.benchmarking.summary import Summary, summarise
from llmrec.benchmarking.users import UserList
from llmrec.items import picture_path
from llmrec.models import LanguageModel
from llmrec.records import Item, Prompt
from llmrec.retrieval import Index
from tests.benchmarking.faked import (
    BLIND,
    FAILS,
    GOOD,
    WRONG,
    Loading,
    benchmark_of,
    family_model,
    template,
)


def reader(_: str) -> LanguageModel:
    return family_model()


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(summarise, resamples=50)
    monkeypatch.setattr("llmrec.benchmarking.run.summarise", quick)


def cases_of(benchmark: Benchmark, run: Path) -> tuple[Summary, tuple[Disagreement, ...]]:
    return found_by(benchmark, run, Loading())


def found_by(
    benchmark: Benchmark, run: Path, load: Loading
) -> tuple[Summary, tuple[Disagreement, ...]]:
    summary, results = run_benchmark(benchmark, RunFolder(run), load)
    found = disagreements(benchmark.data, benchmark.cells, summary, results, 0, reader)
    return summary, found


def tau(case: Disagreement) -> float:
    one, other = ({line.title: line.score for line in ranking} for ranking in case.rankings)
    return float(stats.kendalltau(list(one.values()), [other[title] for title in one]).statistic)


def test_the_two_best_templates_where_they_are_furthest_apart(kites: Path, tmp_path: Path) -> None:
    good, blind, wrong = (
        template(tmp_path, name, text)
        for name, text in (("good", GOOD), ("blind", BLIND), ("wrong", WRONG))
    )
    benchmark = benchmark_of(kites, wrong, blind, good, users=25)
    summary, cases = cases_of(benchmark, tmp_path / "run")
    assert 0 < len(cases) <= SHOWN
    lists = {one.user_id: one for one in benchmark.data.users}
    taus = [tau(case) for case in cases]
    assert taus == sorted(taus)
    for case in cases:
        assert case.rows == (good, blind)
        one = lists[case.user_id]
        items = Index.open(kites).items
        titles = {items[item_id].name for item_id in one.candidates}
        target = items[one.targets[0]].name
        assert len(case.history) in {4, 5}
        assert target not in case.history
        first, second = case.prompts
        assert all(title in first for title in case.history)
        assert second == "Somebody chose:\n- "
        for name, ranking in zip(case.rows, case.rankings, strict=True):
            place = [line.is_target for line in ranking].index(True) + 1
            value = summary.per_user[name][summary.user_ids.index(one.user_id)]
            assert value == pytest.approx(1 / np.log2(place + 1))
            assert {line.title for line in ranking} == titles
            assert [line.title for line in ranking if line.is_target] == [target]
            scores = [line.score for line in ranking]
            assert scores == sorted(scores, key=lambda score: -float(score or 0))


def test_settings_of_one_template_are_no_disagreement(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", history_items=[0, 20])
    assert cases_of(benchmark, tmp_path)[1] == ()


def test_rows_that_agree_about_everybody_have_no_cases(kites: Path, tmp_path: Path) -> None:
    one = template(tmp_path, "one", "Kites:\n- ")
    other = template(tmp_path, "other", "Kites: \n- ")
    benchmark = benchmark_of(kites, one, other, users=4)
    summary, cases = cases_of(benchmark, tmp_path / "run")
    assert summary.per_user[one] != summary.per_user[other]
    assert all(tau(case) < 1 for case in cases)


def test_failed_users_are_not_disagreements(kites: Path, tmp_path: Path) -> None:
    fails = template(tmp_path, "fails", FAILS.replace("> 4", "> 3"))
    benchmark = benchmark_of(kites, fails, "likelihood/titles", "likelihood/list")
    _, cases = cases_of(benchmark, tmp_path / "run")
    assert all(fails not in case.rows for case in cases)
    alone = benchmark_of(kites, fails)
    assert cases_of(alone, tmp_path / "alone")[1] == ()


def test_a_chat_prompt_shows_both_messages(kites: Path, tmp_path: Path) -> None:
    wrong = template(tmp_path, "wrong", WRONG)
    benchmark = benchmark_of(kites, "pointwise/plain-list", wrong, users=8)
    _, cases = cases_of(benchmark, tmp_path / "run")
    assert cases
    assert cases[0].rows == ("pointwise/plain-list", wrong)
    assert cases[0].prompts[0].startswith("You judge whether a person will choose an item.")
    assert "Yes or No?" in cases[0].prompts[0]


def test_users_with_the_largest_disagreement() -> None:
    up = tuple(float(n) for n in range(12))
    ids = tuple(f"i{n}" for n in range(12))
    lists = [UserList(f"u{n}", ("i0",), ids, (None,) * 12) for n in range(20)]
    first = [Result("k1", entry.user_id, up) for entry in lists]
    second = [replace(result, cell="k2") for result in first]
    second[7] = Result("k2", "u7", up[::-1])
    second[9] = Result("k2", "u9", (*up[1:], 0.0))
    second[11] = Result("k2", "u11", fault=Failure("X", ""))
    second[12] = Result("k2", "u12", (1.0,) * 12)
    results = Results([*first, *second])
    both = results.of("k1", lists), results.of("k2", lists)
    assert disagreeing_users(lists, *both, n=1) == ("u7",)
    assert disagreeing_users(lists, *both, n=99) == ("u7", "u9")


def test_places_of_ties_are_those_of_the_figures(kites: Path, tmp_path: Path) -> None:
    """A model that scores all alike: the target stands where the metric saw it, not first."""
    one, other = (template(tmp_path, name, text) for name, text in (("a", GOOD), ("b", WRONG)))
    benchmark = benchmark_of(kites, one, other, users=12)

    def coarse(title: str, _place: int, prompt: Prompt) -> float:
        family = int(title.rsplit(maxsplit=1)[-1]) % 2  # two groups of ties
        return -1.0 - (family if "Anything but" in (prompt.text or "") else 1 - family)

    summary, cases = found_by(benchmark, tmp_path / "run", Loading(family_model(coarse)))
    assert cases
    for case in cases:
        for name, ranking in zip(case.rows, case.rankings, strict=True):
            place = [line.is_target for line in ranking].index(True) + 1
            value = summary.per_user[name][summary.user_ids.index(case.user_id)]
            assert value == pytest.approx(1 / np.log2(place + 1))


def test_pictures_outside_the_data_are_left_out(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    inside, outside = (Item("a", image=name) for name in ("a.png", "../secret.png"))
    assert picture_path(inside, shop, None) == str((shop / "a.png").resolve())
    assert picture_path(outside, shop, None) == ""
    assert picture_path(outside, shop, tmp_path) == str((tmp_path / "secret.png").resolve())
    assert picture_path(inside, None, None) == ""
