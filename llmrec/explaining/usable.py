"""Facts, items and profiles without the sentences that speak to a language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True, eq=False)
class UsableItems(Mapping[str, Item]):
    """Items as :func:`without_orders` makes them, each when it is first read."""

    given: Mapping[str, Item]
    _read: dict[str, Item] = field(default_factory=dict, repr=False)

    def __getitem__(self, item_id: str) -> Item:
        if item_id not in self._read:
            self._read[item_id] = without_orders(self.given[item_id])
        return self._read[item_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


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
