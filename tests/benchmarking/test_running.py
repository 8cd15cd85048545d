from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.benchmarking.benchmark import Benchmark
from llmrec.benchmarking.ranking import planted
from llmrec.benchmarking.records import Result
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.benchmarking.running import BLOCK, Task, ask, place_tasks, run_tasks, tasks_of
from llmrec.errors import (
    HardwareError,
    LlmrecError,
    OutOfMemoryError,
    ServerError,
    StorageError,
)
from llmrec.models.hardware import peak_mib
from llmrec.records import Prompt
from tests.benchmarking.faked import (
    BLIND,
    BUSY,
    FAILS,
    GOOD,
    USERS,
    Loading,
    benchmark_of,
    family,
    family_model,
    template,
)


def run(benchmark: Benchmark, folder: RunFolder, load: Loading) -> int:
    tasks = list(tasks_of(benchmark.cells, benchmark.asked.lists))
    return run_tasks(folder, tasks, benchmark.asked.known, load)


def begun(benchmark: Benchmark, path: Path) -> RunFolder:
    folder = RunFolder(path)
    with folder.locked():
        folder.begin(benchmark.about("llmrec bench"), benchmark.asked.lists)
    return folder


def test_blocks_of_users_go_through_every_cell(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "likelihood/list", users=BLOCK + 2)
    tasks = list(tasks_of(benchmark.cells, benchmark.asked.lists))
    assert len({task.name for task in tasks}) == len(tasks) == 2 * (BLOCK + 2)
    first, second = (cell.key for cell in benchmark.cells)
    expected = [first] * BLOCK + [second] * BLOCK + [first] * 2 + [second] * 2
    assert [task.cell.key for task in tasks] == expected


def test_every_task_is_answered_once_and_a_second_run_loads_no_model(
    kites: Path, tmp_path: Path
) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "pointwise/plain-list")
    folder, load = begun(benchmark, tmp_path), Loading()
    assert run(benchmark, folder, load) == 24
    assert load.loads == {("kites", "none"): 1}
    results = folder.results()
    assert len({(r.cell, r.user_id) for r in results}) == len(results) == 24
    assert all(r.fault is None and len(r.scores) == 6 and r.prompts for r in results)
    again = Loading()
    assert run(benchmark, folder, again) == 0
    assert not again.loads
    assert folder.results() == results


def test_a_template_that_fails_for_one_user_is_that_users_fault(
    kites: Path, tmp_path: Path
) -> None:
    name = template(tmp_path, "fails", FAILS)
    benchmark = benchmark_of(kites, name, "likelihood/titles", users=USERS)
    folder = begun(benchmark, tmp_path / "run")
    assert run(benchmark, folder, Loading()) == 2 * USERS
    (failed,) = [result for result in folder.results() if result.fault]
    assert failed.user_id == BUSY
    assert failed.scores == ()
    assert failed.fault is not None
    assert failed.fault.type == "PromptError"
    assert "line 2" in failed.fault.message
    assert run(benchmark, folder, Loading()) == 0  # the same again would be the same fault


@pytest.mark.parametrize("error", [OutOfMemoryError, HardwareError, ServerError, StorageError])
def test_what_another_run_may_not_meet_stops_it_and_what_was_answered_stays(
    kites: Path, tmp_path: Path, error: type[LlmrecError]
) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    folder = begun(benchmark, tmp_path)
    asked = 0

    def label(title: str, place: int, prompt: Prompt) -> float:
        nonlocal asked
        asked += 1
        if asked > 6 * 4 + 2:  # amid the fifth user
            raise error("not now")
        return family(title, place, prompt)

    with pytest.raises(error, match="not now"):
        run(benchmark, folder, Loading(family_model(label)))
    assert [r.user_id for r in folder.results()] == [o.user_id for o in benchmark.asked.lists[:4]]
    assert run(benchmark, folder, Loading()) == 8
    assert not any(result.fault for result in folder.results())


