from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.benchmarking.results import Failure, Result, Results, RunFolder
from llmrec.benchmarking.users import UserList, stored_scores
from llmrec.errors import StorageError
from llmrec.resumable import encode_row, read_rows

ABOUT: dict[str, object] = {
    "fingerprint": "f",
    "insights": "",
    "part": "test",
    "protocol": "discrimination",
    "candidates": 3,
    "seed": 0,
    "benchmark": {},
    "cells": [],
}
USERS = tuple(
    UserList(f"u{n}", ("a",), ("a", "b", "c"), (0.1, None, -2.5), (1.0, 2.0, 3.0), 4, 1)
    for n in range(3)
)
RESULTS = tuple(Result("cell", f"u{n}", (0.1 + n, None, 2.0), seconds=0.5) for n in range(3))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with three results."""
    folder = RunFolder(tmp_path / "deep" / "run")
    add(folder, *RESULTS)
    return folder


def begin(folder: RunFolder, about: dict[str, object], users: tuple[UserList, ...]) -> None:
    with folder.open(about, users):
        pass


def add(folder: RunFolder, *results: Result) -> None:
    with folder.open(ABOUT, USERS) as kept:
        for result in results:
            kept.add(result)


def results_file(folder: RunFolder) -> Path:
    return folder.path / "results.jsonl"


def test_results_round_trip(folder: RunFolder) -> None:
    failed = Result("cell", "u", place=2, fault=Failure("PromptError", 'a "quoted" line'))
    add(folder, failed)
    assert folder.users() == USERS
    assert tuple(folder.results()) == (*RESULTS, failed)
    about = dict(folder.about())
    assert about.pop("format") == 1
    assert about == ABOUT


def test_later_result_replaces_earlier_per_cell_and_user() -> None:
    results = Results([*RESULTS, replace(RESULTS[1], scores=(1.0,)), replace(RESULTS[0], place=3)])
    assert ("cell", "u1", None) in results
    assert ("cell", "u1", 3) not in results
    assert ("other", "u1", None) not in results
    found = results.of("cell", [*USERS, replace(USERS[0], user_id="u9")])
    assert found.scores == [RESULTS[0].scores, (1.0,), RESULTS[2].scores, None]
    assert list(found.planted) == [3]
    assert results.of("other", USERS).main == (None,) * 3


def test_lists_of_one_target_a_user_are_read_too(folder: RunFolder) -> None:
    rows = read_rows(folder.path / "lists.jsonl", checksums=True)
    old = [
        {**{k: v for k, v in row.items() if k != "targets"}, "target": "a", "reached": True}
        for row in rows
    ]
    content = b"".join(encode_row(row, checksum=True) for row in old)
    (folder.path / "lists.jsonl").write_bytes(content)
    assert folder.users() == USERS


def test_an_empty_folder_is_no_run_yet(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "absent")
    assert folder.about() == {}
    assert folder.users() == ()
    assert not list(folder.results())
    assert not folder.path.exists()


def test_other_libraries_read_the_lines(folder: RunFolder) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_json(results_file(folder), lines=True)
    assert list(table["user_id"]) == ["u0", "u1", "u2"]
    assert list(pandas.read_json(folder.path / "lists.jsonl", lines=True)["targets"]) == [["a"]] * 3


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("fingerprint", "g", "of another data set"),
        ("insights", "h", "whose prompts show other captions"),
        ("protocol", "end-to-end", "with protocol 'discrimination', not 'end-to-end'"),
        ("candidates", 4, "with candidates 3, not 4"),
        ("seed", 1, "with seed 0, not 1"),
    ],
)
def test_another_benchmark_is_refused(
    folder: RunFolder, name: str, value: object, told: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(StorageError, match=f"holds a run {told}") as caught:
        begin(folder, {**ABOUT, name: value}, USERS)
    assert "--out" in caught.value.hint
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_an_index_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match="holds an index, not a run"):
        begin(RunFolder(tmp_path), ABOUT, USERS)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_other_candidates_are_refused(folder: RunFolder) -> None:
    swapped = replace(USERS[1], candidates=("b", "a", "c"))
    with pytest.raises(StorageError, match="other candidates for user 'u1'"):
        begin(folder, ABOUT, (USERS[0], swapped, USERS[2]))
    weighed = replace(USERS[1], retrieval=(0.2, None, -2.5))
    with pytest.raises(StorageError, match="the retriever's weights have changed"):
        begin(folder, ABOUT, (USERS[0], weighed, USERS[2]))


def test_rounding_of_another_machine_is_not_another_list(folder: RunFolder) -> None:
    rounded = replace(USERS[1], retrieval=(0.1 + 1e-8, None, -2.5))
    begin(folder, ABOUT, (USERS[0], rounded, USERS[2]))
    assert folder.users() == USERS  # as it was begun


def test_more_users_and_other_cells_may_come_later(folder: RunFolder) -> None:
    more = (*USERS, replace(USERS[0], user_id="u9"))
    begin(folder, {**ABOUT, "cells": [{"key": "k"}], "command": "another"}, more)
    assert folder.users() == more
    assert folder.about()["cells"] == [{"key": "k"}]
    assert tuple(folder.results()) == RESULTS


def test_a_half_written_last_line_is_dropped(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    lines = results_file(folder).read_bytes().splitlines(keepends=True)
    results_file(folder).write_bytes(lines[0] + lines[1] + lines[2][:40])
    assert tuple(folder.results()) == RESULTS[:2]
    assert "half-written" in caplog.text
    add(folder, RESULTS[2])
    assert tuple(folder.results()) == RESULTS


@pytest.mark.parametrize(
    ("change", "where"),
    [({"prompts": "many"}, "prompts"), ({"more": 1}, "more"), ({"fault": {"type": "X"}}, "fault")],
)
def test_a_line_of_another_kind_is_named(
    folder: RunFolder, change: dict[str, object], where: str
) -> None:
    line = encode_row({**RESULTS[0].to_row(), **change}, checksum=True)
    results_file(folder).write_bytes(results_file(folder).read_bytes() + line)
    with pytest.raises(StorageError, match=f"Line 4 of .*results.jsonl is damaged: {where}"):
        folder.results()


def test_a_damaged_list_is_named(folder: RunFolder) -> None:
    path = folder.path / "lists.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"u1"', b'"u8"'))
    with pytest.raises(StorageError, match=r"Line 2 of .*lists.jsonl is damaged"):
        folder.users()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not of a benchmark run"),
        ("[]", "not of a benchmark run"),
        ("{}", "not of a benchmark run"),
        ('{"format": 2}', "has format 2; this version reads format 1"),
        (
            '{"format": 1}',
            "lacks fingerprint, insights, protocol, part, candidates, seed, benchmark",
        ),
    ],
)
def test_invalid_or_newer_run_json_is_refused(folder: RunFolder, text: str, part: str) -> None:
    (folder.path / "run.json").write_text(text)
    with pytest.raises(StorageError, match=part) as caught:
        begin(folder, ABOUT, USERS)
    assert "--out" not in caught.value.hint  # a comparison has none


def test_results_without_a_description_are_left_alone(folder: RunFolder) -> None:
    (folder.path / "run.json").unlink()
    with pytest.raises(StorageError, match="has results but no run"):
        begin(folder, ABOUT, USERS)


def test_a_run_that_was_killed_while_it_began_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever files of a new run are there, the same command begins it again."""

    class Killed(BaseException):
        pass

    real = Path.replace
    for survived in (0, 1):
        left = [survived]

        def replace_or_die(self: Path, target: Path, left: list[int] = left) -> Path:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(self, target)

        folder = RunFolder(tmp_path / f"run{survived}")
        folder.path.mkdir()
        monkeypatch.setattr(Path, "replace", replace_or_die)
        with pytest.raises(Killed):
            begin(folder, ABOUT, USERS)
        monkeypatch.undo()
        begin(folder, ABOUT, USERS)
        assert folder.users() == USERS


