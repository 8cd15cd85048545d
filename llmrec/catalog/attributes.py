"""Which attributes tell a reader something, and how their values read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmrec.records import AttributeValue, Item

# Columns for machines, and counts: how popular an item is does not belong into its description,
# least of all counted on data that an evaluation holds back.
_FOR_MACHINES = re.compile(
    r"(?:^|_)(?:ids?|isbn|asin|urls?|uri|link|path|image|video|audio|source)$|^(?:n|num|also)_|_count$",
    re.IGNORECASE,
)
_CODE = re.compile(r"https?://\S*|(?=\D*\d)[A-Z0-9]{8,}")


LONGEST_VALUE = 60
"""Characters; longer values are sentences, not attributes."""


def readable_attributes(
    attributes: Mapping[str, AttributeValue],
) -> dict[str, tuple[str, ...]]:
    """The values of each attribute as texts, without columns and codes that serve machines.

    Columns named like an id, an address, a file or a count are left out, whatever they hold, and
    so are values that are addresses or codes. Whole numbers read without ``.0``, bools yes or no.

    >>> readable_attributes({"genres": ("Comedy", "Drama"), "runtime": 81.0, "imdb_id": "tt1"})
    {'genres': ('Comedy', 'Drama'), 'runtime': ('81',)}
    """
    told = {
        name: tuple(text for text in _parts(value) if text.strip() and not _CODE.fullmatch(text))
        for name, value in attributes.items()
        if not _FOR_MACHINES.search(name)
    }
    return {name: texts for name, texts in told.items() if texts}


def named_values(item: Item, *, longest: int = LONGEST_VALUE) -> tuple[tuple[str, str], ...]:
    """List the attribute values that items can share, each with its name: text, never numbers."""
    return tuple(
        (name, text)
        for name, value in item.attributes.items()
        if isinstance(value, (str, tuple))
        for text in readable(name, value, longest=longest)
    )


def readable(name: str, value: AttributeValue, *, longest: int = LONGEST_VALUE) -> tuple[str, ...]:
    """Write out an attribute's values, without those that serve machines or are too long.

    >>> readable("genres", ("Comedy", "Drama")), readable("price", 18.0), readable("imdb_id", "tt1")
    (('Comedy', 'Drama'), ('18',), ())
    """
    values = readable_attributes({name: value}).get(name, ())
    texts = (" ".join(text.split()) for text in values)
    return tuple(dict.fromkeys(text for text in texts if len(text) <= longest))


def value_text(value: AttributeValue) -> str:
    """One attribute's value as people write it: ``Comedy, Drama``, ``81``, ``yes``."""
    return ", ".join(_parts(value))


def _parts(value: AttributeValue) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, float) and value.is_integer():
        return (str(int(value)),)
    return (str(value),)