def test_a_template_that_goes_while_the_benchmark_runs_is_no_users_fault(
    kites: Path, tmp_path: Path
) -> None:
    name = template(tmp_path, "mine", GOOD)
    benchmark = benchmark_of(kites, name)
    folder = begun(benchmark, tmp_path / "run")
    template(tmp_path, "mine", BLIND)
    with pytest.raises(StorageError, match="has been changed"):
        run(benchmark, folder, Loading())
    Path(name).unlink()
    with pytest.raises(LlmrecError, match="no template file"):
        run(benchmark, folder, Loading())
    assert folder.results() == ()


def test_changing_a_template_asks_its_cell_alone(kites: Path, tmp_path: Path) -> None:
    name = template(tmp_path, "mine", GOOD)
    benchmark = benchmark_of(kites, name, "likelihood/titles")
    folder = begun(benchmark, tmp_path / "run")
    assert run(benchmark, folder, Loading()) == 24
    template(tmp_path, "mine", f"Kites:\n{GOOD}")
    changed = benchmark_of(kites, name, "likelihood/titles")
    folder = begun(changed, tmp_path / "run")
    assert run(changed, folder, Loading()) == 12
    assert {r.cell for r in folder.results()[24:]} == {changed.cells[0].key}
    template(tmp_path, "mine", GOOD)  # and back again: nothing is asked
    assert run(benchmark_of(kites, name, "likelihood/titles"), folder, Loading()) == 0


