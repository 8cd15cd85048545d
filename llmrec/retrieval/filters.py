"""Conditions on item attributes, as masks over the catalogue.

A mask is applied before the best k are taken, so k results come back where k items satisfy it.
An item without the attribute never satisfies a condition on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, get_args

import numpy as np

from llmrec.catalog.values import parse_timestamp
from llmrec.errors import OptionError, check_kind, nearest
from llmrec.records import AttributeValue, Item
from llmrec.retrieval.item_table import Column, ItemTable, attribute_column

Scalar = str | int | float | bool

_LAST_YEAR = 10_000
_MASKS = 64  # conditions whose masks are kept
_SECONDS_OF_A_DAY = 86_400
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_CONDITION = re.compile(
    r"\s*(?P<name>[^<>=]+?)\s*(?P<sign>>=|<=|=)\s*(?P<value>[^<>=\s].*?)\s*", re.DOTALL
)
_FORMS = (
    "Write name=value, name=a|b (one of them), name>=number, name<=number or name=low..high "
    "(both ends included)."
)


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute is ``value``; a list attribute holds it. Text must match exactly.

    Numbers compare as numbers whether written as text or not: ``"1990"`` equals 1990 and 1990.0.
    """

    attribute: str
    value: Scalar

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition.

        Raises:
            OptionError: The two cannot be compared.
        """
        if isinstance(value, tuple):
            return _text(self.value) in value
        if isinstance(value, bool):
            return _truth(self.attribute, self.value) is value
        if isinstance(value, str):
            return _text(self.value) == value
        return _number(self.attribute, self.value) == value


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute equals one of ``values``, each compared like :class:`Equals`."""

    attribute: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise OptionError(
                f"The filter on {self.attribute!r} allows no value.", hint="Give at least one."
            )

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition (OptionError: cannot be compared)."""
        return any(Equals(self.attribute, allowed).matches(value) for allowed in self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """The attribute is a number from ``low`` to ``high``, both included; None: an open end."""

    attribute: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        if not ends or any(math.isnan(end) for end in ends) or ends != sorted(ends):
            raise OptionError(
                f"The filter on {self.attribute!r} has the range {self.low} to {self.high}.",
                hint="Give a number for one end or both, the lower one first.",
            )

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition.

        Raises:
            OptionError: The value is not a number.
        """
        if isinstance(value, (bool, str, tuple)):
            raise OptionError(
                f"The attribute {self.attribute!r} cannot be compared with a number: "
                f"it holds {value!r}.",
                hint=f"Use {self.attribute}=value for it.",
            )
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True, slots=True)
class Dates:
    """The attribute is a date or time from ``since`` to ``until``; None: an open end.

    A day is included whole. Where a time has no zone it is taken as UTC. An item's value is an ISO
    8601 text, or seconds since 1970-01-01 UTC.
    """

    attribute: str
    since: date | None = None
    until: date | None = None

    def __post_init__(self) -> None:
        if self._first > self._last or (self.since is None and self.until is None):
            raise OptionError(
                f"The filter on {self.attribute!r} has the dates {self.since} to {self.until}.",
                hint="Give one end or both, the earlier one first.",
            )

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition.

        Raises:
            OptionError: The value is neither a date nor a time.
        """
        is_year = isinstance(value, (int, float)) and abs(value) < _LAST_YEAR
        try:
            seconds = None if is_year else parse_timestamp(value)
        except ValueError:
            seconds = None
        if seconds is None:
            raise OptionError(
                f"The attribute {self.attribute!r} cannot be compared with a date: "
                f"it holds {value!r}.",
                hint="Dates are written 2001-12-31; compare years as numbers.",
            )
        return self._first <= seconds <= self._last

    @property
    def _first(self) -> float:
        return -math.inf if self.since is None else float(parse_timestamp(self.since) or 0)

    @property
    def _last(self) -> float:
        if self.until is None:
            return math.inf
        whole = 0 if isinstance(self.until, datetime) else _SECONDS_OF_A_DAY - 1
        return float(parse_timestamp(self.until) or 0) + whole


Filter = Equals | OneOf | Range | Dates
"""A condition on one attribute. Several conditions must all hold."""


class AttributeColumns:
    """Attributes of items by column: a condition is checked once a value, not once an item.

    Args:
        items: In the order of the masks.
    """

    def __init__(self, items: Mapping[str, Item]) -> None:
        self.items = items
        self._columns: dict[str, Column] = {}
        self._masks: dict[str, np.ndarray] = {}

    def mask(self, filters: Iterable[Filter]) -> np.ndarray:
        """Say which items satisfy all filters: bool [n_items], all True without filters.

        Raises:
            OptionError: No item has the attribute, or its values cannot be compared with the
                filter's.
        """
        mask = np.ones(len(self.items), dtype=bool)
        for condition in filters:
            mask &= self._mask(condition)
        return mask

    def column(self, name: str) -> Column:
        """Return an attribute of all items.

        Raises:
            OptionError: No item has it.
        """
        if name not in self._columns:
            if isinstance(self.items, ItemTable):
                names = self.items.attributes
                found = self.items.column(name) if name in names else None
            else:
                rows = tuple(self.items.values())
                codes, values = attribute_column(rows, name)
                found = (codes, values) if values else None
                names = () if found else tuple(sorted({n for i in rows for n in i.attributes}))
            if found is None:
                raise OptionError(
                    f"No item has an attribute {name!r}. There are {', '.join(names) or 'none'}.",
                    hint=nearest(name, names),
                )
            self._columns[name] = found
        return self._columns[name]

    def _mask(self, condition: Filter) -> np.ndarray:
        key = repr(condition)  # conditions on 1 and on True are equal, and two
        mask = self._masks.get(key)
        if mask is None:
            codes, values = self.column(condition.attribute)
            matches = np.array([*map(condition.matches, values), False], dtype=bool)
            mask = matches[codes]  # -1, where the attribute is missing, is the last
            while len(self._masks) >= _MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = mask
        return mask


def parse_filter(text: str) -> Filter:
    """Read a filter as it is written on the command line.

    >>> parse_filter("year=1990..1999")
    Range(attribute='year', low=1990.0, high=1999.0)
    >>> parse_filter("brand=Acme|Apex")
    OneOf(attribute='brand', values=('Acme', 'Apex'))

    Raises:
        OptionError: The text has none of the forms.
    """
    check_kind("filter", text, str, "a condition as text", _FORMS)
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise OptionError(f"The filter {text!r} is not understood.", hint=_FORMS)
    name, sign, value = match["name"], match["sign"], match["value"]
    if sign == ">=":
        return Range(name, low=_number(name, value))
    if sign == "<=":
        return Range(name, high=_number(name, value))
    low, dots, high = value.partition("..")
    if dots and _is_number(low) and _is_number(high):
        return Range(name, float(low), float(high))
    if "|" in value:
        return OneOf(name, tuple(part.strip() for part in value.split("|")))
    return Equals(name, value)


_ALLOWED = "a condition as text, a Filter, or a list of them"


def read_filters(given: Any) -> tuple[Filter, ...]:  # noqa: ANN401 - whatever was given
    """Read conditions: one or a list, each a `Filter` or text; None is no condition.

    Raises:
        OptionError: One is neither, or its text has none of the forms.
    """
    if given is None:
        return ()
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
    hint, found = 'Give a list such as ["year>=1990"].', []
    for each in given if several else [given]:
        condition = parse_filter(each) if isinstance(each, str) else each
        found.append(check_kind("filters", condition, get_args(Filter), _ALLOWED, hint))
    return tuple(found)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _truth(attribute: str, value: Scalar) -> bool:
    truth = _TRUTH.get(_text(value).lower())
    if truth is None:
        raise OptionError(
            f"The attribute {attribute!r} is true or false and cannot be compared with {value!r}.",
            hint=f"Write {attribute}=true or {attribute}=false.",
        )
    return truth


def _is_number(value: Scalar) -> bool:
    try:
        return not math.isnan(float(value))
    except ValueError:
        return False


def _number(attribute: str, value: Scalar) -> float:
    if isinstance(value, bool) or not _is_number(value):
        raise OptionError(
            f"The attribute {attribute!r} is compared as a number, and {value!r} is none.",
            hint=_FORMS,
        )
    return float(value)
