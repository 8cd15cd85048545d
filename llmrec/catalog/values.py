"""Parse one cell of a table into the value of a record; write an attribute as readable text.

Every ``parse_*`` function returns None for a missing value (None, NaN, NaT, blank text, an empty
list) and raises ValueError, which says what is allowed, for a value of another kind. NaN is no
missing rating or time: it is refused, because it is a calculation gone wrong.
"""

from __future__ import annotations

import codecs
import math
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np

from llmrec.documents import MOST_DIGITS
from llmrec.records import AttributeValue, Item

_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59 UTC: a larger number is not in seconds."""
_FACTORS = ((1e14, "milliseconds: divide by 1,000"), (1e17, "microseconds: divide by 1,000,000"))
"""Largest number of a unit, and the unit."""
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,99})")
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)\.\d+([eE][-+]?\d+)?")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_ZONE = re.compile(r"(?<=\d)\s*(UTC|GMT|Z)$|(?<=\d)\s+(?=[-+]\d\d(:?\d\d)?$)")
"""A zone as databases write it: named, or after a space."""
_FLOAT_ID = re.compile(r"\d+\.0+")
_DEEPEST = 32
"""Levels of lists in one value."""
_DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_PLAIN = {str, int, float, bool, list, dict, type(None)}
_TRUTH = dict.fromkeys(("true", "yes", "on", "t", "y", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "f", "n", "0"), False
)

# Columns for machines, and counts: how popular an item is does not belong into its description,
# least of all counted on data that an evaluation holds back.
_FOR_MACHINES = re.compile(
    r"(?:^|_)(?:path|image|video|audio|source)$|^(?:n|num|also)_|_count$", re.IGNORECASE
)
_ID_OR_ADDRESS = re.compile(
    r"(?:^|_)(?:ids?|(?:isbn|ean|gtin|upc)(?:_?\d+)?|barcode(?:_number)?|asin|sku|urls?|uri|link|"
    r"timestamp|unix_\w+)$",
    re.IGNORECASE,
)
_APART = re.compile(r"[\s-]+|(?<=[a-z0-9])(?=[A-Z])")
_CODE = re.compile(r"https?://\S*|(?=\D*\d)[A-Z0-9]{8,}")
LONGEST_VALUE = 60
"""Characters; longer values are sentences, not attributes."""

_ALLOWED_ID = "an id is text or a whole number"
_ALLOWED_RATING = (
    "a rating is a finite number with a decimal point, such as 4.5 (for thumbs 1 and 0), or empty "
    "where there is none"
)
_ALLOWED_TIME = (
    "a timestamp is a number of seconds since 1970, or an ISO date such as 2024-03-01T13:00:00Z"
)
_ALLOWED_TEXT = "text, a number, or a list of texts"
_ALLOWED_ATTRIBUTE = "an attribute is text, a finite number, true or false, or a list of texts"


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


def decoded(content: bytes) -> str:
    """Decode the text of a file: UTF-8, or UTF-16 with a byte-order mark.

    Raises:
        ValueError: It is neither; the message says where, and the way out.
    """
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"not {'UTF-16' if marked else 'UTF-8'} text: byte 0x{error.object[error.start]:02x} "
            f"in line {line:,}; save it as UTF-8 (`iconv -f latin1 -t utf-8` converts Latin-1)"
        ) from error
    if "\0" in text:
        raise ValueError("not UTF-8 text: it holds NUL characters; save it as UTF-8")
    return text


def exact_number(value: str | float | Decimal) -> int | float:
    """Read a number without rounding a whole one: ``"9007199254740993.0"`` is an int.

    Raises:
        ValueError: The value is no finite number, or has over 309 digits.
    """
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value.strip())):
        raise ValueError("it is no number")
    number = Decimal(value) if isinstance(value, str) else value
    if not isinstance(number, int) and not math.isfinite(number):
        raise ValueError("it is no finite number")
    whole_number = int(number)
    if abs(whole_number) >= 10**MOST_DIGITS:
        raise ValueError(f"it has over {MOST_DIGITS} digits")
    return whole_number if number == whole_number else float(number)


def parse_truth(value: object) -> bool | None:
    """Read true and false in the usual spellings (yes, T, Y, on, 1); None for all else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _TRUTH.get(value.strip().casefold())
    return bool(value) if isinstance(value, int | float) and value in {0, 1} else None


