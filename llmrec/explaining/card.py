"""Explanations as HTML cards: picture, text, weights as bars, quotations with sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmrec.errors import StorageError, naming
from llmrec.items import picture_uri
from llmrec.prompting.neutralise import neutralise
from llmrec.records import Evidence, Explanation

_SIDE = 320
"""Longest side of a picture in pixels."""


def write_cards(
    explanations: Sequence[Explanation], path: Path, pictures: Mapping[str, str]
) -> None:
    """Write explanations as one HTML file that needs no network and runs no script.

    Everything from data and models is escaped, and invisible characters are dropped.

    Args:
        explanations: A card each, in this order.
        path: The file to write, UTF-8.
        pictures: Path of the picture by item id (`picture_path`); a missing one is left out.

    Raises:
        StorageError: It cannot be written.
    """
    page = render_cards(explanations, pictures)
    with naming(f"The cards {path} cannot be written", StorageError):
        path.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def render_cards(explanations: Sequence[Explanation], pictures: Mapping[str, str]) -> str:
    """The page that ``write_cards`` writes."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = [
        {
            "title": neutralise(each.title),
            "item_id": neutralise(each.item_id),
            "source": each.source.value,
            "picture": picture_uri(pictures.get(each.item_id, ""), _SIDE),
            "claims": [(neutralise(claim.text), claim.units) for claim in each.claims],
            "facts": _facts(each.evidence),
            "faults": [neutralise(f"{fault.kind}: {fault.text}") for fault in each.faults],
        }
        for each in explanations
    ]
    return made.get_template("card.html.jinja").render(cards=cards)


def _facts(evidence: Sequence[Evidence]) -> list[dict[str, object]]:
    """The facts for a card: their bars are as long as their share of the largest weight."""
    largest = max((abs(fact.weight) for fact in evidence if fact.weight is not None), default=0.0)
    return [
        {
            "unit": neutralise(fact.unit),
            "text": neutralise(fact.text),
            "weight": fact.weight,
            "share": 100 * abs(fact.weight) / largest if fact.weight and largest > 0 else 0.0,
        }
        for fact in evidence
        if fact.unit != "title"
    ]
