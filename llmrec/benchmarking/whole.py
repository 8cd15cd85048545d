"""From a plan to a folder: its answers, the leaderboard and the report."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from llmrec.benchmarking.answers import by_cell, results_of
from llmrec.benchmarking.benchmark import Benchmark, run_benchmark
from llmrec.benchmarking.disagreeing import disagreements
from llmrec.benchmarking.estimating import shown_in_words
from llmrec.benchmarking.leaderboard import leaderboard_markdown
from llmrec.benchmarking.models import BenchmarkModels
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.benchmarking.records import Result
from llmrec.benchmarking.report import render_report
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.benchmarking.summary import Summary, summary_json

logger = logging.getLogger(__name__)


def bench(
    plan: BenchmarkPlan,
    out: str | Path,
    *,
    models: BenchmarkModels | None = None,
    command: str = "",
    progress: bool = False,
) -> Summary:
    """Run a benchmark, or go on with one, and write what it found into its folder.

    ``summary.json`` has every figure, ``leaderboard.md`` and ``report.html`` are to be read.

    Args:
        plan: What is compared on whom.
        out: A folder for its results; a run that was killed goes on, a finished one is read.
        models: Where models run and how they are reached; None takes the fastest place there is.
        command: How to run it again, for the report, which holds the plan as a file in any case.
        progress: Show bars on stderr, where that is a terminal, and what so many users can show.

    Raises:
        StorageError: The index cannot be opened, the folder is another benchmark's or cannot be
            written.
        OptionError: The plan asks for more users than there are, or for what cannot be.
        PromptError: A template cannot be used.
        ModelError: A model cannot be had, or memory, hardware or a server failed.
    """
    models = models or BenchmarkModels(progress=progress)
    folder = RunFolder(Path(out))
    benchmark = Benchmark.of(plan, models.revision, progress=progress)
    if progress and not folder.about():  # afterwards the report says it of what was found
        said = shown_in_words(len(benchmark.asked.lists), len(benchmark.cells))
        tqdm.write(f"{said}.", file=sys.stderr)
    summary = run_benchmark(benchmark, folder, models.load, command=command, progress=progress)
    results = folder.results()
    _say_what_is_alike(benchmark, results)
    cases = disagreements(benchmark, summary, results, models.reader)
    folder.write("summary.json", summary_json(summary))
    folder.write("leaderboard.md", leaderboard_markdown(summary))
    folder.write("report.html", render_report(summary, cases))
    return summary


def _say_what_is_alike(benchmark: Benchmark, results: Sequence[Result]) -> None:
    """Rows with the same scores of prompts as long, throughout, ask the same under other names."""
    cells, lists = benchmark.described(), benchmark.asked.lists
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, answers in by_cell(cells, lists, results_of(cells, lists, results)).items():
        if answers.answered:
            told = tuple((one.user_id, one.scores, one.tokens_given) for one in answers.answered)
            groups.setdefault(told, []).append(benchmark.names[key])
    for names in groups.values():
        if len(names) > 1:
            logger.warning(
                "%s gave every candidate the same score to prompts as long: they seem to ask the "
                "same, and each more is corrected for.",
                " and ".join(names),
            )