def composed(text: str) -> str:
    """Return Unicode text in its composed form (NFC), in which the same letters are equal."""
    return unicodedata.normalize("NFC", text)


def parse_id(value: object) -> str | None:
    """Parse an id: always text, ``'007'`` stays ``'007'``, the whole number 7 becomes ``'7'``.

    Unicode is composed (NFC), so that the same letters make the same id.
    """
    value = python_value(value)
    if isinstance(value, str):
        text = clean(value)
        return None if text is None else composed(text)
    if is_missing(value):
        return None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        raise ValueError(f"{_ALLOWED_ID}; decode bytes to text")
    if isinstance(value, int | float | Decimal):
        try:
            number = exact_number(value)
        except ValueError as error:
            raise ValueError(f"{_ALLOWED_ID}; {error}") from None
        if isinstance(number, int):  # whole floats too: of a column that has gaps
            return str(number)
    raise ValueError(_ALLOWED_ID)


def parse_rating(value: object) -> float | None:
    """Parse a rating: any finite number; NaN is refused."""
    if is_missing(value) and not isinstance(value, float | Decimal):
        return None
    if not isinstance(value, str | float | int | Decimal):
        raise ValueError(_ALLOWED_RATING)
    try:
        return float(exact_number(value))
    except (ValueError, OverflowError):
        raise ValueError(_ALLOWED_RATING) from None


def parse_timestamp(value: object) -> int | float | None:
    """Parse a time into seconds since 1970-01-01 UTC, a float where it has a fraction.

    A date without a zone is taken as UTC, and ``20240301`` as a date, also as the float of a
    column that has gaps. Fractions are kept to the microsecond. NaN is refused.
    """
    value = python_value(value)
    if is_missing(value) and not isinstance(value, float):
        return None
    if (isinstance(value, float | Decimal) and math.isfinite(value)) or (
        isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    ):
        value = exact_number(value)
    if isinstance(value, int) and _DAY.fullmatch(str(value)):
        value = str(value)
    if isinstance(value, str):
        text = value.strip().replace("\u2212", "-").upper()
        text = _ZONE.sub(lambda zone: "Z" if zone[1] else "", text)
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(_ALLOWED_TIME) from None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        seconds: int | float = aware.timestamp()
    elif isinstance(value, date):
        seconds = datetime.combine(value, time(), UTC).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        seconds = value
    else:
        raise ValueError(_ALLOWED_TIME)
    if abs(seconds) > _LAST_SECOND:
        unit = next((unit for most, unit in _FACTORS if abs(seconds) < most), "")
        unit = unit or "nanoseconds: divide by 1,000,000,000"
        raise ValueError(f"{_ALLOWED_TIME}; it seems to be in {unit}")
    return int(seconds) if seconds == int(seconds) else round(seconds, 6)


def parse_text(value: object) -> str | None:
    """Parse free text; a list of texts is joined by line breaks."""
    if isinstance(value, str):
        return clean(value)
    if is_missing(value):
        return None
    if isinstance(value, list | tuple):
        return clean("\n".join(_flat(value)))
    if isinstance(value, int | float | Decimal):
        return str(value if isinstance(value, bool) else _plain_number(value))
    raise ValueError(_ALLOWED_TEXT)


def parse_path(value: object) -> str | None:
    """Parse a path; a decoded ``datasets`` picture or clip gives the path it came from."""
    return parse_text(value.get("path") if isinstance(value, Mapping) else value)


