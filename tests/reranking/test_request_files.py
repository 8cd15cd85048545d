from __future__ import annotations

import csv
import errno
import gzip
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from llmrec.errors import (
    DataError,
    HardwareError,
    LlmrecError,
    OptionError,
    OutOfMemoryError,
    ServerError,
    StorageError,
    UnknownItemError,
)
from llmrec.records import Interaction, RankedItem, Ranking, Status, Usage, User
from llmrec.reranking import Request
from llmrec.reranking.request_files import FileOutcome, rank_file, read_requests


def _rerank(request: Request) -> Ranking:
    """Rank by id, last one first; an item called ``unknown`` is not known."""
    ids = [candidate.item_id for candidate in request.candidates]
    if "unknown" in ids:
        raise UnknownItemError("There is no item 'unknown'.", hint="Check the id.")
    items = tuple(
        RankedItem(item_id, rank, ids.index(item_id) + 1, 1 / rank, Status.SCORED)
        for rank, item_id in enumerate(sorted(ids, reverse=True), start=1)
    )
    usage = Usage(10, 5, 0, 1, 0.5)
    return Ranking(request.user.user_id, items, usage, {"cold_start": 1}, {"x": 1.0})


def rerank_file(
    requests: Path, out: Path, rerank: Callable[[Request], Ranking], settings: str = ""
) -> FileOutcome:
    def rank(several: Sequence[Request]) -> list[Ranking]:
        return [rerank(request) for request in several]

    return rank_file(requests, out, rank, settings=settings)


def _slowly(request: Request) -> Ranking:
    time.sleep(0.02)
    return _rerank(request)


def _run_slowly(requests: Path, out: Path) -> None:
    rerank_file(requests, out, _slowly)


def _requests(folder: Path, n: int) -> Path:
    path = folder / "requests.jsonl"
    lines = [
        json.dumps({"user_id": f"u{i}", "candidates": [f"a{i}", "b", "c"], "request_id": f"r{i}"})
        for i in range(n)
    ]
    lines[1] = json.dumps({"user_id": "u1", "candidates": ["unknown"]})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _results(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_every_request_gets_one_line_in_order(tmp_path: Path) -> None:
    outcome = rerank_file(_requests(tmp_path, 4), tmp_path / "new" / "out.jsonl", _rerank)

    assert outcome == FileOutcome(4, 0, 1, 0, Usage(30, 15, 0, 3, 1.5))
    first, second, *_ = results = _results(tmp_path / "new" / "out.jsonl")
    assert len(results) == 4
    assert first["user_id"] == "u0"
    assert first["request_id"] == "r0"
    assert first["items"] == [
        {
            "item_id": item_id,
            "title": "",
            "rank": rank,
            "retrieval_rank": before,
            "score": 1 / rank,
            "status": "scored",
            "signals": {},
        }
        for rank, (item_id, before) in enumerate([("c", 3), ("b", 2), ("a0", 1)], start=1)
    ]
    assert first["fallbacks"] == {"cold_start": 1}
    assert first["weights"] == {"x": 1.0}
    assert second["error"] == {
        "type": "UnknownItemError",
        "message": "There is no item 'unknown'.",
        "hint": "Check the id.",
    }
    assert "items" not in second


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("not json", "not valid JSON"),
        ('{"user_id": "u"}', "has no candidates"),
        ('{"user_id": "u", "candidates": "a,b"}', "candidates"),
        ('{"user_id": "u", "candidates": ["a"], "histroy": []}', "histroy"),
        ('{"user_id": {}, "candidates": ["a"]}', "user"),
        ('{"user_id": "u", "candidates": ["a", "a"]}', "more than once: a"),
        ('{"user_id": "u", "candidates": []}', "no candidates"),
        ("[]", "mapping"),
    ],
)
def test_a_line_that_is_no_request_is_an_error_of_that_line_alone(
    tmp_path: Path, line: str, part: str
) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text(f'{line}\n{{"user_id": "u", "candidates": ["a"]}}\n', encoding="utf-8")
    outcome = rerank_file(requests, tmp_path / "out.jsonl", _rerank)
    broken, whole = _results(tmp_path / "out.jsonl")
    assert (outcome.reranked, outcome.failed) == (2, 1)
    assert isinstance(broken["error"], dict)
    assert broken["error"]["type"] in {"DataError", "OptionError"}
    assert part in broken["error"]["message"]
    assert "items" in whole


