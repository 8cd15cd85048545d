"""Edges of a knowledge graph, in words that a prompt can list."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from llmrec.catalog import Fact
from llmrec.records import Item

LONGEST = 200
"""Characters of a fact; a longer one is left out."""

_MOST = 8
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def item_facts(facts: Iterable[Fact], items: Mapping[str, Item]) -> dict[str, tuple[str, ...]]:
    """Say in words what a knowledge graph says of each item.

    An edge that leaves an item reads ``directed by: A, B``, all ends of one relation together; one
    that arrives from another item reads ``sequel of this: "Heat 2"``. Ends that are items are named
    by their titles, in double quotes. An item has at most eight relations, the first ones.

    Args:
        facts: Edges, in file order.
        items: The catalogue.

    Returns:
        Facts by item id; an item without edges is left out.

    >>> items = {"1": Item("1", "Heat"), "2": Item("2", "Heat 2")}
    >>> item_facts([Fact("1", "directedBy", "Mann"), Fact("2", "sequel_of", "1")], items)
    {'1': ('directed by: Mann', 'sequel of this: "Heat 2"'), '2': ('sequel of: "Heat"',)}
    """
    ends: dict[str, dict[str, dict[str, None]]] = {}
    for fact in facts:
        relation = relation_words(fact.relation)
        if fact.head in items:
            ends.setdefault(fact.head, {}).setdefault(relation, {})[_named(fact.tail, items)] = None
        if fact.tail in items and fact.head in items and fact.head != fact.tail:
            there = ends.setdefault(fact.tail, {}).setdefault(f"{relation} this", {})
            there[_named(fact.head, items)] = None
    told = {
        item_id: [f"{relation}: {', '.join(names)}" for relation, names in relations.items()]
        for item_id, relations in ends.items()
    }
    return {
        item_id: tuple(text for text in texts if len(text) <= LONGEST)[:_MOST]
        for item_id, texts in told.items()
    }


def relation_words(relation: str) -> str:
    """Write a relation's name as words: ``film.directedBy`` as ``film directed by``."""
    # Letters, their marks and numbers: vowels of Indic scripts are marks, which \w lacks.
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in _CAMEL.sub(" ", relation))
    return " ".join("".join(kept).split()).lower() or relation


def _named(end: str, items: Mapping[str, Item]) -> str:
    if end in items:
        return '"' + items[end].name.replace('"', "'") + '"'
    return " ".join(end.replace("_", " ").split())
