"""A benchmark from its plan to its folder: sample users, ask every cell, race, sum up, report."""

from __future__ import annotations

import logging
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import groupby, product
from pathlib import Path
from types import NoneType

import yaml
from tqdm import tqdm

from llmrec.benchmarking.attacks import Trial, attack_rows, attacked, trials_of
from llmrec.benchmarking.benchmark_models import BenchmarkModels
from llmrec.benchmarking.cells import Cell, cells_of, named
from llmrec.benchmarking.disagreements import disagreements
from llmrec.benchmarking.plan import LABELLED, BenchmarkPlan
from llmrec.benchmarking.race import Drop, race
from llmrec.benchmarking.report import leaderboard_markdown, render_report
from llmrec.benchmarking.report.text import comparisons_of, shown_in_words
from llmrec.benchmarking.results import PRICE, Failure, Result, Results, RunFolder
from llmrec.benchmarking.rows import baseline_scores, ndcg_values
from llmrec.benchmarking.summary import PLAN, Summary, summarise, summary_json
from llmrec.benchmarking.tasks import (
    BLOCK,
    Task,
    attack_tasks,
    by_model,
    place_tasks,
    tasks_of,
)
from llmrec.benchmarking.users import (
    BenchmarkData,
    data_of,
    planted,
    request_lines,
    stored_scores,
)
from llmrec.errors import (
    HardwareError,
    LlmrecError,
    OptionError,
    OutOfMemoryError,
    ServerError,
    StorageError,
    check_kind,
    check_path,
)
from llmrec.models import LanguageModel
from llmrec.models.hardware import peak_mib, reset_peak_memory
from llmrec.models.openai import Prices
from llmrec.models.protocol import REQUEST_FAILED
from llmrec.models.references import parse_reference
from llmrec.prompting import Budget
from llmrec.records import Usage
from llmrec.reranking import Strategy, judge

logger = logging.getLogger(__name__)

_REQUESTS = "requests.jsonl"
WINDOW = 5
"""Users per model call; a killed run loses at most this many."""
_PASSING = (OutOfMemoryError, HardwareError, ServerError, StorageError)
"""Passing errors: they stop the run and are not saved as results."""

RevisionOf = Callable[[str, str], str]
"""Identifies the weights of a model in a quantization, without loading them."""
Load = Callable[[str, str], LanguageModel]
"""Loads a model by reference and quantization."""


@dataclass(frozen=True)
class Benchmark:
    """A plan with its data and cells, checked before a model is loaded.

    ``rates`` are the prices of server models, by reference; ``trials`` the attacks to measure.
    """

    plan: BenchmarkPlan
    data: BenchmarkData
    cells: tuple[Cell, ...]
    rates: Mapping[str, Prices]
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(
        cls,
        plan: BenchmarkPlan,
        revision_of: RevisionOf,
        *,
        progress: bool = False,
        requests: str | None = None,
    ) -> Benchmark:
        """Read the data, sample the users and make the cells; ``requests`` as for `data_of`.

        Raises:
            StorageError: The index cannot be opened.
            DataError: The requests cannot be read.
            OptionError: The plan asks for more users than there are, or for what is not allowed, or
                its price table lacks a server's model.
            PromptError: A template cannot be used.
            ModelError: A model cannot be found.
        """
        rates = _rates(plan)
        cells = cells_of(plan)  # fails before a model is downloaded
        data = data_of(plan, progress=progress, requests=requests)
        models: list[tuple[str, str]] = list(product(plan.models, plan.quantizations))
        trials = trials_of(plan.attacks, data.users, plan.seed) if plan.attacks else ()
        data = attacked(data, trials)
        made = named(cells, {of: revision_of(*of) for of in models})
        return cls(plan, data, made, rates, trials)

    @property
    def comparisons(self) -> int:
        """How many comparisons Holm corrects together."""
        labelled = self.plan.protocol == LABELLED
        baselines = baseline_scores(self.data.users, labelled=labelled)
        return comparisons_of(len(self.cells), len(baselines))

    def about(self, command: str) -> dict[str, object]:
        """The content of run.json."""
        labelled = self.plan.protocol == LABELLED
        return {
            "benchmark": self.plan.model_dump(mode="json", exclude_none=True),
            **self.data.about,
            "protocol": self.plan.protocol,
            "part": "" if labelled else self.plan.part,
            "candidates": "" if labelled else self.plan.n_candidates,
            "seed": self.plan.seed,
            "command": command,
            "versions": {
                name: version(name) for name in ("llmrec", "torch", "transformers", "numpy")
            },
            "machine": f"{platform.machine()}, {platform.system()}",
            "cells": [cell.to_row() for cell in self.cells],
        }


