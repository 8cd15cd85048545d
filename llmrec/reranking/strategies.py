"""The strategies by name, with optional calibration and shuffling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from llmrec.errors import OptionError, PromptError, nearest
from llmrec.prompting import DEFAULT_TEMPLATES, load_template, refuse_meaningless
from llmrec.reranking.calibration import Calibrated
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.listwise import Listwise, ListwiseGenerated, Tournament
from llmrec.reranking.pairwise import Pairwise
from llmrec.reranking.pointwise import Graded, Pointwise
from llmrec.reranking.setwise import Setwise
from llmrec.reranking.shuffling import LEAST_TO_STOP, Shuffled
from llmrec.reranking.strategy import Strategy

logger = logging.getLogger(__name__)

STRATEGIES: Mapping[str, Callable[..., Strategy]] = MappingProxyType(
    {
        "graded": Graded,
        "likelihood": Likelihood,
        "listwise": Listwise,
        "listwise-generated": ListwiseGenerated,
        "pairwise": Pairwise,
        "pointwise": Pointwise,
        "setwise": Setwise,
        "tournament": Tournament,
    }
)
"""Strategies by name; each takes ``template=`` or uses its default."""

ONE_AT_A_TIME = frozenset({"graded", "likelihood", "pointwise"})
"""Strategies with at most one candidate per prompt: the order of candidates has no effect."""

WITHOUT_LABELS = frozenset({"likelihood", "listwise-generated"})
"""Strategies without labels: calibration has no effect."""

TOP = 10
"""Default number of best candidates to order."""


def make_strategy(
    name: str,
    template: str | None = None,
    *,
    calibrate: bool = False,
    shuffles: int = 0,
    stop_early: bool = False,
    top: int = TOP,
    seed: int = 0,
) -> Strategy:
    """Make a strategy by name, with a template by name or path, or its default template.

    Args:
        name: One of `STRATEGIES`.
        template: A template of that strategy; a tournament takes those of listwise.
        calibrate: Subtract the content-free prior (`Calibrated`). Logs a warning if the strategy
            has no labels.
        shuffles: Average over so many shuffled orders (`Shuffled`); 0 is off. Logs a warning if the
            strategy shows one candidate per prompt.
        stop_early: Stop shuffling when the best ``top`` keep their order.
        top: How many of the best to order (setwise, pairwise, tournament); the others share the
            lowest score.
        seed: Random seed for the orders.

    Raises:
        OptionError: The strategy is unknown, or a number is out of range.
        PromptError: The template cannot be used, or is another strategy's.
    """
    if name not in STRATEGIES:
        raise OptionError(
            f"Unknown strategy {name!r}; allowed are {', '.join(sorted(STRATEGIES))}.",
            hint=nearest(name, STRATEGIES),
        )
    if stop_early and shuffles < LEAST_TO_STOP:
        raise OptionError(
            f"Early stopping needs {LEAST_TO_STOP} shuffles or more, not {shuffles}: the best must "
            "keep their order twice, and two orders run at a time.",
            hint=f"Give --shuffles {LEAST_TO_STOP} or more.",
        )
    made = STRATEGIES[name]() if template is None else _with_template(name, template)
    if isinstance(made, Setwise | Pairwise | Tournament) and made.top != top:
        made = replace(made, top=top)
    if calibrate and name in WITHOUT_LABELS:
        logger.warning("Calibration has no effect on %s, which has no labels.", name)
    elif calibrate:
        made = Calibrated(made)
    if shuffles and name in ONE_AT_A_TIME:
        logger.warning("Shuffling has no effect: %s shows one candidate per prompt.", name)
    elif shuffles:
        made = Shuffled(made, shuffles, seed, top if stop_early else 0)
    return made


def folder_of(name: str) -> str:
    """The folder of a strategy's templates; tournament shares listwise's."""
    return DEFAULT_TEMPLATES[name].partition("/")[0]


def _with_template(name: str, template: str) -> Strategy:
    loaded = load_template(template)
    folder = folder_of(name)
    if loaded.strategy in DEFAULT_TEMPLATES and loaded.strategy not in {name, folder}:
        hint = f"Take a template under {folder}/."
        if loaded.strategy in STRATEGIES:
            hint = f"Give --strategy {loaded.strategy} (strategy={loaded.strategy!r}) too. {hint}"
        raise PromptError(
            f"Template {loaded.name} is for the strategy {loaded.strategy}, not {name}.", hint=hint
        )
    # A template outside the strategies' folders must meet the requirements of this strategy.
    known = loaded.strategy in DEFAULT_TEMPLATES
    refuse_meaningless(loaded if known else replace(loaded, strategy=folder))
    return STRATEGIES[name](template=loaded)
