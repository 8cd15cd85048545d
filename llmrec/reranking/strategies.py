"""The strategies by name, and what may be wrapped around one."""

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
"""Strategies whose prompts show one candidate or none: no order of candidates reaches the model."""

WITHOUT_LABELS = frozenset({"likelihood", "listwise-generated"})
"""Strategies that calibration takes nothing off: they do not ask for labels."""

TOP = 10
"""How many of the best are put in order where nothing else is said."""


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
    """A strategy by name, with a template by name or path, or its default one.

    Args:
        name: One of `STRATEGIES`.
        template: Of that strategy; a tournament takes those of listwise.
        calibrate: Take off what the model would answer anyway (`Calibrated`). Of a strategy that
            asks for no labels there is nothing to take off, which is said.
        shuffles: Ask about so many orders of the candidates (`Shuffled`); 0 asks the one given.
            A strategy that shows one candidate at a time knows no order and is asked once, which
            is said.
        stop_early: Ask for no more orders once the best ``top`` keep theirs.
        top: How many of the best have to be put in order, where a strategy asks no more than that
            takes (setwise, pairwise, tournament); the others share the lowest score.
        seed: Of the orders.

    Raises:
        OptionError: There is no such strategy, or a number is out of range.
        PromptError: The template cannot be used, or is another strategy's.
    """
    if name not in STRATEGIES:
        raise OptionError(
            f"There is no strategy {name!r}; there are {', '.join(sorted(STRATEGIES))}.",
            hint=nearest(name, STRATEGIES),
        )
    if stop_early and shuffles < LEAST_TO_STOP:
        raise OptionError(
            f"Stopping early among {shuffles} shuffles: nothing is saved below {LEAST_TO_STOP}, "
            "since the best have to keep their order twice, two orders at a time.",
            hint=f"Give --shuffles {LEAST_TO_STOP} or more beside it.",
        )
    made = STRATEGIES[name]() if template is None else _with_template(name, template)
    if isinstance(made, Setwise | Pairwise | Tournament) and made.top != top:
        made = replace(made, top=top)
    if calibrate and name in WITHOUT_LABELS:
        logger.warning("Calibration takes nothing off %s, which asks for no labels.", name)
    elif calibrate:
        made = Calibrated(made)
    if shuffles and name in ONE_AT_A_TIME:
        logger.warning("Shuffles change nothing: %s shows one candidate at a time.", name)
    elif shuffles:
        made = Shuffled(made, shuffles, seed, top if stop_early else 0)
    return made


def folder_of(name: str) -> str:
    """The folder of templates that a strategy takes beside its own."""
    return DEFAULT_TEMPLATES[name].partition("/")[0]


def _with_template(name: str, template: str) -> Strategy:
    loaded = load_template(template)
    folder = folder_of(name)
    if loaded.strategy in DEFAULT_TEMPLATES and loaded.strategy not in {name, folder}:
        raise PromptError(
            f"Template {loaded.name} is for the strategy {loaded.strategy}, not {name}.",
            hint=f"Take a template under {folder}/.",
        )
    # In a folder of no strategy it is what it is taken for, and has to read what that reads.
    known = loaded.strategy in DEFAULT_TEMPLATES
    refuse_meaningless(loaded if known else replace(loaded, strategy=folder))
    return STRATEGIES[name](template=loaded)
