from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.benchmarking.results import _RESULT as RESULT
from llmrec.benchmarking.results import Result, RunFolder
from llmrec.benchmarking.run import WINDOW, Asking, Benchmark, ask
from llmrec.benchmarking.tasks import BLOCK, Task, place_tasks, tasks_of
from llmrec.benchmarking.users import planted
from llmrec.errors import (
    HardwareError,
    LlmrecError,
    OutOfMemoryError,
    ServerError,
    StorageError,
)
from llmrec.models import ContinuationRequest, LanguageModel, LogProbs
from llmrec.models.hardware import peak_mib
from llmrec.records import Prompt
from llmrec.resumable import read_rows
from tests.benchmarking.faked import (
    BLIND,
    BUSY,
    FAILS,
    GOOD,
    ITEMS,
    USERS,
    Loading,
    benchmark_of,
    family,
    family_model,
    template,
)


def run(benchmark: Benchmark, path: Path, load: Loading) -> int:
    with RunFolder(path).open(benchmark.about("llmrec bench"), benchmark.data.users) as results:
        asking = Asking(benchmark.data, results, load)
        return asking.run(tasks_of(benchmark.cells, benchmark.data.users))


def results_in(path: Path) -> list[Result]:
    """In the order of the file."""
    return [
        RESULT.validate_python(row) for row in read_rows(path / "results.jsonl", checksums=True)
    ]


def ask_one(task: Task, benchmark: Benchmark, model: LanguageModel) -> Result:
    strategy, budget = task.cell.make()
    (result,) = ask([task], benchmark.data, model, strategy, budget)
    return result


def test_blocks_of_users_go_through_every_cell(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "likelihood/list", users=BLOCK + 2)
    tasks = list(tasks_of(benchmark.cells, benchmark.data.users))
    assert len({task.name for task in tasks}) == len(tasks) == 2 * (BLOCK + 2)
    first, second = (cell.key for cell in benchmark.cells)
    expected = [first] * BLOCK + [second] * BLOCK + [first] * 2 + [second] * 2
    assert [task.cell.key for task in tasks] == expected


def test_every_task_is_answered_once_and_a_second_run_loads_no_model(
    kites: Path, tmp_path: Path
) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "pointwise/plain-list")
    load = Loading()
    assert run(benchmark, tmp_path, load) == 24
    assert load.loads == {("kites", "none"): 1}
    results = results_in(tmp_path)
    assert len({(r.cell, r.user_id) for r in results}) == len(results) == 24
    assert all(r.fault is None and len(r.scores) == 6 and r.prompts for r in results)
    again = Loading()
    assert run(benchmark, tmp_path, again) == 0
    assert not again.loads
    assert results_in(tmp_path) == results


def test_a_template_that_fails_for_one_user_is_that_users_fault(
    kites: Path, tmp_path: Path
) -> None:
    name = template(tmp_path, "fails", FAILS)
    benchmark = benchmark_of(kites, name, "likelihood/titles", users=USERS)
    folder = tmp_path / "run"
    assert run(benchmark, folder, Loading()) == 2 * USERS
    (failed,) = [result for result in results_in(folder) if result.fault]
    assert failed.user_id == BUSY
    assert failed.scores == ()
    assert failed.fault is not None
    assert failed.fault.type == "PromptError"
    assert "line 2" in failed.fault.message
    assert run(benchmark, folder, Loading()) == 0  # the same again would be the same fault


@pytest.mark.parametrize("error", [OutOfMemoryError, HardwareError, ServerError, StorageError])
def test_errors_that_may_pass_stop_the_run_and_keep_its_results(
    kites: Path, tmp_path: Path, error: type[LlmrecError]
) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    folder = tmp_path
    asked = 0

    def label(title: str, place: int, prompt: Prompt) -> float:
        nonlocal asked
        asked += 1
        if asked > 6 * WINDOW + 2:  # in the second window of users
            raise error("not now")
        return family(title, place, prompt)

    with pytest.raises(error, match="not now"):
        run(benchmark, folder, Loading(family_model(label)))
    kept = [one.user_id for one in benchmark.data.users[:WINDOW]]
    assert [result.user_id for result in results_in(folder)] == kept
    assert run(benchmark, folder, Loading()) == 12 - WINDOW
    assert not any(result.fault for result in results_in(folder))


