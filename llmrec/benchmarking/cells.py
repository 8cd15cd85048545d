"""The cells of a benchmark: one way to ask one model, and what its answers depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import PurePath

from llmrec.benchmarking.plan import BenchmarkPlan, Quantization, strategies_for
from llmrec.errors import OptionError, StorageError, nearest
from llmrec.prompting import Budget, load_template
from llmrec.prompting.template import read_source, template_path
from llmrec.reranking import Strategy, make_strategy
from llmrec.reranking.strategies import ONE_AT_A_TIME, WITHOUT_LABELS

logger = logging.getLogger(__name__)

SCORING_VERSION = 2
"""Raised whenever the same question would get another score: older results are then asked again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a benchmark.

    ``budget`` has the tokens a field, the number of history items among them. ``revision`` tells
    the model's weights from any other. ``variant_of`` names the template that this one rewords.
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

    @property
    def key(self) -> str:
        """What answers of this cell are stored under; whatever could change them changes it."""
        about = {**asdict(self), "scoring": SCORING_VERSION}
        for name in ("template", "fields", "variant_of"):  # what it is called changes no answer
            del about[name]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]

    def make(self) -> tuple[Strategy, Budget]:
        """The strategy and budget to ask with.

        Raises:
            PromptError: The template cannot be used.
            OptionError: A setting is out of range.
            StorageError: The template is no longer what this cell's results are stored under.
        """
        source = read_source(template_path(self.template))
        if hashlib.sha256(source.encode()).hexdigest() != self.template_sha256:
            raise StorageError(
                f"The template {self.template} has been changed while the benchmark ran.",
                hint="What was answered is kept: the same command asks the new wording.",
            )
        strategy = make_strategy(
            self.strategy,
            self.template,
            calibrate=self.calibrate,
            shuffles=self.shuffles,
            seed=self.seed,
        )
        return strategy, Budget(**self.budget)


def cells_of(plan: BenchmarkPlan) -> tuple[Cell, ...]:
    """All cells of a plan, those of one model one after the other; of no revision yet.

    Two cells that would ask the same are one: a strategy that shows one candidate at a time knows
    no shuffles, one that asks for no label no calibration.

    Args:
        plan: What is compared.

    Raises:
        PromptError: A template cannot be used.
        OptionError: A template is for no strategy, or a field is unknown.
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
            cell.make()  # what is out of range is said before anything is asked
            first = cells.setdefault(cell.key, cell)
            if first.template != name:
                alike[name] = first.template
    for name, other in alike.items():
        logger.warning("%s asks what %s asks: they are one row.", name, other)
    return tuple(cells.values())


def with_revisions(
    cells: Sequence[Cell], revisions: Mapping[tuple[str, str], str]
) -> tuple[Cell, ...]:
    """The cells with what identifies their weights, by model and quantization."""
    return tuple(replace(cell, revision=revisions[cell.model, cell.quantization]) for cell in cells)


def _wordings(plan: BenchmarkPlan) -> Iterator[tuple[str, str]]:
    """Templates, and after each the other wordings of it."""
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


def row_names(cells: tuple[Cell, ...]) -> dict[str, str]:
    """What each cell is called in tables, by its key: what tells it from the others.

    The template always, and of the other settings those that are not the same everywhere.
    """
    varied = {
        name
        for name in ("model", "quantization", "fields")
        if len({getattr(cell, name) for cell in cells}) > 1
    }
    histories = len({cell.budget["history_items"] for cell in cells}) > 1
    names = {}
    for cell in cells:
        parts = [cell.template]
        if cell.strategy != PurePath(cell.template).parent.name:
            parts.append(cell.strategy)
        parts += [getattr(cell, name) for name in sorted(varied)]
        parts += [f"history {cell.budget['history_items']}"] if histories else []
        parts += ["calibrated"] if cell.calibrate else []
        parts += [f"{cell.shuffles} shuffle{'s' * (cell.shuffles > 1)}"] if cell.shuffles else []
        names[cell.key] = ", ".join(parts)
    return names