@dataclass
class Asking:
    """Runs the tasks without a result and saves each result as it comes.

    Each cell has one strategy, so that its priors and calibration are asked once. An error about
    one user becomes that user's fault; errors that another run may not have (memory, hardware, a
    full disk, a server that is down) stop the run. An answer with requests that a server failed is
    not kept: the next run asks it again.
    """

    data: BenchmarkData
    results: Results
    load: Load
    progress: bool = False
    _made: dict[str, tuple[Strategy, Budget]] = field(default_factory=dict)
    _loaded: dict[tuple[str, str], LanguageModel] = field(default_factory=dict)

    def run(self, tasks: Iterable[Task], window: int = WINDOW) -> int:
        """Answer tasks, ``window`` in a call of the model; returns how many results were kept.

        Raises:
            StorageError: The results cannot be written, or a template has changed.
            ModelError: A model cannot be loaded, or memory, hardware or a server failed.
        """
        left = [task for task in tasks if task.name not in self.results]
        kept = 0
        off = None if self.progress else True
        with tqdm(total=len(left), desc="Asking", unit="result", disable=off) as bar:
            for _, of_cell in groupby(left, key=lambda task: task.cell.key):
                some = list(of_cell)
                how = self._how_to_ask(some[0].cell)
                for start in range(0, len(some), window):
                    together = some[start : start + window]
                    found = ask(together, self.data, *how)
                    whole = [one for one in found if REQUEST_FAILED not in one.fallbacks]
                    self.results.add(*whole)
                    kept += len(whole)
                    bar.update(len(together))
        if kept < len(left):
            logger.warning(
                "%d results were not stored, because requests to a server failed: run the same "
                "command to retry.",
                len(left) - kept,
            )
        return kept

    def _how_to_ask(self, cell: Cell) -> tuple[LanguageModel, Strategy, Budget]:
        if cell.key not in self._made:
            self._made[cell.key] = cell.make()
        weights = (cell.model, cell.quantization)
        if weights not in self._loaded:  # the one before makes room
            self._loaded = {}
            self._loaded[weights] = self.load(*weights)
        return self._loaded[weights], *self._made[cell.key]


def ask(
    tasks: Sequence[Task],
    data: BenchmarkData,
    model: LanguageModel,
    strategy: Strategy,
    budget: Budget,
) -> list[Result]:
    """Ask several tasks of one cell in one call of the model.

    Scores come back in the order of the user's candidates, wherever those stood in the prompt.
    """
    shown = [
        task.one.candidates if task.place is None else planted(task.one, task.place)
        for task in tasks
    ]
    reset_peak_memory()
    try:
        questions = [
            data.question(task.one, ids, budget) for task, ids in zip(tasks, shown, strict=True)
        ]
        judged = judge(model, strategy, questions)
    except _PASSING:
        raise
    except LlmrecError as error:
        if len(tasks) > 1:  # find the one that fails
            return [one for task in tasks for one in ask([task], data, model, strategy, budget)]
        fault = Failure(type(error).__name__, str(error))
        cell, user_id, place = tasks[0].name
        return [Result(cell, user_id, place=place, fault=fault)]
    peak = peak_mib() if hasattr(model, "placement") else None  # a server's is not this process's
    results = []
    for task, ids, found in zip(tasks, shown, judged, strict=True):
        scores = dict(zip(ids, found.scores, strict=True))
        results.append(
            Result(
                cell=task.cell.key,
                user_id=task.one.user_id,
                scores=stored_scores([scores[item_id] for item_id in task.one.candidates]),
                place=task.place,
                fallbacks=dict(found.fallbacks),
                prompts=found.usage.prompts,
                tokens_given=found.usage.tokens_given,
                tokens_forwarded=found.usage.tokens_forwarded,
                tokens_generated=found.usage.tokens_generated,
                forwards=found.usage.forwards,
                seconds=round(found.usage.seconds, 4),
                peak_mib=peak,
            )
        )
    return results


