from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.benchmarking.compare import compare_runs
from llmrec.benchmarking.results import RunFolder
from llmrec.benchmarking.run import Asking
from llmrec.benchmarking.tasks import tasks_of
from llmrec.errors import OptionError, StorageError
from llmrec.records import Caption, CaptionSource, Insight
from llmrec.resumable import ResumableLog
from llmrec.retrieval import Index
from tests.benchmarking.faked import (
    BUSY,
    FAILS,
    GOOD,
    USERS,
    WRONG,
    Loading,
    benchmark_of,
    template,
    world,
)


def made(index: Path, run: Path, *templates: str, **settings: object) -> RunFolder:
    """A run of what is asked, not summed up."""
    benchmark, folder = benchmark_of(index, *templates, **settings), RunFolder(run)
    with folder.open(benchmark.about("llmrec bench"), benchmark.data.users) as results:
        tasks = tasks_of(benchmark.cells, benchmark.data.users)
        Asking(benchmark.data, results, Loading()).run(tasks)
    return folder


def test_a_template_that_became_worse_is_seen(kites: Path, tmp_path: Path) -> None:
    name = template(tmp_path, "mine", GOOD)
    before = made(kites, tmp_path / "a", name, "likelihood/titles", users=20)
    template(tmp_path, "mine", WRONG)
    after = made(kites, tmp_path / "b", name, "likelihood/titles", users=20)
    worse, same = compare_runs(before, after).rows
    assert (worse.name, same.name) == (name, "likelihood/titles")
    assert worse.users == same.users == 20
    assert worse.difference == pytest.approx(worse.after - worse.before)
    assert worse.low <= worse.difference <= worse.high < -0.2
    assert worse.p_corrected < 0.01
    assert (same.difference, same.p_corrected) == (0, 1)
    back = compare_runs(after, before).rows[0]
    assert back.difference == pytest.approx(-worse.difference)


def test_changed_template_text_is_reported(kites: Path, tmp_path: Path) -> None:
    own = template(tmp_path, "own", GOOD)
    before = made(kites, tmp_path / "a", own, users=20)
    template(tmp_path, "own", WRONG)
    (row,) = compare_runs(before, made(kites, tmp_path / "b", own, users=20)).rows
    (changed,) = row.changed
    assert re.fullmatch(r"template text [0-9a-f]{12} -> [0-9a-f]{12}", changed)
    (row,) = compare_runs(before, before).rows
    assert row.changed == ()


def test_only_users_that_both_have_count(kites: Path, tmp_path: Path) -> None:
    name = template(tmp_path, "mine", FAILS)
    before = made(kites, tmp_path / "a", name, "likelihood/titles", users=USERS)
    after = made(kites, tmp_path / "b", name, "likelihood/titles", users=USERS - 5)
    changes = compare_runs(before, after).rows
    assert [change.users for change in changes] == [USERS - 6, USERS - 5]  # one failed
    users = [one.user_id for one in after.users()]
    assert BUSY in users
    assert [change.difference for change in changes] == [0, 0]


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"n_candidates": 7}, "candidates"), ({"seed": 1}, "seed"), ({}, "fingerprint")],
)
def test_runs_of_other_data_or_lists_are_refused(
    kites: Path, tmp_path: Path, settings: dict[str, object], name: str
) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=3)
    index = kites if settings else world(tmp_path / "other", fingerprint="others")
    after = made(index, tmp_path / "b", "likelihood/titles", users=3, **settings)
    with pytest.raises(OptionError, match=f"has {name} .*: they cannot be compared"):
        compare_runs(before, after)


def test_protocols_never_meet(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=3)
    after = made(kites, tmp_path / "b", "likelihood/titles", users=3, protocol="end-to-end")
    with pytest.raises(OptionError, match="has protocol 'discrimination'"):
        compare_runs(before, after)


def test_runs_without_common_rows_list_their_rows(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=3)
    after = made(kites, tmp_path / "b", "likelihood/list", users=3)
    with pytest.raises(OptionError, match="share no row") as caught:
        compare_runs(before, after)
    assert "likelihood/titles" in caught.value.hint
    assert "likelihood/list" in caught.value.hint


def test_one_user_in_common_is_too_few(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=3)
    after = made(kites, tmp_path / "b", "likelihood/titles", users=1)
    with pytest.raises(OptionError, match="share no row with two users that both answered"):
        compare_runs(before, after)


