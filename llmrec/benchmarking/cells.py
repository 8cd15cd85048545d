"""The cells of a benchmark: one template, strategy, model and setting each."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from llmrec.benchmarking.plan import BenchmarkPlan, Quantization, strategies_for
from llmrec.errors import OptionError, StorageError, nearest
from llmrec.prompting import Budget, load_template
from llmrec.prompting.template import read_source, template_path
from llmrec.reranking import Strategy, make_strategy
from llmrec.reranking.strategies import ONE_AT_A_TIME, WITHOUT_LABELS

logger = logging.getLogger(__name__)

SCORING_VERSION = 3
"""Raised whenever scoring changes: older results are then asked again."""
Settings = Mapping[str, str | int | bool]
_NAMES = ("template", "fields", "variant_of", "name")
"""Fields that change no answer."""


@dataclass(frozen=True)
class Cell:
    """One row of a benchmark that asks a model.

    ``budget`` has the token limits by field and the number of history items. ``revision``
    identifies the model's weights. ``variant_of`` names the template that this one paraphrases.
    ``name`` is that of the row (`named`).
    """

    template: str
    template_sha256: str
    strategy: str
    model: str
    revision: str
    quantization: Quantization
    fields: str
    budget: Mapping[str, int]
    calibrate: bool = False
    shuffles: int = 0
    seed: int = 0
    variant_of: str = ""
    name: str = ""

    @cached_property
    def key(self) -> str:
        """The key of its results; whatever could change them changes it."""
        about = {**asdict(self), "scoring": SCORING_VERSION}
        for name in _NAMES:
            del about[name]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def settings(self) -> Settings:
        """What it is run with, its token limits among it, but not its name."""
        tokens = {
            name if name == "history_items" else f"{name}_tokens": value
            for name, value in self.budget.items()
        }
        own = {
            name: value for name, value in asdict(self).items() if name not in ("budget", "name")
        }
        return {name: value for name, value in {**own, **tokens}.items() if value != ""}

    def to_row(self) -> dict[str, object]:
        """How run.json holds it."""
        own = asdict(self)
        return {"key": self.key, "name": own.pop("name"), **own}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: object) -> Cell:
        """Read it from run.json; its key is the one that its results were stored under.

        Raises:
            StorageError: A field is missing or of another type.
        """
        try:
            cell = _CELL.validate_python({name: row[name] for name in row if name != "key"})
        except (ValidationError, TypeError) as error:
            raise StorageError(
                f"{where} has a cell that cannot be read: {error}.", hint="Run it again."
            ) from error
        cell.__dict__["key"] = str(row.get("key", ""))
        return cell

    def make(self) -> tuple[Strategy, Budget]:
        """The strategy and budget to ask with.

        Raises:
            PromptError: The template cannot be used.
            OptionError: A setting is out of range.
            StorageError: The template has changed since the plan was read.
        """
        source = read_source(template_path(self.template))
        if hashlib.sha256(source.encode()).hexdigest() != self.template_sha256:
            raise StorageError(
                f"The template {self.template} has been changed while the benchmark ran.",
                hint="Results are kept: run the same command for the new template.",
            )
        strategy = make_strategy(
            self.strategy,
            self.template,
            calibrate=self.calibrate,
            shuffles=self.shuffles,
            seed=self.seed,
        )
        return strategy, Budget(**self.budget)


_CELL = TypeAdapter(Cell)


def cells_of(plan: BenchmarkPlan) -> tuple[Cell, ...]:
    """All cells of a plan, ordered by model; without revisions and names yet.

    Cells that would ask the same are one: shuffling does not apply to strategies that show one
    candidate at a time, calibration not to those without labels.

    Raises:
        PromptError: A template cannot be used.
        OptionError: No strategy uses a template, or a field is unknown.
    """
    budgets = {name: _budget(name, fields) for name, fields in plan.fields.items()}
    cells: dict[str, Cell] = {}
    alike: dict[str, str] = {}
    for (model, quantization), (name, variant_of) in product(
        product(plan.models, plan.quantizations), list(_wordings(plan))
    ):
        template = load_template(name)
        for strategy, history, fields, calibrate, shuffles in product(
            strategies_for(template.strategy, plan.strategies),
            plan.history_items,
            budgets,
            plan.calibrate,
            plan.shuffles,
        ):
            cell = Cell(
                template=name,
                template_sha256=template.sha256,
                strategy=strategy,
                model=model,
                revision="",
                quantization=quantization,
                fields=fields,
                budget={**budgets[fields], "history_items": history},
                calibrate=calibrate and strategy not in WITHOUT_LABELS,
                shuffles=0 if strategy in ONE_AT_A_TIME else shuffles,
                seed=plan.seed,
                variant_of=variant_of,
            )
            cell.make()  # refuses values out of range before anything is asked
            first = cells.setdefault(cell.key, cell)
            if not first.variant_of and variant_of not in ("", first.template):
                cells[cell.key] = replace(first, variant_of=variant_of)
            if first.template != name:
                alike[name] = first.template
    for name, other in alike.items():
        logger.warning("%s and %s are the same prompt: they share a row.", name, other)
    return tuple(cells.values())


def named(cells: Sequence[Cell], revisions: Mapping[tuple[str, str], str]) -> tuple[Cell, ...]:
    """The cells with their revisions, by model and quantization, and names.

    A name has the template and those settings that differ between the cells.
    """
    varied = [
        name
        for name in ("fields", "model", "quantization")
        if len({getattr(cell, name) for cell in cells}) > 1
    ]
    histories = len({cell.budget["history_items"] for cell in cells}) > 1
    made = []
    for cell in cells:
        parts = [cell.template]
        if cell.strategy != PurePath(cell.template).parent.name:
            parts.append(cell.strategy)
        parts += [getattr(cell, name) for name in varied]
        parts += [f"history {cell.budget['history_items']}"] if histories else []
        parts += ["calibrated"] if cell.calibrate else []
        parts += [f"{cell.shuffles} shuffle{'s' * (cell.shuffles > 1)}"] if cell.shuffles else []
        revision = revisions[cell.model, cell.quantization]
        made.append(replace(cell, revision=revision, name=", ".join(parts)))
    return tuple(made)


def _wordings(plan: BenchmarkPlan) -> Iterator[tuple[str, str]]:
    """Templates, each followed by its paraphrases."""
    names = plan.named_templates()
    unknown = plan.variants.keys() - set(names)
    if unknown:
        raise OptionError(
            f"variants: {', '.join(sorted(unknown))} is not among the templates.",
            hint=nearest(min(unknown), names),
        )
    for name in names:
        yield name, ""
        yield from ((variant, name) for variant in plan.variants.get(name, ()))


def _budget(name: str, fields: Mapping[str, int]) -> dict[str, int]:
    every = asdict(Budget())
    allowed = [field for field in every if field != "history_items"]  # a list of its own
    unknown = fields.keys() - set(allowed)
    if unknown:
        raise OptionError(
            f"fields: {name}: unknown field {min(unknown)!r}.",
            hint=nearest(min(unknown), allowed) or f"Allowed are {', '.join(allowed)}.",
        )
    return {**every, **fields}