def run_benchmark(
    benchmark: Benchmark,
    folder: RunFolder,
    load: Load,
    *,
    command: str = "",
    progress: bool = False,
    before: Callable[[Results], None] | None = None,
) -> tuple[Summary, Results]:
    """Ask what has no result yet, and sum everything up.

    Args:
        benchmark: What is compared on which users.
        folder: Where results are kept; a killed run is resumed, a finished one is read.
        load: Loads models; called again where several models take turns in a race.
        command: The command to run it again.
        progress: Show progress bars on stderr if it is a terminal.
        before: Called after the first result of each model, which times the rest; it may raise.

    Raises:
        StorageError: The folder is another benchmark's or cannot be written.
        ModelError: A model cannot be loaded, or memory, hardware or a server failed.
    """
    plan, users = benchmark.plan, benchmark.data.users
    about = benchmark.about(command)
    with folder.open(about, users) as results:
        asking = Asking(benchmark.data, results, load, progress)
        tasks = list(tasks_of(benchmark.cells, users))
        if before is not None:
            if any(task.name not in results for task in tasks):
                timed = {one.cell for one in results}
                models = by_model(benchmark.cells)
                untimed = [m[0] for m in models if not timed & {cell.key for cell in m}]
                asking.run(Task(cell, users[0]) for cell in untimed)
            before(results)
        if plan.race:
            dropped = _race(benchmark, asking)
        else:
            dropped = {}
            asking.run(tasks)
        racing = [cell for cell in benchmark.cells if cell.key not in dropped]
        placed = list(place_tasks(racing, users, plan.places, plan.place_users))
        asking.run(placed)
        if plan.attacks is not None:  # a list's variants share their prompts' beginning
            asking.run(attack_tasks(racing, benchmark.trials), 2 * plan.attacks.per_list)
    shown = {task.name for task in placed}  # an earlier plan may have asked for other positions
    summary = summarise(
        plan.protocol,
        benchmark.cells,
        users,
        Results(r for r in results if r.place is None or (r.cell, r.user_id, r.place) in shown),
        seed=plan.seed,
        about=_table_of(about),
        facts=benchmark.data.facts(),
        costs=_prices(benchmark, results),
        dropped={key: str(drop) for key, drop in dropped.items()},
    )
    moved = attack_rows(racing, benchmark.trials, results, seed=plan.seed)
    return replace(summary, attacks=moved), results


def bench(
    plan: BenchmarkPlan | None = None,
    out: str | Path | None = None,
    *,
    loader: BenchmarkModels | None = None,
    command: str = "",
    progress: bool = False,
    before: Callable[[Benchmark, Results], None] | None = None,
    **settings: object,
) -> Summary:
    """Compare prompts, strategies and models: run a benchmark, or resume one.

        summary = bench(requests=[{"history": ["Alien"], "candidates": ["Heat", "Aliens"],
                                   "relevant": "Aliens"}, ...], templates=["likelihood/*"])

    Args:
        plan: What is compared on which users; or give ``settings``.
        out: A folder for results, ``summary.json``, ``leaderboard.md`` and ``report.html``; a
            killed run is resumed, a finished one is read. None keeps nothing.
        loader: Where models run and how servers are reached; None takes the fastest device.
        command: The command to run it again, for the report.
        progress: Show progress bars on stderr if it is a terminal.
        before: Called with the benchmark and its results before the bulk is asked; it may raise.
        settings: Keys of `BenchmarkPlan`. ``requests`` may be a list of mappings as well.

    Raises:
        StorageError: The index cannot be opened, the folder is another benchmark's or cannot be
            written.
        DataError: The requests cannot be read.
        OptionError: A setting is not allowed, no model takes an option of the loader, or there are
            fewer users than asked for.
        PromptError: A template cannot be used.
        ModelError: A model cannot be found, or memory, hardware or a server failed.
    """
    hint = "Give BenchmarkPlan.from_file(FILE), or the settings alone: bench(index=..., ...)."
    check_kind("plan", plan, (BenchmarkPlan, NoneType), "a BenchmarkPlan", hint)
    hint = "Give BenchmarkModels(...)."
    check_kind("loader", loader, (BenchmarkModels, NoneType), "BenchmarkModels", hint)
    if plan is not None and settings:
        raise OptionError(
            f"A plan and {', '.join(settings)} are given; allowed is one of both.",
            hint="Give the settings alone, or plan.model_copy(update={...}).",
        )
    with tempfile.TemporaryDirectory() as nowhere:
        folder = RunFolder(check_path("out", nowhere if out is None else out))
        requests = _in_memory(settings.get("requests"))
        if requests is not None:
            settings["requests"] = folder.path / _REQUESTS
        plan = plan or BenchmarkPlan.of(settings, "bench")
        loader = loader or BenchmarkModels(progress=progress)
        loader.check_options(plan.models)
        benchmark = Benchmark.of(plan, loader.revision, progress=progress, requests=requests)
        if progress and not folder.about():
            said = shown_in_words(len(benchmark.data.users), benchmark.comparisons)
            tqdm.write(f"{said}.", file=sys.stderr)
        if requests is not None:
            with folder.open(benchmark.about(command), benchmark.data.users):  # refuses another run
                folder.write(_REQUESTS, requests)
        summary, results = run_benchmark(
            benchmark,
            folder,
            loader.load,
            command=command,
            progress=progress,
            before=before and (lambda results: before(benchmark, results)),
        )
        _warn_of_duplicates(benchmark, results)
        if out is None:
            return summary
        cases = disagreements(
            benchmark.data, benchmark.cells, summary, results, plan.seed, loader.reader
        )
        folder.write("summary.json", summary_json(summary))
        folder.write("leaderboard.md", leaderboard_markdown(summary))
        folder.write("report.html", render_report(summary, cases))
    return summary


