"""Conditions on item attributes, as masks over the catalogue.

A mask is applied before the best k are taken, so k results come back where k items satisfy it.
An item without the attribute never satisfies a condition on it.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, get_args

import numpy as np

from llmrec.catalog.values import composed, exact_number, parse_timestamp, parse_truth
from llmrec.errors import OptionError, check_kind, nearest
from llmrec.records import AttributeValue, Item
from llmrec.retrieval.item_table import Column, ItemTable, attribute_column

logger = logging.getLogger(__name__)

Scalar = str | int | float | bool

_LAST_YEAR = 10_000
_MASKS = 64  # conditions whose masks are kept
_SECONDS_OF_A_DAY = 86_400
_CONDITION = re.compile(
    r"\s*(?P<name>[^<>=]+?)\s*(?P<sign>>=|<=|!=|==?|<|>)\s*(?P<value>[^<>=\s].*?)\s*", re.DOTALL
)
_FORMS = (
    "Write name=value, name!=value, name=a|b (one of them), name=low..high (both ends included), "
    "or a number after >=, <=, > or <."
)


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute is ``value``; a list attribute holds it. Text must match exactly.

    Numbers compare as numbers whether written as text or not: ``"1990"`` equals 1990 and 1990.0;
    whole numbers of any size compare exactly. In a column of true and false, in any of their usual
    spellings, the value may have any of them too.
    """

    attribute: str
    value: Scalar

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition.

        Raises:
            OptionError: The two cannot be compared.
        """
        if isinstance(value, tuple):
            return _text(self.value) in map(composed, value)
        if isinstance(value, bool):
            return _truth(self.attribute, self.value) is value
        if isinstance(value, str):
            return _text(self.value) == composed(value)
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
        faults = []
        for allowed in self.values:
            try:
                if Equals(self.attribute, allowed).matches(value):
                    return True
            except OptionError as error:
                faults.append(error)
        if len(faults) == len(self.values):
            raise faults[0]
        return False


@dataclass(frozen=True, slots=True)
class Range:
    """The attribute is a number from ``low`` to ``high``, both included; None: an open end."""

    attribute: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        if (
            not ends
            or any(isinstance(end, float) and math.isnan(end) for end in ends)
            or ends != sorted(ends)
        ):
            raise OptionError(
                f"The filter on {self.attribute!r} has the range {self.low} to {self.high}.",
                hint="Give a number for one end or both, the lower one first.",
            )

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition.

        Raises:
            OptionError: The value is not a number.
        """
        try:
            if isinstance(value, tuple):
                raise ValueError("a list")
            number = exact_number(value) if isinstance(value, str | bool) else value
        except ValueError:
            raise OptionError(
                f"The attribute {self.attribute!r} cannot be compared with a number: "
                f"it holds {value!r}.",
                hint=f"Use {self.attribute}=value for it.",
            ) from None
        low, high = self.low, self.high
        return (low is None or number >= low) and (high is None or number <= high)


@dataclass(frozen=True, slots=True)
class Dates:
    """The attribute is a date or time from ``since`` to ``until``; None: an open end.

    A day is included whole. Where a time has no zone it is taken as UTC. An item's value is an ISO
    8601 text, or seconds since 1970-01-01 UTC; a number below 10,000 is read as a year, not as a
    date.
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
        try:
            seconds = None if _is_year(value) else parse_timestamp(value)
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
        last = float(parse_timestamp(self.until) or 0)
        if isinstance(self.until, datetime):
            return last
        return math.nextafter(last + _SECONDS_OF_A_DAY, -math.inf)


@dataclass(frozen=True, slots=True)
class Not:
    """The attribute is there and does not satisfy ``condition``."""

    condition: Equals | OneOf | Range | Dates

    @property
    def attribute(self) -> str:
        """The attribute of the condition."""
        return self.condition.attribute

    def matches(self, value: AttributeValue) -> bool:
        """Whether an item's value satisfies the condition (OptionError: cannot be compared)."""
        return not self.condition.matches(value)


Filter = Equals | OneOf | Range | Dates | Not
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
            matches = np.array([*_matches(condition, values), False], dtype=bool)
            mask = matches[codes]  # -1, where the attribute is missing, is the last
            while len(self._masks) >= _MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = mask
        return mask


def _matches(condition: Filter, values: Sequence[AttributeValue]) -> list[bool]:
    """Say which values of a column satisfy a condition; those of another kind do not.

    Raises:
        OptionError: No value can be compared with the filter's; of a range or a span of time: not
            even half of them can.
    """
    if isinstance(condition, Not) and isinstance(condition.condition, Equals | OneOf):
        return [not match for match in _matches(condition.condition, values)]
    wanted: tuple[Scalar, ...] = ()
    if isinstance(condition, Equals | OneOf):
        wanted = (condition.value,) if isinstance(condition, Equals) else condition.values
        truths = {*map(parse_truth, wanted)}
        told = [*map(parse_truth, values)]
        if None not in truths and None not in told:
            return [truth in truths for truth in told]
    matches, faults = [], []
    for value in values:
        try:
            matches.append(condition.matches(value))
        except OptionError as error:
            matches.append(False)
            faults.append(error)
    if len(faults) > (len(values) - 1 if wanted else len(values) // 2):
        raise faults[0]
    if faults and not wanted:
        logger.warning(
            "%d of %d values of %s cannot be compared with the filter and do not satisfy it: %s",
            len(faults), len(values), condition.attribute, faults[0].message,
        )  # fmt: skip
    return matches


def parse_filter(text: str) -> Filter:
    """Read a filter as it is written on the command line.

    >>> parse_filter("year=1990..1999")
    Range(attribute='year', low=1990, high=1999)
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
    if sign == "!=":
        condition = parse_filter(f"{name}={value}")
        return condition if isinstance(condition, Not) else Not(condition)
    if sign in {">=", "<"}:
        above = Range(name, low=_number(name, value))
        return above if sign == ">=" else Not(above)
    if sign in {"<=", ">"}:
        below = Range(name, high=_number(name, value))
        return below if sign == "<=" else Not(below)
    low, dots, high = value.partition("..")
    if dots and _is_number(low) and _is_number(high):
        return Range(name, exact_number(low), exact_number(high))
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
    if isinstance(value, bool):
        return str(value).lower()
    return composed(str(int(value) if isinstance(value, float) and value.is_integer() else value))


def _truth(attribute: str, value: Scalar) -> bool:
    truth = parse_truth(value)
    if truth is None:
        raise OptionError(
            f"The attribute {attribute!r} is true or false and cannot be compared with {value!r}.",
            hint=f"Write {attribute}=true or {attribute}=false.",
        )
    return truth


def _is_year(value: AttributeValue) -> bool:
    """Whether a number, or its text, is rather a year than seconds since 1970."""
    try:
        return not isinstance(value, tuple) and abs(exact_number(value)) < _LAST_YEAR
    except ValueError:
        return False


def _is_number(value: str) -> bool:
    try:
        exact_number(value)
    except ValueError:
        return False
    return True


def _number(attribute: str, value: Scalar) -> int | float:
    try:
        return exact_number(value)
    except ValueError:
        raise OptionError(
            f"The attribute {attribute!r} is compared as a number, and {value!r} is none.",
            hint=_FORMS,
        ) from None
