from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec.errors import StorageError
from llmrec.resumable import ResumableLog, encode_row, fingerprint, read_rows

ROWS: list[dict[str, Any]] = [
    {"key": "a", "score": 0.25},
    {"key": "b", "title": "é", "score": None},
]


def write(path: Path, fingerprints: str | list[str] = "", checksums: bool = False) -> bytes:
    with ResumableLog(path, fingerprints=fingerprints, checksums=checksums) as log:
        for row in ROWS:
            log.append(row)
    return path.read_bytes()


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    write(path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS
    with ResumableLog(path) as log:
        assert log.rows == ROWS
        log.append({"key": "c"}, {"key": "d"})
        assert [row["key"] for row in log.rows] == ["a", "b", "c", "d"]
    assert read_rows(path) == [*ROWS, {"key": "c"}, {"key": "d"}]
    assert read_rows(tmp_path / "absent.jsonl") == []


def test_opening_writes_nothing(tmp_path: Path) -> None:
    ResumableLog(tmp_path / "log.jsonl").close()
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize("checksums", [False, True])
def test_wherever_the_last_line_is_cut_it_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, checksums: bool
) -> None:
    path = tmp_path / "log.jsonl"
    whole = write(path, checksums=checksums)
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        caplog.clear()
        path.write_bytes(whole[:length])
        kept = 0 if length < first else 1
        assert read_rows(path, checksums=checksums) == ROWS[:kept]
        with ResumableLog(path, checksums=checksums) as log:
            assert log.rows == ROWS[:kept]
            assert ("half-written" in caplog.text) == (length not in {0, first})
            log.append(*ROWS[kept:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"a poem", b"[]", b"null", b"\xff", b"", b'{"key": "a"'])
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    content = encode_row(ROWS[0]) + line + b"\n" + encode_row(ROWS[1])
    path.write_bytes(content)
    for opened in (read_rows, ResumableLog):
        with pytest.raises(StorageError, match=r"Line 2 of .* is damaged"):
            opened(path)
    assert path.read_bytes() == content
    path.unlink()
    write(path)  # the lock was released


def test_a_checksum_notices_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    whole = write(path, checksums=True)
    assert all(len(json.loads(line)["checksum"]) == 16 for line in whole.splitlines())
    path.write_bytes(whole.replace(b"0.25", b"0.26"))
    with pytest.raises(StorageError, match=r"Line 1 of .* edited"):
        read_rows(path, checksums=True)


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with ResumableLog(tmp_path / "log.jsonl") as log, pytest.raises(ValueError, match="not JSON"):
        log.append({"score": float("nan")})
    assert not (tmp_path / "log.jsonl").exists()


def test_rows_of_other_settings_are_refused(tmp_path: Path) -> None:
    path, settings = tmp_path / "log.jsonl", fingerprint("model", "index")
    content = write(path, fingerprints=settings)
    assert all(row["fingerprint"] == settings for row in read_rows(path))
    with pytest.raises(StorageError, match=r"Line 1 .* model, index or setting"):
        ResumableLog(path, fingerprints=fingerprint("model", "other"))
    assert path.read_bytes() == content
    with ResumableLog(path, fingerprints=settings) as log:
        assert len(log.rows) == 2


@pytest.mark.parametrize("other", [["x", "z", "y"], ["x"]], ids=["changed", "fewer"])
def test_each_row_may_have_a_fingerprint_of_its_own(tmp_path: Path, other: list[str]) -> None:
    path = tmp_path / "log.jsonl"
    write(path, fingerprints=["x", "y", "z"])
    with pytest.raises(StorageError, match=r"Line 2 .* another request"):
        ResumableLog(path, fingerprints=other)
    with ResumableLog(path, fingerprints=["x", "y", "z"]) as log:
        log.append({"key": "c"})
    assert [row["fingerprint"] for row in read_rows(path)] == ["x", "y", "z"]


def test_a_fingerprint_changes_with_every_part() -> None:
    assert len({fingerprint("a", "b"), fingerprint("ab"), fingerprint("a", b"c")}) == 3
    assert fingerprint("a", b"b") == fingerprint("a", "b")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with (
        ResumableLog(path),
        pytest.raises(StorageError, match=r"is being written by .*process"),
    ):
        ResumableLog(path)
    write(path)


def test_write_errors_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        ResumableLog(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        ResumableLog(tmp_path / "file" / "log.jsonl")
    with pytest.raises(StorageError, match="cannot be read"):
        read_rows(tmp_path)


def test_a_full_disk_keeps_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"

    def full(descriptor: int) -> None:
        os.truncate(descriptor, len(encode_row(ROWS[0])) + 20)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ResumableLog(path) as log:
        log.append(ROWS[0])
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            log.append(ROWS[1])
    monkeypatch.undo()
    assert caught.value.hint.startswith("Free disk space or fix permissions")
    with ResumableLog(path) as log:
        assert log.rows == ROWS[:1]
        log.append(ROWS[1])
    assert read_rows(path) == ROWS


def fill(path: Path, rows: int) -> None:
    with ResumableLog(path, checksums=True) as log:
        for at in range(len(log.rows), rows):
            time.sleep(0.005)
            log.append({"at": at, "text": "x" * 200})


@pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server")
def test_killed_log_loses_and_repeats_no_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path = tmp_path / "log.jsonl"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["llmrec.resumable"])
    moments = np.random.default_rng(0)
    kills = 0
    for _ in range(100):
        before = len(path.read_bytes()) if path.exists() else 0
        process = processes.Process(target=fill, args=(path, 60))
        process.start()
        # Kill it only after progress, or a slow machine would never finish.
        while process.is_alive() and not (path.exists() and len(path.read_bytes()) > before):
            time.sleep(0.002)
        process.join(float(moments.uniform(0, 0.1)))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    assert kills >= 3
    assert [row["at"] for row in read_rows(path, checksums=True)] == list(range(60))