def _in_memory(requests: object) -> str | None:
    """Requests that are no file, as its content."""
    is_file = isinstance(requests, str | Path)
    return request_lines(requests) if isinstance(requests, Iterable) and not is_file else None


def _race(benchmark: Benchmark, asking: Asking) -> dict[str, Drop]:
    """Run block by block and drop significantly worse rows; a resumed run decides the same."""
    users, seed = benchmark.data.users, benchmark.plan.seed
    names = {cell.key: cell.name for cell in benchmark.cells}
    looks = -(-len(users) // BLOCK)
    racing, dropped = list(benchmark.cells), dict[str, Drop]()
    for look in range(1, looks + 1):
        asking.run(tasks_of(racing, users[(look - 1) * BLOCK : look * BLOCK]))
        seen = users[: look * BLOCK]
        values = {
            cell.key: ndcg_values(asking.results.of(cell.key, seen), seen, seed) for cell in racing
        }
        for key, drop in race(values, looks, look, started=len(names)).items():
            dropped[key] = replace(drop, against=names[drop.against])
            logger.info("%s is dropped %s", names[key], dropped[key])
        racing = [cell for cell in racing if cell.key not in dropped]
        if len(racing) == 1:
            asking.run(tasks_of(racing, users))
            break
    return dropped


def _table_of(about: Mapping[str, object]) -> dict[str, str | int | float]:
    """The content of run.json as lines of a table."""
    lines: dict[str, str | int | float] = {}
    for name, value in about.items():
        if isinstance(value, str | int | float):
            lines[name] = value
        elif isinstance(value, Mapping) and name in {"dataset", "versions"}:
            lines |= {f"{name} {key}": some for key, some in value.items()}
    lines[PLAN] = yaml.safe_dump(about["benchmark"], sort_keys=False, allow_unicode=True)
    lines["dataset"] = lines.pop("dataset name", "")
    return lines


def _rates(plan: BenchmarkPlan) -> dict[str, Prices]:
    """Prices of the servers' models; local models have none."""
    if plan.prices is None:
        return {}
    served = {ref: parse_reference(ref) for ref in plan.models}
    return {
        ref: Prices.load(plan.prices, what.model)
        for ref, what in served.items()
        if what.backend != "transformers"
    }


def _prices(benchmark: Benchmark, results: Results) -> dict[str, dict[str, float]]:
    """Mean price of a user, by cell."""
    found = {}
    for cell in benchmark.cells:
        answered = results.of(cell.key, benchmark.data.users).answered
        if cell.model in benchmark.rates and answered:
            usages = [
                Usage(one.tokens_given, one.tokens_forwarded, one.tokens_generated)
                for one in answered
            ]
            paid = [benchmark.rates[cell.model].cost(usage) for usage in usages]
            found[cell.key] = {PRICE: sum(paid) / len(paid)}
    return found


def _warn_of_duplicates(benchmark: Benchmark, results: Results) -> None:
    """Warn of rows with equal scores of equally long prompts, which may be duplicates."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for cell in benchmark.cells:
        answered = results.of(cell.key, benchmark.data.users).answered
        if answered:
            told = tuple((one.user_id, one.scores, one.tokens_given) for one in answered)
            groups.setdefault(told, []).append(cell.name)
    for names in groups.values():
        if len(names) > 1:
            logger.warning(
                "%s have the same scores and prompt lengths: they may be duplicates, and each "
                "makes the correction for multiple comparisons stricter.",
                " and ".join(names),
            )