def test_a_folder_that_is_no_run(kites: Path, tmp_path: Path) -> None:
    run = made(kites, tmp_path / "a", "likelihood/titles", users=3)
    with pytest.raises(StorageError, match="holds no run"):
        compare_runs(run, RunFolder(tmp_path / "absent"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(StorageError, match="lacks "):
        compare_runs(run, RunFolder(tmp_path / "b"))


def test_a_run_with_fewer_users_than_it_had_is_compared(kites: Path, tmp_path: Path) -> None:
    made(kites, tmp_path / "a", "likelihood/titles", users=8)
    before = made(kites, tmp_path / "a", "likelihood/titles", users=4)  # asked again with fewer
    after = made(kites, tmp_path / "b", "likelihood/titles", users=8)
    assert compare_runs(before, after).rows[0].users == 4


def test_rows_that_one_run_lacks_are_named(kites: Path, tmp_path: Path) -> None:
    both = ("likelihood/titles", "likelihood/list")
    before = made(kites, tmp_path / "a", *both, users=4)
    after = made(kites, tmp_path / "b", both[0], "pointwise/plain-list", users=4)
    found = compare_runs(before, after)
    assert [row.name for row in found.rows] == ["likelihood/titles"]
    assert (found.gone, found.new) == (("likelihood/list",), ("pointwise/plain-list",))


def test_a_row_that_fails_for_more_users_is_worse_though_it_lost_nothing(
    kites: Path, tmp_path: Path
) -> None:
    name = template(tmp_path, "mine", GOOD)
    before = made(kites, tmp_path / "a", name, users=USERS)
    template(tmp_path, "mine", f"{FAILS.split('- ')[0]}{GOOD}")
    after = made(kites, tmp_path / "b", name, users=USERS)
    found = compare_runs(before, after)
    assert [row.now_failing for row in found.rows] == [1]
    assert found.worse(1.0) == {name: "fails for 1 users that the first run answered"}
    assert compare_runs(after, before).worse(1.0) == {}  # it may fail less
    assert compare_runs(after, after).worse(1.0) == {}  # nor is what failed before new


def test_a_row_without_users_in_common_does_not_hide_the_others(
    kites: Path, tmp_path: Path
) -> None:
    name = template(tmp_path, "mine", GOOD)
    before = made(kites, tmp_path / "a", name, "likelihood/titles", users=6)
    template(tmp_path, "mine", f"{{{{ history[99].title }}}}{GOOD}")
    after = made(kites, tmp_path / "b", name, "likelihood/titles", users=6)
    found = compare_runs(before, after)
    assert [row.name for row in found.rows] == ["likelihood/titles"]
    assert found.unpaired == {name: 6}
    assert found.worse(1.0) == {name: "fails for 6 users that the first run answered"}
    back = compare_runs(after, before)
    assert back.unpaired == {name: 0}
    assert back.worse(1.0) == {}  # who never answered is no worse


@pytest.mark.parametrize(("race", "lost"), [(False, 2), (True, 0)])
def test_unanswered_users_count_as_lost_except_in_a_race(
    kites: Path, tmp_path: Path, race: bool, lost: int
) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=6, race=race)
    after = made(kites, tmp_path / "b", "likelihood/titles", users=6, race=race)
    results = after.path / "results.jsonl"
    results.write_text("".join(results.read_text().splitlines(keepends=True)[:4]))
    assert [row.now_failing for row in compare_runs(before, after).rows] == [lost]


def test_users_without_scores_count_as_lost(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=6)
    after = made(kites, tmp_path / "b", "likelihood/titles", users=6)
    refused = replace(next(iter(after.results())), scores=(None,) * 6)
    with ResumableLog(after.path / "results.jsonl", checksums=True) as log:
        log.append(refused.to_row())
    (row,) = compare_runs(before, after).rows
    assert (row.users, row.now_failing) == (6, 1)


def test_rows_match_across_runs_with_other_variations(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=6)
    after = made(kites, tmp_path / "b", "likelihood/titles", users=6, models=["kites", "boats"])
    found = compare_runs(before, after)
    (row,) = found.rows
    assert (row.name, row.users, row.changed) == ("likelihood/titles", 6, ())
    assert found.new == ("likelihood/titles, boats",)
    assert found.gone == ()


def test_other_captions_are_reported(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=6)
    index = Index.open(kites)
    seen = {"i1": Insight(picture=Caption("a red kite", CaptionSource.MODEL))}
    replace(index, insights=seen).save(tmp_path / "captioned")
    after = made(tmp_path / "captioned", tmp_path / "b", "likelihood/titles", users=6)
    assert compare_runs(before, before).changed == ()
    assert compare_runs(before, after).changed == ("captions, opinions or facts of the items",)


def test_rows_of_one_name_and_other_settings_say_so(kites: Path, tmp_path: Path) -> None:
    before = made(kites, tmp_path / "a", "likelihood/titles", users=6, history_items=[20])
    after = made(kites, tmp_path / "b", "likelihood/titles", users=6, history_items=[1])
    (row,) = compare_runs(before, after).rows
    assert row.changed == ("history items 20 -> 1",)