def test_a_template_that_goes_while_the_benchmark_runs_is_no_users_fault(
    kites: Path, tmp_path: Path
) -> None:
    name = template(tmp_path, "mine", GOOD)
    benchmark = benchmark_of(kites, name)
    folder = tmp_path / "run"
    template(tmp_path, "mine", BLIND)
    with pytest.raises(StorageError, match="has been changed"):
        run(benchmark, folder, Loading())
    Path(name).unlink()
    with pytest.raises(LlmrecError, match="no template file"):
        run(benchmark, folder, Loading())
    assert results_in(folder) == []


def test_changing_a_template_asks_its_cell_alone(kites: Path, tmp_path: Path) -> None:
    name = template(tmp_path, "mine", GOOD)
    benchmark = benchmark_of(kites, name, "likelihood/titles")
    folder = tmp_path / "run"
    assert run(benchmark, folder, Loading()) == 24
    template(tmp_path, "mine", f"Kites:\n{GOOD}")
    changed = benchmark_of(kites, name, "likelihood/titles")
    assert run(changed, folder, Loading()) == 12
    assert {r.cell for r in results_in(folder)[24:]} == {changed.cells[0].key}
    template(tmp_path, "mine", GOOD)  # and back again: nothing is asked
    assert run(benchmark_of(kites, name, "likelihood/titles"), folder, Loading()) == 0


