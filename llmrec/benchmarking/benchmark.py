"""A benchmark from its plan to its summary: whom to ask, asking, racing, summing up."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product

import yaml
from pydantic_core import to_json

from llmrec.benchmarking.answers import PRICE, results_of
from llmrec.benchmarking.beyond import ItemFacts
from llmrec.benchmarking.cells import Cell, cells_of, row_names, with_revisions
from llmrec.benchmarking.entries import cell_values
from llmrec.benchmarking.listing import Asked, lists_of
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.benchmarking.racing import Drop, race
from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.benchmarking.running import BLOCK, Load, Task, place_tasks, run_tasks, tasks_of
from llmrec.benchmarking.summarising import summarise
from llmrec.benchmarking.summary import PLAN, Summary
from llmrec.models.openai import Prices
from llmrec.models.references import parse_reference
from llmrec.records import Insight, Usage
from llmrec.retrieval import Index

logger = logging.getLogger(__name__)

RevisionOf = Callable[[str, str], str]
"""What identifies the weights of a model in a quantization, without loading them."""


@dataclass(frozen=True)
class Benchmark:
    """A plan with all that follows from it: made, and so checked, before a model is loaded.

    ``names`` are those of the cells' rows, by key; ``rates`` what tokens of a model cost, by its
    reference.
    """

    plan: BenchmarkPlan
    index: Index
    asked: Asked
    cells: tuple[Cell, ...]
    names: Mapping[str, str]
    rates: Mapping[str, Prices]

    @classmethod
    def of(
        cls, plan: BenchmarkPlan, revision_of: RevisionOf, *, progress: bool = False
    ) -> Benchmark:
        """Open the index, draw the users, make their lists and the cells.

        Raises:
            StorageError: The index cannot be opened.
            OptionError: The plan asks for more users than there are, or for what cannot be, or its
                table of prices does not name a server's model.
            PromptError: A template cannot be used.
            ModelError: A model cannot be had.
        """
        rates = _rates(plan)
        index = Index.open(plan.index)
        models: list[tuple[str, str]] = list(product(plan.models, plan.quantizations))
        cells = cells_of(plan)  # refused, if it is, before a model is fetched
        asked = lists_of(index, plan, progress=progress)
        cells = with_revisions(cells, {of: revision_of(*of) for of in models})
        return cls(plan, index, asked, cells, row_names(cells), rates)

    def about(self, command: str) -> dict[str, object]:
        """What run.json says."""
        index = self.asked.known
        return {
            "benchmark": self.plan.model_dump(mode="json"),
            "dataset": {
                "name": self.plan.index.name,
                "users": self.asked.qualifying,
                "items": len(index.items),
                "interactions": len(index.interactions),
            },
            "fingerprint": self.index.fingerprint,
            "insights": _digest(self.index.insights),
            "protocol": self.plan.protocol,
            "part": self.plan.part,
            "candidates": self.plan.candidates,
            "seed": self.plan.seed,
            "command": command,
            "versions": {
                name: version(name) for name in ("llmrec", "torch", "transformers", "numpy")
            },
            "machine": f"{platform.machine()}, {platform.system()}",
            "cells": self.described(),
        }

    def described(self) -> list[dict[str, object]]:
        """The cells as run.json has them."""
        return [
            {"key": cell.key, "name": self.names[cell.key], **asdict(cell)} for cell in self.cells
        ]


def run_benchmark(
    benchmark: Benchmark, folder: RunFolder, load: Load, *, command: str, progress: bool = False
) -> Summary:
    """Ask what is not answered yet, keep it, and sum everything up.

    Args:
        benchmark: What is compared on whom.
        folder: Where results are kept; a run that was killed goes on, a finished one is read.
        load: Loads models; called again where several models take turns in a race.
        command: How to run it again.
        progress: Show bars on stderr, where that is a terminal.

    Raises:
        StorageError: The folder is another benchmark's or cannot be written.
        ModelError: A model cannot be loaded, or memory or hardware failed.
    """
    plan, lists, known = benchmark.plan, benchmark.asked.lists, benchmark.asked.known
    about = benchmark.about(command)
    with folder.locked():
        folder.begin(about, lists)
        if plan.race:
            dropped = _race(benchmark, folder, load, progress=progress)
        else:
            dropped = {}
            tasks = [
                task for cells in _by_model(benchmark.cells) for task in tasks_of(cells, lists)
            ]
            run_tasks(folder, tasks, known, load, progress=progress)
        racing = [cell for cell in benchmark.cells if cell.key not in dropped]
        planted = [
            task
            for cells in _by_model(racing)
            for task in place_tasks(cells, lists, plan.places, plan.place_users)
        ]
        run_tasks(folder, planted, known, load, progress=progress)
        results = results_of(benchmark.described(), lists, folder.results())
    return summarise(
        plan.protocol,
        benchmark.described(),
        lists,
        results,
        names=benchmark.names,
        seed=plan.seed,
        about=flat(about),
        facts=_facts(known, lists),
        costs=_prices(benchmark, results),
        dropped={key: str(drop) for key, drop in dropped.items()},
    )


def _by_model(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells of one model and quantization together, so that each is loaded once."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.quantization), []).append(cell)
    return list(groups.values())


def _race(
    benchmark: Benchmark, folder: RunFolder, load: Load, *, progress: bool
) -> dict[str, Drop]:
    """Ask block by block, and leave behind what will not win; the same decisions every time."""
    lists, seed = benchmark.asked.lists, benchmark.plan.seed
    blocks = [lists[start : start + BLOCK] for start in range(0, len(lists), BLOCK)]
    racing, dropped = list(benchmark.cells), dict[str, Drop]()
    for look, block in enumerate(blocks, start=1):
        tasks: list[Task] = list(tasks_of(racing, block))
        run_tasks(folder, tasks, benchmark.asked.known, load, progress=progress)
        seen = lists[: (look - 1) * BLOCK + len(block)]
        keys = [{"key": cell.key} for cell in racing]
        values = cell_values(keys, seen, folder.results(), seed)
        found = race(values, len(blocks), look, started=len(benchmark.cells))
        for key, drop in found.items():
            named = Drop(benchmark.names[drop.against], drop.users, drop.p_value, drop.p_corrected)
            dropped[key] = named
            logger.info("%s is dropped %s", benchmark.names[key], named)
        racing = [cell for cell in racing if cell.key not in dropped]
        if len(racing) == 1:
            rest = [task for later in blocks[look:] for task in tasks_of(racing, later)]
            run_tasks(folder, rest, benchmark.asked.known, load, progress=progress)
            break
    return dropped


def _digest(insights: Mapping[str, Insight]) -> str:
    """Tells captions, opinions and facts from others: prompts read them, no fingerprint does."""
    text = to_json({item_id: insights[item_id] for item_id in sorted(insights)}, fallback=dict)
    return hashlib.sha256(text).hexdigest()[:16] if insights else ""


def flat(about: Mapping[str, object]) -> dict[str, str | int | float]:
    """What run.json says, as lines of a table."""
    lines: dict[str, str | int | float] = {}
    for name, value in about.items():
        if isinstance(value, str | int | float):
            lines[name] = value
        elif isinstance(value, Mapping) and name in {"dataset", "versions"}:
            lines |= {f"{name} {key}": some for key, some in value.items()}
    lines[PLAN] = yaml.safe_dump(about["benchmark"], sort_keys=False, allow_unicode=True)
    lines["dataset"] = lines.pop("dataset name", "")
    return lines


def _facts(index: Index, lists: Sequence[UserList]) -> ItemFacts:
    shown = sorted({item_id for one in lists for item_id in one.candidates})
    return ItemFacts(
        titles={item_id: index.items[item_id].name for item_id in shown},
        vectors={item_id: index.vectors[index.row(item_id)] for item_id in shown},
        training_users=len({row.user_id for row in index.interactions}),
    )


def _rates(plan: BenchmarkPlan) -> dict[str, Prices]:
    """What tokens of the servers' models cost; weights that run here have no price a token."""
    if plan.prices is None:
        return {}
    served = {ref: parse_reference(ref) for ref in plan.models}
    return {
        ref: Prices.load(plan.prices, what.model)
        for ref, what in served.items()
        if what.backend != "transformers"
    }


def _prices(benchmark: Benchmark, results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """What a user cost, by cell."""
    paid: dict[str, list[float]] = {}
    models = {cell.key: cell.model for cell in benchmark.cells if cell.model in benchmark.rates}
    for one in results:
        if one.cell in models and one.place is None and one.fault is None:
            usage = Usage(one.tokens_given, one.tokens_forwarded, one.tokens_generated)
            paid.setdefault(one.cell, []).append(benchmark.rates[models[one.cell]].cost(usage))
    return {cell: {PRICE: sum(costs) / len(costs)} for cell, costs in paid.items()}
