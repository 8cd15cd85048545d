"""Facts, items and profiles without the sentences that speak to a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmrec.explaining.evidence import ABOUT, ASKED, LIKED, REVIEW, SHOWS, TITLE, quoted_name
from llmrec.explaining.instructions import is_instruction, without_instructions
from llmrec.explaining.titles import split_sentences
from llmrec.records import AttributeValue, Evidence, Item

_SENTENCES = (ABOUT, SHOWS, REVIEW)
_SHORT = 6
"""Words of a profile column up to which it is read as a name, not as a sentence."""


def shown_name(item: Item) -> str:
    """An item's name in quotation marks, cut before what speaks to a language model."""
    return quoted_name(without_orders(item))


def without_orders(item: Item) -> Item:
    """An item whose title, attributes and description say nothing to a language model."""
    sentences = [s for s in split_sentences(item.description) if not is_instruction(s)]
    return replace(
        item,
        title=without_instructions(item.title),
        description=" ".join(sentences),
        attributes=usable_profile(item.attributes),
    )


def usable_profile(columns: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
    """Columns without the values that speak to a language model."""

    def usable(value: object) -> bool:
        texts = value if isinstance(value, tuple) else (value,)
        return all(_is_name(text) or not is_instruction(text) for text in map(str, texts))

    return {name: value for name, value in columns.items() if usable(value)}


def usable_fact(fact: Evidence, item: Item) -> Evidence | None:
    """A fact that may be quoted and read; None where it speaks to a language model.

    The title of the item is cut before such words.
    """
    if fact.text.startswith(TITLE):
        return replace(fact, text=f"{TITLE}{shown_name(item)}")
    for beginning in _SENTENCES:
        if fact.text.startswith(beginning):
            return None if is_instruction(fact.text.removeprefix(beginning).strip('"')) else fact
    if fact.text.startswith(LIKED):
        said = fact.text.removeprefix(LIKED)
    else:
        said = fact.text.removeprefix(ASKED).partition(": ")[2] or fact.text
    if fact.kind == "profile" and not _is_name(said):
        return None if is_instruction(said) else fact
    return fact if without_instructions(said) == " ".join(said.split()) else None


def _is_name(text: str) -> bool:
    short = len(text.split()) <= _SHORT
    return short and without_instructions(text) == " ".join(text.split())