def test_each_model_is_loaded_once_for_its_cells(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(
        kites, "likelihood/titles", models=["a", "b"], quantizations=["none", "int8"], users=3
    )
    load = Loading()
    assert run(benchmark, tmp_path, load) == 12
    assert load.loads == {(m, q): 1 for m in "ab" for q in ("none", "int8")}


def scores_by_title(benchmark: Benchmark, task: Task) -> dict[str, float | None]:
    result = ask_one(task, benchmark, family_model(by_title))
    return dict(zip(task.one.candidates, result.scores, strict=True))


def by_title(title: str, place: int, _: Prompt) -> float:
    """A title's number, whatever else there is: 0.37 of it, as a log-probability."""
    return -0.37 * int(title.rsplit(" ", 1)[1]) if "Kite" in title else 0.0


@pytest.mark.parametrize("strategy", ["listwise", "listwise-generated", "pointwise"])
def test_scores_are_in_the_order_of_the_list_wherever_the_target_stood(
    kites: Path, strategy: str
) -> None:
    benchmark = benchmark_of(kites, f"{strategy}/plain-list", places=[1, 3, 6])
    (cell,) = benchmark.cells
    for one in benchmark.data.users[:4]:
        proper = scores_by_title(benchmark, Task(cell, one))
        order = sorted(one.candidates, key=lambda item_id: -float(proper[item_id] or 0.0))
        assert order == sorted(one.candidates, key=lambda item_id: int(item_id[1:]))
        for place in (1, 3, 6):
            assert scores_by_title(benchmark, Task(cell, one, place)) == pytest.approx(proper)


def test_a_planted_target_is_shown_at_its_place(kites: Path) -> None:
    benchmark = benchmark_of(kites, "listwise/plain-list")
    (cell,) = benchmark.cells

    def first_is_best(_title: str, place: int, _prompt: Prompt) -> float:
        return -float(place)

    for place in (1, 4):
        one = benchmark.data.users[0]
        task = Task(cell, one, place)
        result = ask_one(task, benchmark, family_model(first_is_best))
        assert result.place == place
        scores = dict(zip(one.candidates, result.scores, strict=True))
        assert sorted(scores, key=lambda i: -float(scores[i] or 0.0)) == list(planted(one, place))


def test_planted_positions_use_the_first_eligible_users(kites: Path) -> None:
    benchmark = benchmark_of(kites, "listwise/plain-list", protocol="end-to-end", n_candidates=3)
    lists = benchmark.data.users
    reached = [one.user_id for one in lists if one.reached]
    assert 2 < len(reached) < len(lists)
    tasks = list(place_tasks(benchmark.cells, lists, [1, 3, 5], 2))
    assert [(task.one.user_id, task.place) for task in tasks] == [
        (user_id, place) for user_id in reached[:2] for place in (1, 3)
    ]


def test_ways_that_see_one_candidate_at_a_time_are_asked_no_places(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "pointwise/plain-list", "setwise/details")
    tasks = list(place_tasks(benchmark.cells, benchmark.data.users, [1, 3], 2))
    assert {task.cell.strategy for task in tasks} == {"setwise"}
    assert len(tasks) == 4


def test_planted_lists_are_shuffled_per_position(kites: Path) -> None:
    one = benchmark_of(kites, "listwise/plain-list").data.users[0]
    orders = [planted(one, place) for place in (1, 2, 3, 4, 5, 6)]
    assert [order.index(one.targets[0]) + 1 for order in orders] == [1, 2, 3, 4, 5, 6]
    assert all(sorted(order) == sorted(one.candidates) for order in orders)
    rests = {tuple(i for i in order if i != one.targets[0]) for order in orders}
    assert len(rests) > 3
    assert orders == [planted(one, place) for place in (1, 2, 3, 4, 5, 6)]


def test_unscored_candidates_are_stored_as_null(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    unknown = {one.candidates[2] for one in benchmark.data.users}

    def label(title: str, place: int, prompt: Prompt) -> float | None:
        return None if f"i{title[5:]}" in unknown else family(title, place, prompt)

    folder, model = tmp_path, family_model(label)
    model.failure = "request_refused"
    run(benchmark, folder, Loading(model))
    for one, result in zip(benchmark.data.users, results_in(folder), strict=True):
        nulls = [i for i, s in zip(one.candidates, result.scores, strict=True) if s is None]
        assert set(nulls) == set(one.candidates) & unknown
        assert result.fallbacks["request_refused"] == len(nulls)


def test_an_answer_that_a_server_failed_in_part_is_not_kept_and_asked_again(
    kites: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    lost = benchmark.data.users[3].candidates[2]
    hit = {one.user_id for one in benchmark.data.users if lost in one.candidates}

    def label(title: str, place: int, prompt: Prompt) -> float | None:
        return None if f"i{title[5:]}" == lost else family(title, place, prompt)

    folder = tmp_path
    assert run(benchmark, folder, Loading(family_model(label))) == 12 - len(hit)
    assert not hit & {result.user_id for result in results_in(folder)}
    assert f"{len(hit)} results were not stored" in caplog.text
    assert run(benchmark, folder, Loading()) == len(hit)
    assert len(results_in(folder)) == 12


def test_the_peak_of_memory_is_this_process_where_the_weights_are_in_it(
    kites: Path, tmp_path: Path
) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles")
    there, elsewhere = family_model(), family_model()
    there.placement = "cpu"  # type: ignore[attr-defined]
    measured = ask_one(Task(benchmark.cells[0], benchmark.data.users[0]), benchmark, there)
    assert measured.peak_mib == peak_mib()
    assert RESULT.validate_python(measured.to_row()) == measured
    served = ask_one(Task(benchmark.cells[0], benchmark.data.users[0]), benchmark, elsewhere)
    assert served.peak_mib is None


def test_usage_matches_the_model(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list", "listwise-generated/plain-list")
    folder, model = tmp_path, family_model()
    run(benchmark, folder, Loading(model))
    results = results_in(folder)
    assert sum(r.tokens_given for r in results) == model.spent.tokens_given
    assert sum(r.tokens_generated for r in results) == model.spent.tokens_generated
    assert sum(r.forwards for r in results) == model.spent.forwards
    assert np.isclose(sum(r.seconds for r in results), model.spent.seconds)


def test_users_share_calls_of_the_model_and_a_cell_asks_each_prior_once(
    kites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", users=12)
    calls: list[list[str]] = []
    model = family_model()
    answer = model.continuation_log_probs

    def counting(requests: Sequence[ContinuationRequest]) -> LogProbs:
        calls.append([request.prompt.text or "" for request in requests])
        return answer(requests)

    monkeypatch.setattr(model, "continuation_log_probs", counting)
    run(benchmark, tmp_path, Loading(model))
    windows = 2 + 1  # of the blocks of ten and two users
    assert windows <= len(calls) <= 2 * windows  # titles, and priors where some are new
    priors = [text for call in calls for text in call if "Kite" not in text]
    assert len(priors) <= ITEMS + WINDOW * 6  # users of one call may ask the same


def test_results_are_those_of_one_user_at_a_time(kites: Path, tmp_path: Path) -> None:
    names = ("likelihood/titles", "pointwise/plain-list", "setwise/plain-list")
    benchmark = benchmark_of(kites, *names)
    run(benchmark, tmp_path, Loading())
    found = {(one.cell, one.user_id): one.scores for one in results_in(tmp_path)}
    assert len(found) == 3 * 12
    for task in tasks_of(benchmark.cells, benchmark.data.users):
        alone = ask_one(task, benchmark, family_model())
        assert found[alone.cell, alone.user_id] == alone.scores
