from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.benchmarking.estimating import (
    CellEstimate,
    comparisons_of,
    estimate_cells,
    shown_in_words,
    smallest_shown,
)
from llmrec.benchmarking.records import Result
from llmrec.benchmarking.running import Task, ask
from llmrec.language_models import LanguageModel
from llmrec.prompting import Prompt
from llmrec.reranking import STRATEGIES
from tests.benchmarking.faked import FAILS, benchmark_of, family_model, template


def reader(_: str) -> LanguageModel:
    """It reads and is never asked."""

    def refuse(*_: object) -> float:
        raise AssertionError("the model was asked")

    return family_model(refuse)


def only(estimates: tuple[CellEstimate, ...]) -> CellEstimate:
    (found,) = estimates
    return found


@pytest.mark.parametrize("settings", [{}, {"calibrate": [True]}, {"shuffles": [2]}], ids=str)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_prompts_and_tokens_are_those_that_a_run_gives(
    kites: Path, strategy: str, settings: dict[str, object]
) -> None:
    folder = "listwise" if strategy == "tournament" else strategy
    asked = {"users": 3, "strategies": [strategy], **settings}
    benchmark = benchmark_of(kites, f"{folder}/plain-list" if folder != "likelihood" else
                             "likelihood/titles", **asked)  # fmt: skip
    cell = benchmark.cells[-1]
    assert cell.strategy == strategy
    estimate = estimate_cells(benchmark, (), reader)[-1]
    assert not estimate.fault
    results = [
        ask(Task(cell, one), benchmark.asked.known, family_model()) for one in benchmark.asked.lists
    ]
    prompts = sum(result.prompts for result in results) / 3
    if estimate.at_least:
        assert 0 < estimate.prompts <= prompts
    else:
        assert estimate.prompts == prompts
    tokens = sum(result.tokens_given for result in results) / 3
    # The fake counts a label's token; answers that are written are not of the prompt.
    slack = prompts + 1
    assert 0 < estimate.tokens <= tokens + slack
    assert estimate.at_least or tokens - slack <= estimate.tokens


def test_time_is_not_known_before_anything_was_timed(kites: Path) -> None:
    estimate = only(estimate_cells(benchmark_of(kites, "pointwise/plain-list"), (), reader))
    assert estimate.name == "pointwise/plain-list"
    assert estimate.left == 12
    assert estimate.seconds is None
    assert estimate.prompts == 6


def test_a_cells_own_seconds_time_what_is_left_of_it(kites: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list", "likelihood/titles")
    key, users = benchmark.cells[0].key, [one.user_id for one in benchmark.asked.lists]
    done = [
        Result(key, users[0], tokens_given=100, seconds=1.0),
        Result(key, users[1], tokens_given=100, seconds=3.0),
        Result(key, users[0], place=1, tokens_given=100, seconds=50.0),  # a planted target
    ]
    own, other = estimate_cells(benchmark, done, reader)
    assert own.left == 10
    assert own.seconds == pytest.approx(2.0 * 10)
    assert other.left == 12
    assert other.seconds == pytest.approx(54.0 / 300 * other.tokens * 12)


def test_a_finished_run_takes_no_time(kites: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    done = [
        Result(benchmark.cells[0].key, one.user_id, tokens_given=9, seconds=1.0)
        for one in benchmark.asked.lists
    ]
    estimate = only(estimate_cells(benchmark, done, reader))
    assert (estimate.left, estimate.seconds) == (0, 0)


def test_a_cell_that_cannot_be_asked_says_why(kites: Path, tmp_path: Path) -> None:
    fails = template(tmp_path, "fails", FAILS.replace("> 4", "> 3"))
    bad, good = estimate_cells(benchmark_of(kites, fails, "likelihood/titles"), (), reader)
    assert "line 2" in bad.fault
    assert bad.seconds is None
    assert not good.fault


def test_more_users_show_smaller_differences() -> None:
    assert smallest_shown(50, comparisons=18) > 1.3 * smallest_shown(50)
    assert comparisons_of(4) == 6 + 4 * 3
    assert "corrected for 18 comparisons" in shown_in_words(50, 4)
    assert smallest_shown(50) == pytest.approx(2 * smallest_shown(200), rel=0.05)
    assert smallest_shown(300) == pytest.approx(2.8 * 0.35 / 300**0.5, rel=0.05)


def test_prompts_of_no_candidate_are_counted_with_the_title(kites: Path, tmp_path: Path) -> None:
    name = template(tmp_path, "fixed", "one two three ")
    estimate = only(estimate_cells(benchmark_of(kites, name), (), reader))
    assert Prompt("", "", "one two three ").text
    assert estimate.tokens == 6 * (3 + 2)  # "Kite 17" is two words


def test_planted_places_are_counted(kites: Path) -> None:
    settings: dict[str, object] = {"users": 12, "places": [1, 3, 6], "place_users": 5}
    benchmark = benchmark_of(kites, "listwise/plain-list", "pointwise/plain-list", **settings)
    listed, single = estimate_cells(benchmark, (), reader)
    assert (listed.left, single.left) == (12 + 5 * 3, 12)  # who sees no order is asked none


def test_a_cell_is_timed_by_what_is_most_like_it(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "likelihood/list", "pointwise/plain-list")
    known, _, other = benchmark.cells
    done = [
        Result(known.key, "u00", seconds=1.0, tokens_given=100),
        Result(other.key, "u00", seconds=9.0, tokens_given=100),
    ]
    _, twin, _ = estimate_cells(benchmark, done, reader)
    assert twin.seconds == pytest.approx(0.01 * twin.tokens * 12)
