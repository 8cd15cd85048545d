"""Killed with SIGKILL again and again, a benchmark comes to what an undisturbed one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmrec.resumable import read_rows

ROOT = Path(__file__).parents[2]


def records(run: Path) -> list[dict[str, Any]]:
    """The scores in an order of their own: a resumed run asks priors again, which costs tokens."""
    names = ("cell", "user_id", "place", "scores", "fault", "fallbacks")
    rows = read_rows(run / "results.jsonl", checksums=True)
    lines = [{name: row[name] for name in names} for row in rows]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True))


@pytest.mark.parametrize(
    ("kills", "seed"), [(5, 1), pytest.param(20, 2, marks=pytest.mark.slow)], ids=["5", "20"]
)
def test_killed_run_loses_and_repeats_no_result(tmp_path: Path, kills: int, seed: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarking.killed_run", tmp_path, str(kills), str(seed)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["killed"] == kills
    lines = said["lines"]
    assert lines == sorted(lines)  # what was answered stays
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    found = records(killed)
    assert len(set(lines) - {len(found)}) >= kills // 3  # kills fell into the run, not behind it
    assert len({(r["cell"], r["user_id"], r["place"]) for r in found}) == len(found)
    assert found == records(whole)
    assert (killed / "leaderboard.md").read_text() == (whole / "leaderboard.md").read_text()
    assert (killed / "lists.jsonl").read_bytes() == (whole / "lists.jsonl").read_bytes()
    assert (killed / "run.json").read_bytes() == (whole / "run.json").read_bytes()
