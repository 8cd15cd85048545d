"""Run a benchmark undisturbed, and once more in processes that are killed with SIGKILL.

python -m tests.benchmarking.killed_run FOLDER KILLS SEED

The processes are forked from this one, which has imported everything and started no thread: a kill
falls into the run and not into the imports. FOLDER/whole and FOLDER/killed are the runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from llmrec.benchmarking import run as running
from llmrec.benchmarking.report import leaderboard_markdown
from llmrec.benchmarking.results import RunFolder
from llmrec.benchmarking.summary import summarise
from llmrec.records import Prompt
from tests.benchmarking.faked import (
    GOOD,
    WRONG,
    Loading,
    benchmark_of,
    family,
    family_model,
    template,
    world,
)


def slow(title: str, place: int, prompt: Prompt) -> float:
    """The model, which takes its time."""
    time.sleep(0.002)
    return family(title, place, prompt)


def main(folder: Path, kills: int, seed: int) -> None:
    """Print how many processes were killed, and how many ended before they could be."""
    running.summarise = partial(summarise, resamples=200)  # type: ignore[attr-defined]
    running.WINDOW = 1  # many short calls: a kill falls into the run, not before its first result
    index = world(folder / "index")
    names = [template(folder, name, text) for name, text in (("good", GOOD), ("wrong", WRONG))]
    names += ["listwise/plain-list", "pointwise/plain-list"]
    users = 40 if kills > 5 else 20
    benchmark = benchmark_of(index, *names, users=users, race=True, places=[1, 6], place_users=3)

    def start(name: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        run = RunFolder(folder / name)
        load = Loading(family_model(slow))
        summary, _ = running.run_benchmark(benchmark, run, load, command="llmrec bench x")
        rows = tuple(replace(row, cost={}) for row in summary.rows)  # priors are asked again
        (run.path / "leaderboard.md").write_text(leaderboard_markdown(replace(summary, rows=rows)))
        os._exit(0)

    def answered(name: str) -> int:
        results = folder / name / "results.jsonl"
        return results.read_bytes().count(b"\n") if results.exists() else 0

    began, pid = time.perf_counter(), start("whole")
    while not answered("whole") and time.perf_counter() - began < 60:
        time.sleep(0.001)
    first = time.perf_counter() - began
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    usual = time.perf_counter() - began
    rng = np.random.default_rng(seed)
    killed, finished, lines = 0, 0, []
    for _ in range(4 * kills):
        pid = start("killed")
        time.sleep(rng.uniform(0.0, first + 1.6 * (usual - first) / kills))
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in {0, -signal.SIGKILL}, code
        killed, finished = killed + (code != 0), finished + (code == 0)
        lines.append(answered("killed"))
        if killed == kills:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(start("killed"), 0)[1]) == 0
    print(json.dumps({"killed": killed, "finished": finished, "lines": lines}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
