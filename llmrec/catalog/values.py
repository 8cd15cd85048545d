"""Parse one cell of a table into the value of a record; write an attribute as readable text.

Every ``parse_*`` function returns None for a missing value (None, NaN, NaT, blank text, an empty
list) and raises ValueError, which says what is allowed, for a value of another kind.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np

from llmrec.records import AttributeValue, Item

_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59 UTC: a larger number is not in seconds."""
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)\.\d+([eE][-+]?\d+)?")
_PLAIN = {str, int, float, bool, list, dict, type(None)}
_TRUTH = {"true": True, "false": False, "True": True, "False": False}

# Columns for machines, and counts: how popular an item is does not belong into its description,
# least of all counted on data that an evaluation holds back.
_FOR_MACHINES = re.compile(
    r"(?:^|_)(?:ids?|isbn|asin|urls?|uri|link|path|image|video|audio|source)$|^(?:n|num|also)_|_count$",
    re.IGNORECASE,
)
_CODE = re.compile(r"https?://\S*|(?=\D*\d)[A-Z0-9]{8,}")
LONGEST_VALUE = 60
"""Characters; longer values are sentences, not attributes."""

_ALLOWED_ID = "an id is text or a whole number"
_ALLOWED_RATING = "a rating is a finite number, or empty where there is none"
_ALLOWED_TIME = "a timestamp is a whole number of seconds since 1970, or an ISO date"
_ALLOWED_TEXT = "text, a number, or a list of texts"
_ALLOWED_ATTRIBUTE = "an attribute is text, a number, true or false, or a list of texts"


def is_from(value: object, package: str, *names: str) -> bool:
    """Return whether a value has one of a package's types, without importing the package."""
    module = sys.modules.get(package)
    types = (getattr(module, name, ()) for name in names)
    return module is not None and isinstance(value, tuple(types))


def python_value(value: Any) -> Any:  # noqa: ANN401 - any cell
    """Turn a NumPy scalar or array into Python's own value."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item()  # in nanoseconds it would become an int
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def is_missing(value: object) -> bool:
    """Return whether a cell is None, NaN, NaT, blank text or an empty list or mapping."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, list | tuple | dict):
        return not value
    return type(value).__name__ in {"NaTType", "NAType"}  # pandas' own two, without importing it