def test_bytes_that_are_no_text_are_an_error_of_that_line_alone(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(b'{"user_id": "\xff", "candidates": ["a"]}\n')
    assert rerank_file(requests, tmp_path / "out.jsonl", _rerank).failed == 1


def test_whole_numbers_are_ids_too_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('\n{"user_id": 7, "candidates": [1, 2], "history": [3]}\n\n')
    asked: list[Request] = []

    def remember(request: Request) -> Ranking:
        asked.append(request)
        return _rerank(request)

    assert rerank_file(requests, tmp_path / "out.jsonl", remember).reranked == 1
    (request,) = asked
    assert request.user == User("7", (Interaction("7", "3"),))
    assert [candidate.item_id for candidate in request.candidates] == ["1", "2"]


@pytest.mark.parametrize("candidate", ["a", "unknown", ""], ids=["ranked", "failed", "no request"])
def test_results_have_the_ids_of_their_requests(tmp_path: Path, candidate: str) -> None:
    requests = tmp_path / "requests.jsonl"
    ids = ({"user_id": 7.0}, {"user_id": " u1 ", "request_id": 3}, {"user_id": [1]})
    lines = [json.dumps({**each, "candidates": [candidate] if candidate else []}) for each in ids]
    requests.write_text("\n".join(lines), encoding="utf-8")
    rerank_file(requests, tmp_path / "out.jsonl", _rerank)
    names = [
        {k: v for k, v in row.items() if "_id" in k} for row in _results(tmp_path / "out.jsonl")
    ]
    assert names == [{"user_id": "7"}, {"user_id": "u1", "request_id": "3"}, {}]


def test_a_finished_file_is_left_as_it_is(tmp_path: Path) -> None:
    requests, out = _requests(tmp_path, 3), tmp_path / "out.jsonl"
    rerank_file(requests, out, _rerank)
    content = out.read_bytes()

    def refuse(request: Request) -> Ranking:
        raise AssertionError(f"{request} was asked again")

    assert rerank_file(requests, out, refuse) == FileOutcome(0, 3, 1)
    assert out.read_bytes() == content


@pytest.mark.parametrize("kind", ["request_failed", "request_refused"])
def test_incomplete_results_stay_counted_after_resume(tmp_path: Path, kind: str) -> None:
    requests, out = _requests(tmp_path, 3), tmp_path / "out.jsonl"

    def partly(request: Request) -> Ranking:
        return replace(_rerank(request), fallbacks={kind: 2, "unscored": 2})

    assert rerank_file(requests, out, partly).incomplete == 2
    assert rerank_file(requests, out, _rerank).incomplete == 2


def test_requests_may_be_added(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    rerank_file(_requests(tmp_path, 3), out, _rerank)
    before = out.read_bytes()
    assert rerank_file(_requests(tmp_path, 5), out, _rerank).reranked == 2
    assert out.read_bytes().startswith(before)


def test_wherever_the_last_line_was_cut_the_next_run_completes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests, out = _requests(tmp_path, 3), tmp_path / "out.jsonl"
    rerank_file(requests, out, _rerank)
    whole = out.read_bytes()
    ends = {i + 1 for i, byte in enumerate(whole) if byte == ord("\n")} | {0}
    for length in range(0, len(whole), 3):
        caplog.clear()
        out.write_bytes(whole[:length])
        outcome = rerank_file(requests, out, _rerank)
        assert out.read_bytes() == whole
        assert outcome.reranked + outcome.resumed == 3
        assert outcome.failed == 1
        assert ("half-written" in caplog.text) == (length not in ends)


def test_killed_run_loses_and_repeats_no_result(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("needs a fork server")
    requests, out = _requests(tmp_path, 40), tmp_path / "out.jsonl"
    rerank_file(requests, tmp_path / "undisturbed.jsonl", _rerank)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["llmrec.reranking.request_files"])
    moments = np.random.default_rng(0)
    kills = 0
    for _ in range(100):
        before = len(out.read_bytes()) if out.exists() else 0
        process = processes.Process(target=_run_slowly, args=(requests, out))
        process.start()
        # Kill it only once it has got on, or a slow machine would never come to an end.
        while process.is_alive() and not (out.exists() and len(out.read_bytes()) > before):
            time.sleep(0.005)
        process.join(float(moments.uniform(0, 0.15)))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    assert kills >= 3
    assert out.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()


def test_ctrl_c_leaves_whole_windows(tmp_path: Path) -> None:
    requests, out = _requests(tmp_path, 12), tmp_path / "out.jsonl"

    def interrupted(request: Request) -> Ranking:
        if request.user.user_id == "u9":
            raise KeyboardInterrupt
        return _rerank(request)

    with pytest.raises(KeyboardInterrupt):
        rerank_file(requests, out, interrupted)
    assert len(_results(out)) == 8
    assert rerank_file(requests, out, _rerank).reranked == 4


@pytest.mark.parametrize("passing", [OutOfMemoryError, HardwareError, ServerError, StorageError])
def test_passing_errors_stop_the_run_and_are_retried(
    tmp_path: Path, passing: type[LlmrecError]
) -> None:
    requests, out = _requests(tmp_path, 4), tmp_path / "out.jsonl"

    def failing(request: Request) -> Ranking:
        if request.user.user_id == "u2":
            raise passing("Not now.")
        return _rerank(request)

    with pytest.raises(passing, match="Not now"):
        rerank_file(requests, out, failing)
    assert len(_results(out)) == 2
    assert rerank_file(requests, out, _rerank) == FileOutcome(2, 2, 1, 0, Usage(20, 10, 0, 2, 1.0))


def test_results_of_other_requests_are_refused_and_kept(tmp_path: Path) -> None:
    requests, out = _requests(tmp_path, 3), tmp_path / "out.jsonl"
    rerank_file(requests, out, _rerank)
    content = out.read_bytes()
    lines = requests.read_text().splitlines()
    for other in ([lines[0], lines[2], lines[1]], lines[:2]):
        requests.write_text("\n".join(other))
        with pytest.raises(StorageError, match=r"Line [23] of .*another request"):
            rerank_file(requests, out, _rerank)
        assert out.read_bytes() == content


def test_results_of_other_settings_are_refused(tmp_path: Path) -> None:
    requests, out = _requests(tmp_path, 3), tmp_path / "out.jsonl"
    rerank_file(requests, out, _rerank, settings="likelihood")
    with pytest.raises(StorageError, match="model, index or setting"):
        rerank_file(requests, out, _rerank, settings="pointwise")


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"a poem\n", b"\xff\n", b"null\n"])
def test_another_kind_of_file_is_refused_and_kept(tmp_path: Path, line: bytes) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(line)
    with pytest.raises(StorageError, match="Line 1 of"):
        rerank_file(_requests(tmp_path, 2), out, _rerank)
    assert out.read_bytes() == line