def test_one_process_at_a_time(folder: RunFolder) -> None:
    with (
        folder.open(ABOUT, USERS),
        pytest.raises(StorageError, match=r"is being written by .*process"),
    ):
        begin(folder, ABOUT, USERS)
    begin(folder, ABOUT, USERS)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        begin(RunFolder(tmp_path / "file" / "run"), ABOUT, USERS)


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_it_and_results_stay(folder: RunFolder) -> None:
    size = results_file(folder).stat().st_size
    more = [replace(RESULTS[0], user_id=f"v{n}") for n in range(3)]
    line = len(encode_row(more[0].to_row(), checksum=True))
    with folder.open(ABOUT, USERS) as results:
        with (
            pytest.raises(StorageError, match="cannot be written") as caught,
            disk_full_at(size + line + line // 2),
        ):
            list(map(results.add, more))
        assert results_file(folder).stat().st_size == size + line + line // 2
    assert "run the same command to resume" in caught.value.hint
    assert tuple(folder.results()) == (*RESULTS, more[0])
    add(folder, *more[1:])  # there is room again
    assert tuple(folder.results()) == (*RESULTS, *more)


def test_a_full_disk_while_the_lists_are_written(folder: RunFolder) -> None:
    with pytest.raises(StorageError, match="cannot be written"), disk_full_at(100):
        begin(folder, ABOUT, USERS * 1)
    assert folder.users() == USERS
    assert folder.about()["fingerprint"] == "f"


def test_bytes_that_are_no_text_are_written_as_their_escape(folder: RunFolder) -> None:
    folder.write("leaderboard.md", "llmrec bench --out r\udcff")
    text = (folder.path / "leaderboard.md").read_text(encoding="utf-8")
    assert text == "llmrec bench --out r\\udcff"


@pytest.mark.parametrize("name", ["lists.jsonl", "results.jsonl"])
def test_folder_in_place_of_a_file_is_an_error(folder: RunFolder, name: str) -> None:
    (folder.path / name).unlink()
    (folder.path / name).mkdir()
    with pytest.raises(StorageError, match=f"{name} cannot be read: Is a directory") as caught:
        (folder.users, folder.results)[name == "results.jsonl"]()
    assert "move the folder" in caught.value.hint


@pytest.mark.parametrize("name", ["benchmark", "cells"])
def test_incomplete_run_json_is_refused(folder: RunFolder, name: str) -> None:
    path = folder.path / "run.json"
    kept = json.loads(path.read_text())
    del kept[name], kept["checksum"]
    path.write_text(json.dumps(kept))
    with pytest.raises(StorageError, match=f"lacks {name}"):
        folder.about()


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(StorageError, match="is not a folder"):
        RunFolder(path).refuse_another(ABOUT, USERS)


def test_non_finite_scores_are_stored_as_unscored() -> None:
    assert stored_scores(np.array([1, np.nan, -np.inf, np.inf])) == (1.0, None, None, None)