def parse_attribute(value: object) -> AttributeValue | None:
    """Parse an attribute; a list becomes a tuple, a mapping a tuple of ``"key: value"``.

    A mapping in a list is one text. A name or title stands without its key, and ids and addresses
    are left out where there is more.

    >>> parse_attribute([{"id": 18, "name": "Drama"}, {"name": "Tom", "role": "actor"}])
    ('Drama', 'Tom, role: actor')
    """
    if is_missing(value):
        return None
    if isinstance(value, date):  # datetime is one too
        value = value.isoformat()
    elif isinstance(value, time | timedelta | UUID):
        value = str(value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        try:
            number = exact_number(value)
        except ValueError as error:
            raise ValueError(f"{_ALLOWED_ATTRIBUTE}; {error}") from None
        return float(number) if isinstance(value, float) else number
    if isinstance(value, Mapping):
        value = _entries(value)
    if isinstance(value, list | tuple):
        return tuple(_flat(value)) or None
    raise ValueError(_ALLOWED_ATTRIBUTE)


def whole_ids(cells: Sequence[object]) -> list[str] | None:
    """Take ``.0`` from the ids of a csv where each of them has it; None where one has not.

    A program that writes ids with gaps as floats makes ``7.0`` of the id ``7``.
    """
    texts = [str(cell).strip() for cell in cells]
    if any(texts) and all(_FLOAT_ID.fullmatch(text) for text in texts if text):
        return [text.partition(".")[0] for text in texts]
    return None


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
    if all(text.casefold() in {"true", "false"} for text in texts):
        return [None if value is None else parse_truth(value) for value in column]
    if all(_WHOLE.fullmatch(text) or _DECIMAL.fullmatch(text) for text in texts):
        try:
            numbers = [None if value is None else exact_number(str(value)) for value in column]
        except ValueError:  # infinite
            return column
        if all(isinstance(number, int | None) for number in numbers):
            return numbers
        return list(map(_inexact, numbers))
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


def _inexact(number: float | None) -> int | float | None:
    """Make a whole number a float, as the others of its column are, where that keeps its value."""
    return float(number) if number is not None and float(number) == number else number


def _flat(value: object, deepest: int = _DEEPEST) -> list[str]:
    """List the texts of a value, of lists inside it too, without those that are missing.

    Raises:
        ValueError: The lists are too deep in each other, or a number is infinite or too long.
    """
    value = python_value(value)
    if isinstance(value, list | tuple | Mapping):
        if not deepest:
            raise ValueError(f"lists are nested over {_DEEPEST} levels deep")
        if isinstance(value, Mapping):
            value = ", ".join(_entries(value, deepest - 1))
        else:
            return [text for each in value for text in _flat(each, deepest - 1)]
    if isinstance(value, int | float | Decimal) and not is_missing(value):
        try:
            value = value if isinstance(value, bool) else exact_number(value)
        except ValueError as error:
            raise ValueError(f"{_ALLOWED_ATTRIBUTE}; a number in it: {error}") from error
    text = None if is_missing(value) else clean(str(value))
    return [] if text is None else [text]


def _entries(mapping: Mapping[Any, object], deepest: int = _DEEPEST) -> list[str]:
    """Write each value of a mapping as text, as :func:`parse_attribute` says."""
    shown = {key: each for key, each in mapping.items() if not _is_id_or_address(str(key))}
    texts = {str(key): ", ".join(_flat(each, deepest)) for key, each in (shown or mapping).items()}
    return [
        text if key in {"name", "title"} else f"{key}: {text}"
        for key, text in texts.items()
        if text
    ]


def _plain_number(value: float | Decimal) -> float | Decimal:
    exact_number(value)
    return value


def readable_attributes(
    attributes: Mapping[str, AttributeValue],
) -> dict[str, tuple[str, ...]]:
    """Return the values of each attribute as texts, without columns and codes for machines.

    Columns named like an id, an address, a file or a count are left out, and so are texts that
    are addresses or codes. Whole numbers read without ``.0``, bools yes or no.

    >>> readable_attributes({"genres": ("Comedy", "Drama"), "runtime": 81.0, "imdb_id": "tt1"})
    {'genres': ('Comedy', 'Drama'), 'runtime': ('81',)}
    """
    readable = {
        name: tuple(text for text in _parts(value) if text.strip() and not _is_code(text, value))
        for name, value in attributes.items()
        if not _FOR_MACHINES.search(name) and not _is_id_or_address(name)
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


@lru_cache(maxsize=4096)  # every item of every prompt has the same columns
def _is_id_or_address(name: str) -> bool:
    """Whether a column or key holds an id or an address by its name: ``EAN-13``, ``imdbId``."""
    return bool(_ID_OR_ADDRESS.search(_APART.sub("_", name)))


def _is_code(text: str, value: AttributeValue) -> bool:
    """Whether a text of a value is a code or an address; a number is a quantity: 25000000."""
    return isinstance(value, str | tuple) and bool(_CODE.fullmatch(text))


def _parts(value: AttributeValue) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, float) and value.is_integer():
        return (str(int(value)),)
    return (str(value),)