def test_a_file_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    requests, out = _requests(tmp_path, 2), tmp_path / "out.jsonl"
    with (
        FileLock(f"{out}.lock"),
        pytest.raises(StorageError, match=r"is being written by .*process"),
    ):
        rerank_file(requests, out, _rerank)
    assert not out.exists()
    assert rerank_file(requests, out, _rerank).reranked == 2


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match="cannot be read: No such file"):
        rerank_file(tmp_path / "absent.jsonl", out, _rerank)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    with pytest.raises(DataError, match="holds no request"):
        rerank_file(empty, out, _rerank)
    requests = _requests(tmp_path, 2)
    with pytest.raises(OptionError, match="is the requests file"):
        rerank_file(requests, requests, _rerank)
    with pytest.raises(StorageError, match="cannot be written"):
        rerank_file(requests, tmp_path, _rerank)
    with pytest.raises(StorageError, match="cannot be written"):
        rerank_file(requests, requests / "out.jsonl", _rerank)
    assert not out.exists()


def test_full_disk_keeps_finished_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, out = _requests(tmp_path, 4), tmp_path / "out.jsonl"
    rerank_file(requests, tmp_path / "undisturbed.jsonl", _rerank)
    written = 0

    def full(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            rerank_file(requests, out, _rerank)
    rerank_file(requests, out, _rerank)
    assert out.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()


def test_dropped_line_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    requests, out = _requests(tmp_path, 2), tmp_path / "out.jsonl"
    out.write_bytes(b'{"position": 1, "fing')
    with caplog.at_level(logging.WARNING, "llmrec"):
        rerank_file(requests, out, _rerank)
    assert "The last line of" in caplog.text


_LINES = '{"user_id": "7", "candidates": ["Amélie", "Heat"]}\n'
_ROWS = "user_id,item_id\n7,Amélie\n7,Heat\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", b"\xef\xbb\xbf" + _LINES.encode()),
        ("R.JSONL", _LINES.encode("utf-16")),
        ("r.json", f"[{_LINES}]".encode()),
        ("r.json", _LINES.encode()),
        ("r.ndjson", _LINES.encode()),
        ("r.jsonl.gz", gzip.compress(_LINES.encode(), mtime=0)),
        ("r.csv.gz", gzip.compress(_ROWS.encode(), mtime=0)),
        ("R.CSV", _ROWS.replace(",", ";").encode("utf-16")),
        ("r.tsv", b"\xef\xbb\xbf" + _ROWS.replace(",", "\t").encode()),
    ],
)
def test_requests_in_every_kind_of_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (request,) = read_requests(path)
    assert request.user.user_id == "7"
    assert [candidate.item_id for candidate in request.candidates] == ["Amélie", "Heat"]


