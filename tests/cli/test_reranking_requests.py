"""``llmrec rerank --requests``: many lists from a file, resumed after a kill."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cli.calls import COLD, Document, Run, Start


def _requests(folder: Path, n: int) -> Path:
    path = folder / "requests.jsonl"
    lines = [{"user_id": f"u{1 + i % 20:02}", "candidates": ["o29", "k01"]} for i in range(n)]
    lines.append({"user_id": "new", "candidates": ["o29", "k01"], "history": ["o01"]})
    lines.append({"user_id": COLD, "candidates": ["o29", "k01"]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_rerank_requests_counts_failures(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    requests, out = _requests(tmp_path, 1), tmp_path / "out.jsonl"
    files = ("--requests", requests, "--out", out)
    words = ("rerank", sample_index, *files, "--model", smollm2_folder)
    ended = run(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    assert document(ended)["outcome"]["reranked"] == 3
    *_, cold = map(json.loads, out.read_text().splitlines())
    assert cold["fallbacks"] == {"cold_start": 1}
    same = run(*words, "--json", *(() if torch.cuda.is_available() else ("--device", "cpu")))
    assert document(same)["outcome"]["resumed"] == 3
    with requests.open("a") as file:
        file.write('{"user_id": "u01", "candidates": ["o299"]}\n')
        file.write('{"user_id": "u01", "candidates": []}\n')
        file.write('{"user_id": "nobody", "candidates": ["o29"]}\n')
    ended = run(*words, columns=80)
    assert ended.returncode == 1
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert "6: 3 in this run, 3 before" in ended.stdout
    errors = [json.loads(line)["error"]["type"] for line in out.read_text().splitlines()[3:]]
    assert errors == ["UnknownItemError", "OptionError", "UnknownUserError"]
    other = run(*words, "--strategy", "pointwise")
    assert other.returncode == 1
    assert "model, index or setting" in " ".join(other.stderr.split())


@pytest.fixture(scope="module")
def undisturbed(
    run: Run, sample_index: Path, smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    files = ("--requests", _requests(folder, 8), "--out", folder / "out.jsonl")
    assert run("rerank", sample_index, *files, "--model", smollm2_folder).returncode == 0
    return folder / "out.jsonl"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_rerank_requests_goes_on_where_it_was_stopped(
    run: Run,
    start: Start,
    sample_index: Path,
    smollm2_folder: Path,
    undisturbed: Path,
    tmp_path: Path,
    sent: signal.Signals,
    status: int,
) -> None:
    requests, out = _requests(tmp_path, 8), tmp_path / "out.jsonl"
    files = ("--requests", requests, "--out", out)
    words = ("rerank", sample_index, *files, "--model", smollm2_folder)
    process = start(*words)
    while process.poll() is None and not (out.exists() and b"\n" in out.read_bytes()):
        time.sleep(0.01)
    process.send_signal(sent)
    printed, said = process.communicate()
    assert process.returncode == status
    assert printed == ""
    if sent == signal.SIGINT:
        assert said == "Interrupted.\n"
    assert 1 <= out.read_bytes().count(b"\n") < 10

    assert run(*words).returncode == 0
    resumed, whole = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (out, undisturbed)
    )
    assert len(resumed) == 10
    for one, other in zip(resumed, whole, strict=True):
        assert one["fingerprint"] == other["fingerprint"]
        # What is shared between requests is computed anew, so the last digits may differ.
        for row, same in zip(one["items"], other["items"], strict=True):
            assert row["item_id"] == same["item_id"]
            assert row["signals"] == pytest.approx(same["signals"], abs=1e-3)