def test_each_model_is_loaded_once_for_its_cells(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(
        kites, "likelihood/titles", models=["a", "b"], quantizations=["none", "int8"], users=3
    )
    load = Loading()
    # One block: `run_benchmark` sorts larger runs by model.
    assert run(benchmark, begun(benchmark, tmp_path), load) == 12
    assert load.loads == {(m, q): 1 for m in "ab" for q in ("none", "int8")}


def scores_by_title(benchmark: Benchmark, task: Task) -> dict[str, float | None]:
    result = ask(task, benchmark.asked.known, family_model(by_title))
    return dict(zip(task.asked.candidates, result.scores, strict=True))


def by_title(title: str, place: int, _: Prompt) -> float:
    """A title's number, whatever else there is: 0.37 of it, as a log-probability."""
    return -0.37 * int(title.rsplit(" ", 1)[1]) if "Kite" in title else 0.0


@pytest.mark.parametrize("strategy", ["listwise", "listwise-generated", "pointwise"])
def test_scores_are_in_the_order_of_the_list_wherever_the_target_stood(
    kites: Path, strategy: str
) -> None:
    benchmark = benchmark_of(kites, f"{strategy}/plain-list", places=[1, 3, 6])
    (cell,) = benchmark.cells
    for one in benchmark.asked.lists[:4]:
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
        one = benchmark.asked.lists[0]
        task = Task(cell, one, place)
        result = ask(task, benchmark.asked.known, family_model(first_is_best))
        assert result.place == place
        scores = dict(zip(one.candidates, result.scores, strict=True))
        assert sorted(scores, key=lambda i: -float(scores[i] or 0.0)) == list(planted(one, place))


def test_places_are_asked_of_the_first_users_whose_list_has_target_and_place(kites: Path) -> None:
    benchmark = benchmark_of(kites, "listwise/plain-list", protocol="end-to-end", candidates=3)
    lists = benchmark.asked.lists
    reached = [one.user_id for one in lists if one.reached]
    assert 2 < len(reached) < len(lists)
    tasks = list(place_tasks(benchmark.cells, lists, [1, 3, 5], 2))
    assert [(task.asked.user_id, task.place) for task in tasks] == [
        (user_id, place) for user_id in reached[:2] for place in (1, 3)
    ]


def test_ways_that_see_one_candidate_at_a_time_are_asked_no_places(kites: Path) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles", "pointwise/plain-list", "setwise/details")
    tasks = list(place_tasks(benchmark.cells, benchmark.asked.lists, [1, 3], 2))
    assert {task.cell.strategy for task in tasks} == {"setwise"}
    assert len(tasks) == 4


def test_the_others_stand_in_another_order_at_each_place(kites: Path) -> None:
    one = benchmark_of(kites, "listwise/plain-list").asked.lists[0]
    orders = [planted(one, place) for place in (1, 2, 3, 4, 5, 6)]
    assert [order.index(one.target) + 1 for order in orders] == [1, 2, 3, 4, 5, 6]
    assert all(sorted(order) == sorted(one.candidates) for order in orders)
    rests = {tuple(i for i in order if i != one.target) for order in orders}
    assert len(rests) > 3
    assert orders == [planted(one, place) for place in (1, 2, 3, 4, 5, 6)]


def test_what_was_not_judged_is_stored_as_null(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    unknown = {one.candidates[2] for one in benchmark.asked.lists}

    def label(title: str, place: int, prompt: Prompt) -> float | None:
        return None if f"i{title[5:]}" in unknown else family(title, place, prompt)

    folder, model = begun(benchmark, tmp_path), family_model(label)
    model.failure = "request_refused"
    run(benchmark, folder, Loading(model))
    for one, result in zip(benchmark.asked.lists, folder.results(), strict=True):
        nulls = [i for i, s in zip(one.candidates, result.scores, strict=True) if s is None]
        assert set(nulls) == set(one.candidates) & unknown
        assert result.fallbacks["request_refused"] == len(nulls)


def test_an_answer_that_a_server_failed_in_part_is_not_kept_and_asked_again(
    kites: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list")
    lost = benchmark.asked.lists[3].candidates[2]
    hit = {one.user_id for one in benchmark.asked.lists if lost in one.candidates}

    def label(title: str, place: int, prompt: Prompt) -> float | None:
        return None if f"i{title[5:]}" == lost else family(title, place, prompt)

    folder = begun(benchmark, tmp_path)
    assert run(benchmark, folder, Loading(family_model(label))) == 12 - len(hit)
    assert not hit & {result.user_id for result in folder.results()}
    assert f"{len(hit)} answers lack requests that a server failed" in caplog.text
    assert run(benchmark, folder, Loading()) == len(hit)
    assert len(folder.results()) == 12


def test_the_peak_of_memory_is_this_process_where_the_weights_are_in_it(
    kites: Path, tmp_path: Path
) -> None:
    benchmark = benchmark_of(kites, "likelihood/titles")
    there, elsewhere = family_model(), family_model()
    there.placement = "cpu"  # type: ignore[attr-defined]
    measured = ask(Task(benchmark.cells[0], benchmark.asked.lists[0]), benchmark.index, there)
    assert measured.peak_mib == peak_mib()
    assert Result.from_json(measured.to_json()) == measured
    served = ask(Task(benchmark.cells[0], benchmark.asked.lists[0]), benchmark.index, elsewhere)
    assert served.peak_mib is None


def test_no_task_needs_no_model(kites: Path, tmp_path: Path) -> None:
    tasks: Sequence[Task] = ()
    load = Loading()
    benchmark = benchmark_of(kites, "likelihood/titles")
    assert run_tasks(RunFolder(tmp_path), tasks, benchmark.asked.known, load) == 0
    assert not load.loads
    assert not list(tmp_path.iterdir())


def test_usage_is_what_the_model_spent(kites: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of(kites, "pointwise/plain-list", "listwise-generated/plain-list")
    folder, model = begun(benchmark, tmp_path), family_model()
    run(benchmark, folder, Loading(model))
    results = folder.results()
    assert sum(r.tokens_given for r in results) == model.spent.tokens_given
    assert sum(r.tokens_generated for r in results) == model.spent.tokens_generated
    assert sum(r.forwards for r in results) == model.spent.forwards
    assert np.isclose(sum(r.seconds for r in results), model.spent.seconds)