def test_rows_of_one_request_that_differ_are_refused_by_row(tmp_path: Path) -> None:
    path, out = tmp_path / "requests.csv", tmp_path / "out.csv"
    path.write_text("user_id,title,history\n1,Heat,Alien\n1,Dune,Ronin\n")
    with pytest.raises(DataError, match=r"Rows 1 and 2 .* differ in history") as caught:
        rerank_file(path, out, _rerank)
    assert "request_id" in caught.value.hint
    assert not out.exists()
    path.write_text("user_id,title,history\n1,Heat,Alien\n1,Dune,\n1,Babe,Alien\n2,Heat,Ronin\n")
    assert rerank_file(path, out, _rerank).failed == 0


def test_a_history_that_is_a_list_is_written_to_csv_so_that_it_can_be_read(tmp_path: Path) -> None:
    history = ["Alien", 'Say "Hi"', "a|b"]
    rows = [{"user_id": "1", "title": title, "history": history} for title in ("Heat", "Dune")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "requests.parquet")
    rerank_file(tmp_path / "requests.parquet", tmp_path / "out.csv", _rerank)
    with (tmp_path / "out.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [json.loads(row["history"]) for row in written] == [history, history]
    again = tmp_path / "again.csv"
    lines = ["user_id,title,history"]
    lines += ['1,{},"{}"'.format(r["title"], r["history"].replace('"', '""')) for r in written]
    again.write_text("\n".join(lines))
    seen: list[Request] = []

    def watched(request: Request) -> Ranking:
        seen.append(request)
        return _rerank(request)

    rerank_file(again, tmp_path / "again_out.csv", watched)
    assert [row.item_id for row in seen[0].user.history] == history