def parse_id(value: object) -> str | None:
    """Parse an id: always text, ``'007'`` stays ``'007'``, the whole number 7 becomes ``'7'``."""
    if isinstance(value, str):
        return clean(value)
    if is_missing(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # whole numbers of a column that has gaps
        return str(int(value))
    raise ValueError(_ALLOWED_ID)


def parse_rating(value: object) -> float | None:
    """Parse a rating: any finite number; NaN is refused, because it is a calculation gone wrong."""
    if is_missing(value) and not isinstance(value, float | Decimal):
        return None
    if isinstance(value, bool) or not isinstance(value, str | float | int | Decimal):
        raise ValueError(_ALLOWED_RATING)
    try:
        number = float(value)
    except ValueError:
        raise ValueError(_ALLOWED_RATING) from None
    if not math.isfinite(number):
        raise ValueError(_ALLOWED_RATING)
    return number


def parse_timestamp(value: object) -> int | None:
    """Parse a time into seconds since 1970-01-01 UTC; a date without a zone is taken as UTC."""
    if is_missing(value) and not isinstance(value, float):
        return None
    if isinstance(value, str):
        value = value.strip()
        try:
            value = datetime.fromisoformat(value) if value.count("-") == 2 else float(value)
        except ValueError:
            raise ValueError(_ALLOWED_TIME) from None
    if isinstance(value, datetime):
        seconds = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    elif isinstance(value, date):
        seconds = datetime.combine(value, time(), UTC).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise ValueError(_ALLOWED_TIME)
    if not math.isfinite(seconds):
        raise ValueError(_ALLOWED_TIME)
    if abs(seconds) > _LAST_SECOND:
        raise ValueError(f"{_ALLOWED_TIME}; divide by 1,000 if these are milliseconds")
    return math.floor(seconds)


def parse_text(value: object) -> str | None:
    """Parse free text; a list of texts is joined by line breaks."""
    if isinstance(value, str):
        return clean(value)
    if is_missing(value):
        return None
    if isinstance(value, list | tuple):
        return clean("\n".join(_flat(value)))
    if isinstance(value, int | float | Decimal):
        return str(value)
    raise ValueError(_ALLOWED_TEXT)


def parse_path(value: object) -> str | None:
    """Parse a path; a decoded ``datasets`` picture or clip gives the path it came from."""
    return parse_text(value.get("path") if isinstance(value, Mapping) else value)


def parse_attribute(value: object) -> AttributeValue | None:
    """Parse an attribute; a list becomes a tuple, a mapping a tuple of ``"key: value"``."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float | Decimal):
        return float(value)
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, Mapping):
        value = [
            f"{key}: {', '.join(texts)}" for key, each in value.items() if (texts := _flat(each))
        ]
    if isinstance(value, list | tuple):
        return tuple(_flat(value)) or None
    if isinstance(value, bool | int):
        return value
    raise ValueError(_ALLOWED_ATTRIBUTE)


def split_list(value: AttributeValue | None, separator: str) -> AttributeValue | None:
    """Split text such as ``"Comedy|Drama"`` into a tuple of its parts; others stay as they are."""
    if not isinstance(value, str):
        return value
    return tuple(part for part in map(str.strip, value.split(separator)) if part) or None


def typed(column: Sequence[AttributeValue | None]) -> Sequence[AttributeValue | None]:
    """Give a csv's text column its type where all of it is whole, decimal, or true and false.

    A column with one value such as ``007`` stays text, so that codes keep their zeros.
    """
    texts = [value for value in column if isinstance(value, str)]
    if len(texts) < sum(value is not None for value in column):
        return column
    if all(text in _TRUTH for text in texts):
        return [None if value is None else _TRUTH[str(value)] for value in column]
    if all(_WHOLE.fullmatch(text) for text in texts):
        return [None if value is None else int(str(value)) for value in column]
    if all(_WHOLE.fullmatch(text) or _DECIMAL.fullmatch(text) for text in texts):
        return [None if value is None else float(str(value)) for value in column]
    return column


def whole(column: Sequence[AttributeValue | None]) -> Sequence[AttributeValue | None]:
    """Make a column of floats whole where all are: year 1995.0 was 1995 before it had gaps."""
    numbers = [value for value in column if value is not None]
    if not all(isinstance(value, float) and value.is_integer() for value in numbers):
        return column
    return [int(value) if isinstance(value, float) else None for value in column]


def clean(text: str) -> str | None:
    """Strip text, repair halves of surrogate pairs (they cannot be encoded); None if blank."""
    stripped = text.strip()
    if not stripped.isascii():
        try:
            stripped.encode()
        except UnicodeEncodeError:
            stripped = stripped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return stripped or None


def _flat(value: object) -> list[str]:
    """List the texts of a value, of lists inside it too, without those that are missing."""
    if isinstance(value, list | tuple):
        return [text for each in value for text in _flat(each)]
    text = None if is_missing(value) else clean(str(value))
    return [] if text is None else [text]


def readable_attributes(
    attributes: Mapping[str, AttributeValue],
) -> dict[str, tuple[str, ...]]:
    """Return the values of each attribute as texts, without columns and codes for machines.

    Columns named like an id, an address, a file or a count are left out, and so are values that
    are addresses or codes. Whole numbers read without ``.0``, bools yes or no.

    >>> readable_attributes({"genres": ("Comedy", "Drama"), "runtime": 81.0, "imdb_id": "tt1"})
    {'genres': ('Comedy', 'Drama'), 'runtime': ('81',)}
    """
    readable = {
        name: tuple(text for text in _parts(value) if text.strip() and not _CODE.fullmatch(text))
        for name, value in attributes.items()
        if not _FOR_MACHINES.search(name)
    }
    return {name: texts for name, texts in readable.items() if texts}


def named_values(item: Item, *, longest: int = LONGEST_VALUE) -> tuple[tuple[str, str], ...]:
    """List the text values that items can share, each with its attribute's name; no numbers."""
    return tuple(
        (name, text)
        for name, value in item.attributes.items()
        if isinstance(value, (str, tuple))
        for text in readable(name, value, longest=longest)
    )


def readable(name: str, value: AttributeValue, *, longest: int = LONGEST_VALUE) -> tuple[str, ...]:
    """Return an attribute's values as texts, without those for machines or too long.

    >>> readable("genres", ("Comedy", "Drama")), readable("price", 18.0), readable("imdb_id", "tt1")
    (('Comedy', 'Drama'), ('18',), ())
    """
    values = readable_attributes({name: value}).get(name, ())
    texts = (" ".join(text.split()) for text in values)
    return tuple(dict.fromkeys(text for text in texts if len(text) <= longest))


def value_text(value: AttributeValue) -> str:
    """Return an attribute's value as people write it: ``Comedy, Drama``, ``81``, ``yes``."""
    return ", ".join(_parts(value))


def _parts(value: AttributeValue) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, float) and value.is_integer():
        return (str(int(value)),)
    return (str(value),)
