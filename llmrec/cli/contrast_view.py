"""A comparison of two items' rankings, on the screen and as a JSON document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

from rich.text import Text

from llmrec.cli.output import fields, print_json, safe, screen, table, waiting
from llmrec.cli.ranking_view import cost_line, describe_model, model_line
from llmrec.errors import OptionError
from llmrec.models import LanguageModel
from llmrec.recommender import Recommender
from llmrec.reranking import Request
from llmrec.reranking.contrast import ItemContrast
from llmrec.reranking.removal import Reasons
from llmrec.retrieval import Index

if TYPE_CHECKING:
    from llmrec.models.openai import Prices

SHOWN = 10
"""Units in the table, those with the largest differences."""


def print_contrast(
    index: Index | None,
    asked: Sequence[Request],
    against: str,
    load: Callable[[], LanguageModel],
    rates: Prices | None,
    *,
    as_json: bool,
) -> None:
    """Compare the one item that is asked for with another one, and print the result.

    Raises:
        OptionError: There is no index, or several items are asked for.
        UnknownItemError: The index does not hold an item.
    """
    if index is None or len(asked) != 1 or len(asked[0].candidates) != 1:
        raise OptionError(
            "--against compares one item of an index with another one.",
            hint="Give INDEX, --user, one --item and --against.",
        )
    (request,) = asked
    item_id = request.candidates[0].item_id
    recommender = Recommender(index, model=load)
    with waiting("Comparing"):
        found = recommender.contrast(request.user, item_id, against)
    titles = {each: index.items[each].name for each in (item_id, against)}
    model = recommender.reranker.model
    if as_json:
        print_json(
            {
                "titles": titles,
                "lead": found.lead,
                "differences": found.differences,
                "contrast": found,
                "model": describe_model(model),
                "cost": rates.cost(found.usage) if rates else None,
            }
        )
        return
    past = enumerate(request.user.history, start=1)
    about = {"Model": model_line(model), "Cost": cost_line(rates, found.usage)}
    names = {f"history:{n}": index.items[row.item_id].name for n, row in past}
    _show(found, titles, names, about)


def _show(
    found: ItemContrast,
    titles: Mapping[str, str],
    past: Mapping[str, str],
    about: Mapping[str, str],
) -> None:
    sides = (found.reasons, found.against)
    told = {fact.unit: fact.text for side in reversed(sides) for fact in side.evidence}
    texts = {**past, **told}
    largest = sorted(found.differences.items(), key=lambda pair: -abs(pair[1]))[:SHOWN]
    rows: list[Sequence[str | Text]] = [
        (
            unit,
            safe(texts.get(unit, "")),
            *(f"{side.weights.get(unit, 0.0):+.2f}" for side in sides),
            f"{difference:+.2f}",
        )
        for unit, difference in sorted(largest, key=lambda pair: -pair[1])
        if abs(difference) > max(side.noise for side in sides)
    ]
    heads = ("Unit", "what it says", "item", "against", "difference")
    console = screen()
    console.print(
        table(heads, rows) if rows else "No unit makes more of a difference than wording.", ""
    )
    drop = found.drop
    fallen = "no removal of units drops it" if found.reasons.rank <= found.k else "already below"
    lines = {
        name: f"{titles[side.item_id]}: {_standing(side)}"
        for name, side in (("Item", found.reasons), ("Against", found.against))
    }
    console.print(
        fields(
            {
                **{name: safe(line) for name, line in lines.items()},
                f"Out of the top {found.k}": f"without {', '.join(drop.units)}: rank {drop.rank}"
                if drop
                else fallen,
                **about,
            }
        )
    )


def _standing(side: Reasons) -> str:
    """An item's rank and fused score, and what the score consists of."""
    if isnan(side.score):
        return f"rank {side.rank}, not scored"
    by = ", ".join(f"{name} {value:+.2f}" for name, value in side.carried.items())
    return f"rank {side.rank}, score {side.score:.2f}{by and ', by '}{by}"
