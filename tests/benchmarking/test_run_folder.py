from __future__ import annotations

import errno
import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.errors import StorageError

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
LISTS = tuple(
    UserList(f"u{n}", "a", ("a", "b", "c"), (0.1, None, -2.5), (1.0, 2.0, 3.0), 4, 1, True)
    for n in range(3)
)
RESULTS = tuple(Result("cell", f"u{n}", (0.1 + n, None, 2.0), seconds=0.5) for n in range(3))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that was begun and has three results."""
    folder = RunFolder(tmp_path / "deep" / "run")
    with folder.locked():
        folder.begin(ABOUT, LISTS)
        append(folder, *RESULTS)
    return folder


def append(folder: RunFolder, *results: Result) -> None:
    with folder.appending() as file:
        for result in results:
            folder.add(file, [result])


def results_file(folder: RunFolder) -> Path:
    return folder.path / "results.jsonl"


def test_what_was_written_is_read_again(folder: RunFolder) -> None:
    assert folder.lists() == LISTS
    assert folder.results() == RESULTS
    about = dict(folder.about())
    assert about.pop("format") == 1
    assert about == ABOUT


def test_an_empty_folder_is_no_run_yet(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "absent")
    assert folder.about() == {}
    assert folder.lists() == ()
    assert folder.results() == ()
    assert not folder.path.exists()


def test_other_libraries_read_the_lines(folder: RunFolder) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_json(results_file(folder), lines=True)
    assert list(table["user_id"]) == ["u0", "u1", "u2"]
    assert list(pandas.read_json(folder.path / "lists.jsonl", lines=True)["target"]) == ["a"] * 3


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("fingerprint", "g", "of another data set"),
        ("insights", "h", "whose prompts read other captions"),
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
        folder.begin({**ABOUT, name: value}, LISTS)
    assert "--out" in caught.value.hint
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_an_index_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with (
        pytest.raises(StorageError, match="holds an index, not a run"),
        RunFolder(tmp_path).locked(),
    ):
        pass
    with pytest.raises(StorageError, match="holds an index"):
        RunFolder(tmp_path).refuse_another(ABOUT, LISTS)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_other_candidates_are_refused(folder: RunFolder) -> None:
    swapped = replace(LISTS[1], candidates=("b", "a", "c"))
    with pytest.raises(StorageError, match="other candidates for user 'u1'"):
        folder.begin(ABOUT, (LISTS[0], swapped, LISTS[2]))
    weighed = replace(LISTS[1], retrieval=(0.2, None, -2.5))
    with pytest.raises(StorageError, match="the index or its weights have changed"):
        folder.begin(ABOUT, (LISTS[0], weighed, LISTS[2]))


def test_rounding_of_another_machine_is_not_another_list(folder: RunFolder) -> None:
    rounded = replace(LISTS[1], retrieval=(0.1 + 1e-8, None, -2.5))
    folder.begin(ABOUT, (LISTS[0], rounded, LISTS[2]))
    assert folder.lists() == LISTS  # as it was begun


def test_more_users_and_other_cells_may_come_later(folder: RunFolder) -> None:
    more = (*LISTS, replace(LISTS[0], user_id="u9"))
    folder.begin({**ABOUT, "cells": [{"key": "k"}], "command": "another"}, more)
    assert folder.lists() == more
    assert folder.about()["cells"] == [{"key": "k"}]
    assert folder.results() == RESULTS


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_half_written_last_line_is_dropped_and_said(
    folder: RunFolder, caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    lines = results_file(folder).read_bytes().splitlines(keepends=True)
    results_file(folder).write_bytes(lines[0] + lines[1] + lines[2][:kept])
    with caplog.at_level(logging.WARNING):
        assert folder.results() == RESULTS[:2]
    assert "half-written and is asked again" in caplog.text
    append(folder, RESULTS[2])
    caplog.clear()
    assert folder.results() == RESULTS
    assert not caplog.text


def test_a_half_written_first_line_leaves_nothing(folder: RunFolder) -> None:
    results_file(folder).write_bytes(b'{"cell": "ce')
    assert folder.results() == ()
    append(folder, RESULTS[0])
    assert folder.results() == RESULTS[:1]


@pytest.mark.parametrize("damage", ["edited", "cut", "empty", "no JSON", "no UTF-8"])
def test_a_damaged_line_in_the_middle_is_named(folder: RunFolder, damage: str) -> None:
    lines = results_file(folder).read_bytes().splitlines()
    lines[1] = {
        "edited": lines[1].replace(b"1.1", b"9.9"),
        "cut": lines[1][:30],
        "empty": b"",
        "no JSON": b"results",
        "no UTF-8": b"\xff" + lines[1],
    }[damage]
    results_file(folder).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(StorageError, match=r"results.jsonl, line 2: ") as caught:
        folder.results()
    assert "Take the line out" in caught.value.hint


def test_a_damaged_list_is_named(folder: RunFolder) -> None:
    path = folder.path / "lists.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"u1"', b'"u8"'))
    with pytest.raises(StorageError, match=r"lists.jsonl, line 2: "):
        folder.lists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not the description"),
        ("[]", "not the description"),
        ("{}", "not the description"),
        ('{"format": 2}', "has format 2; this llmrec reads 1"),
        (
            '{"format": 1}',
            "does not say its fingerprint, insights, protocol, part, candidates, seed, benchmark",
        ),
    ],
)
def test_a_description_that_is_none_or_of_a_later_format(
    folder: RunFolder, text: str, part: str
) -> None:
    (folder.path / "run.json").write_text(text)
    with pytest.raises(StorageError, match=part):
        folder.begin(ABOUT, LISTS)


def test_results_without_a_description_are_left_alone(folder: RunFolder) -> None:
    (folder.path / "run.json").unlink()
    with pytest.raises(StorageError, match="holds results but no run"):
        folder.begin(ABOUT, LISTS)


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
            folder.begin(ABOUT, LISTS)
        monkeypatch.undo()
        folder.begin(ABOUT, LISTS)
        assert folder.lists() == LISTS


def test_one_process_at_a_time(folder: RunFolder) -> None:
    with (
        folder.locked(),
        pytest.raises(StorageError, match="Another process is writing") as caught,
        folder.locked(),
    ):
        raise AssertionError("locked twice")
    assert "another folder" in caught.value.hint
    with folder.locked():
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot be written"),
        RunFolder(tmp_path / "file" / "run").locked(),
    ):
        pass


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_it_and_what_was_answered_stays(folder: RunFolder) -> None:
    size = results_file(folder).stat().st_size
    more = [replace(RESULTS[0], user_id=f"v{n}") for n in range(3)]
    line = len(more[0].to_json()) + 1
    with (
        pytest.raises(StorageError, match="cannot be written") as caught,
        disk_full_at(size + line + line // 2),
    ):
        append(folder, *more)
    assert "the same command goes on" in caught.value.hint
    assert results_file(folder).stat().st_size == size + line + line // 2  # a half-written line
    assert folder.results() == (*RESULTS, more[0])
    append(folder, *more[1:])  # there is room again
    assert folder.results() == (*RESULTS, *more)


def test_a_full_disk_while_the_lists_are_written(folder: RunFolder) -> None:
    with pytest.raises(StorageError, match="cannot be written"), disk_full_at(100):
        folder.begin(ABOUT, LISTS * 1)
    assert folder.lists() == LISTS
    assert folder.about()["fingerprint"] == "f"


def test_no_space_is_said_as_the_system_says_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("llmrec.benchmarking.run_folder.os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        append(folder, RESULTS[0])


def test_lines_are_plain_json_with_a_checksum(folder: RunFolder) -> None:
    for line in results_file(folder).read_text().splitlines():
        assert len(json.loads(line)["checksum"]) == 16


def test_bytes_that_are_no_text_are_written_as_their_escape(folder: RunFolder) -> None:
    folder.write("leaderboard.md", "llmrec bench --out r\udcff")
    text = (folder.path / "leaderboard.md").read_text(encoding="utf-8")
    assert text == "llmrec bench --out r\\udcff"


@pytest.mark.parametrize("name", ["lists.jsonl", "results.jsonl"])
def test_a_folder_where_a_file_should_be_is_told(folder: RunFolder, name: str) -> None:
    (folder.path / name).unlink()
    (folder.path / name).mkdir()
    with pytest.raises(StorageError, match=f"{name} cannot be read: Is a directory") as caught:
        (folder.lists, folder.results)[name == "results.jsonl"]()
    assert "name another folder" in caught.value.hint


@pytest.mark.parametrize("name", ["benchmark", "cells"])
def test_a_description_without_what_comparing_reads_is_refused(
    folder: RunFolder, name: str
) -> None:
    path = folder.path / "run.json"
    kept = json.loads(path.read_text())
    del kept[name]
    path.write_text(json.dumps(kept))
    with pytest.raises(StorageError, match=f"does not say its {name}"):
        folder.about()


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(StorageError, match="is no folder"):
        RunFolder(path).refuse_another(ABOUT, LISTS)
