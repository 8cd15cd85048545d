from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.benchmarking.dry_run import (
    CellEstimate,
    estimate_cells,
    left_in_words,
    time_in_words,
)
from llmrec.benchmarking.report.text import comparisons_of, shown_in_words, smallest_shown
from llmrec.benchmarking.results import Failure, Result, Results
from llmrec.benchmarking.run import ask
from llmrec.benchmarking.tasks import Task
from llmrec.models import LanguageModel
from llmrec.records import Prompt
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
    estimate = estimate_cells(benchmark, Results(), reader)[-1]
    assert not estimate.fault
    results = [
        one
        for user in benchmark.data.users
        for one in ask([Task(cell, user)], benchmark.data, family_model(), *cell.make())
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
    estimate = only(estimate_cells(benchmark_of(kites, "pointwise/plain-list"), Results(), reader))
    assert estimate.name == "pointwise/plain-list"
    assert estimate.left == 12
    assert estimate.seconds is None
    assert estimate.prompts == 6


def test_cell_time_comes_from_its_own_results(kites: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list", "likelihood/titles")
    key, users = benchmark.cells[0].key, [one.user_id for one in benchmark.data.users]
    done = [
        Result(key, users[0], tokens_given=100, seconds=1.0),
        Result(key, users[1], tokens_given=100, seconds=3.0),
        Result(key, users[0], place=1, tokens_given=100, seconds=50.0),  # a planted target
    ]
    own, other = estimate_cells(benchmark, Results(done), reader)
    assert own.left == 10
    assert own.seconds == pytest.approx(2.0 * 10)
    assert (own.guessed, other.guessed) == (False, True)
    assert other.left == 12
    assert other.seconds == pytest.approx(54.0 / 300 * other.tokens * 12)


def test_a_finished_run_takes_no_time(kites: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    done = [
        Result(benchmark.cells[0].key, one.user_id, tokens_given=9, seconds=1.0)
        for one in benchmark.data.users
    ]
    estimate = only(estimate_cells(benchmark, Results(done), reader))
    assert (estimate.left, estimate.seconds) == (0, 0)


def test_a_cell_that_cannot_be_asked_says_why(kites: Path, tmp_path: Path) -> None:
    fails = template(tmp_path, "fails", FAILS.replace("> 4", "> 3"))
    bad, good = estimate_cells(benchmark_of(kites, fails, "likelihood/titles"), Results(), reader)
    assert "line 2" in bad.fault
    assert bad.seconds is None
    assert not good.fault


def test_more_users_show_smaller_differences() -> None:
    assert smallest_shown(50, comparisons=18) > 1.3 * smallest_shown(50)
    assert comparisons_of(4, 3) == 6 + 4 * 3
    assert "corrected for 18 comparisons" in shown_in_words(50, 18)
    assert smallest_shown(50) == pytest.approx(2 * smallest_shown(200), rel=0.05)
    assert smallest_shown(300) == pytest.approx(2.8 * 0.35 / 300**0.5, rel=0.05)


def test_prompts_of_no_candidate_are_counted_with_the_title(kites: Path, tmp_path: Path) -> None:
    name = template(tmp_path, "fixed", "one two three ")
    estimate = only(estimate_cells(benchmark_of(kites, name), Results(), reader))
    assert Prompt("", "", "one two three ").text
    assert estimate.tokens == 6 * (3 + 2)  # "Kite 17" is two words


def test_planted_places_are_counted(kites: Path) -> None:
    settings: dict[str, object] = {"users": 12, "places": [1, 3, 6], "place_users": 5}
    benchmark = benchmark_of(kites, "listwise/plain-list", "pointwise/plain-list", **settings)
    listed, single = estimate_cells(benchmark, Results(), reader)
    assert (listed.left, single.left) == (12 + 5 * 3, 12)  # who sees no order is asked none
    first = benchmark.data.users[0].user_id
    done = [Result(benchmark.cells[0].key, first, seconds=2.0, tokens_given=9)]
    listed, _ = estimate_cells(benchmark, Results(done), reader)
    assert listed.seconds == 2 * listed.left == 2 * (11 + 5 * 3)


def test_cell_time_comes_from_the_most_similar_cell(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "likelihood/list", "pointwise/plain-list")
    known, _, other = benchmark.cells
    done = [
        Result(known.key, "u00", seconds=1.0, tokens_given=100),
        Result(other.key, "u00", seconds=9.0, tokens_given=100),
    ]
    _, twin, _ = estimate_cells(benchmark, Results(done), reader)
    assert twin.seconds == pytest.approx(0.01 * twin.tokens * 12)


def test_another_model_or_quantization_times_nothing(kites: Path) -> None:
    settings: dict[str, object] = {"models": ["kites", "hawks"], "quantizations": ["none", "nf4"]}
    benchmark = benchmark_of(kites, "likelihood/titles", "likelihood/list", **settings)
    first = benchmark.cells[0]
    done = [Result(first.key, "u00", seconds=1.0, tokens_given=100)]
    found = estimate_cells(benchmark, Results(done), reader)
    timed = {
        cell.key
        for cell, estimate in zip(benchmark.cells, found, strict=True)
        if estimate.seconds is not None
    }
    same = (first.model, first.quantization)
    assert timed == {c.key for c in benchmark.cells if (c.model, c.quantization) == same}
    assert len(timed) == 2


def test_answers_of_cells_that_are_not_asked_any_more_time_the_others(kites: Path) -> None:
    before = benchmark_of(kites, "likelihood/titles", "pointwise/plain-list")
    done = [
        Result(before.cells[0].key, "u00", seconds=1.0, tokens_given=100),
        Result(before.cells[1].key, "u00", seconds=9.0, tokens_given=100),
    ]
    now = benchmark_of(kites, "likelihood/list")
    assert only(estimate_cells(now, Results(done), reader)).seconds is None  # of nobody knows what
    found = only(estimate_cells(now, Results(done), reader, before.cells))
    assert found.seconds == pytest.approx(0.01 * found.tokens * 12)
    assert found.guessed


def test_finished_cell_takes_no_time(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles")
    fault = Failure("PromptError", "it does not fit")
    lists = benchmark.data.users
    done = [Result(benchmark.cells[0].key, one.user_id, fault=fault) for one in lists]
    found = only(estimate_cells(benchmark, Results(done), reader))
    assert (found.left, found.seconds, found.guessed) == (0, 0, False)


OWN = CellEstimate("own", 1, 10, False, 6, 120.0)
LIKE = CellEstimate("like", 1, 20, True, 6, 300.0, guessed=True)
UNTIMED = CellEstimate("untimed", 2, 30, False, 4, None)
BROKEN = CellEstimate("broken", 0, 0, False, 12, None, "line 2")
DONE = CellEstimate("done", 1, 10, False, 0, 0.0)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([UNTIMED, BROKEN, DONE], "not timed yet; the first results of a run time the rest"),
        ([OWN, DONE, BROKEN], "2.0 min"),  # what cannot be asked takes no time
        ([DONE], "0.0 min"),
        ([replace(OWN, seconds=6000.0)], "100 min"),
        ([OWN, LIKE], "~7.0 min+; ~ extrapolated from other cells"),
        (
            [OWN, UNTIMED],
            "2.0 min; 1 of 2 cells are not timed yet: the first results of a run time the rest",
        ),
    ],
)
def test_extrapolated_and_unknown_times_are_marked(cells: list[CellEstimate], said: str) -> None:
    assert time_in_words(cells) == said


def test_remaining_work_is_counted_in_lists_and_tokens() -> None:
    assert left_in_words([OWN, UNTIMED, BROKEN, DONE]) == "10 lists, about 180 tokens"
    assert left_in_words([OWN, LIKE]) == "12 lists, about 180 tokens or more"
