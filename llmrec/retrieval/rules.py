"""Business rules in one TOML file: keep, drop, never, at_most, boost.

    [[keep]]                        # only items for which it holds
    attribute = "in_stock"
    equals = true                   # or one_of = [..], at_least = / at_most = numbers

    [[keep]]
    attribute = "released"
    since = 2001-01-01              # dates without quotes, both included
    until = 2026-01-01

    [[drop]]                        # no item for which it holds
    attribute = "brand"
    equals = "X"

    [[never]]                       # do not recommend these after those
    attribute = "genre"
    equals = "Horror"
    after = { attribute = "genre", equals = "Children" }

    [[at_most]]                     # in one list, of each value
    n = 2
    attribute = "brand"

    [[boost]]                       # standard deviations of the score; negative demotes
    attribute = "brand"
    equals = "Acme"
    add = 0.5

An item without the attribute satisfies no condition on it. Of a list attribute each value counts.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from llmrec.catalog.values import decoded
from llmrec.documents import parse_toml
from llmrec.errors import DataError, OptionError, check_path, nearest
from llmrec.records import Candidate, Item, User
from llmrec.retrieval.filters import AttributeColumns, Dates, Equals, Filter, OneOf, Range, Scalar

logger = logging.getLogger(__name__)


def _scalar(value: object) -> object:
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is neither text nor a number nor true or false")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number; write it without quotes")
    return value


def _date(value: object) -> object:
    if not isinstance(value, date):  # a datetime is one too
        raise ValueError(f"{value!r} is not a date; write it without quotes, as 2001-12-31")
    return value


_Scalar = Annotated[Scalar, PlainValidator(_scalar)]
_Number = Annotated[int | float, PlainValidator(_number)]
_Date = Annotated[date, PlainValidator(_date)]


class Condition(BaseModel):
    """A condition on one attribute: a value, several values, a range, or a span of time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    equals: _Scalar | None = None
    one_of: tuple[_Scalar, ...] | None = None
    at_least: _Number | None = None
    at_most: _Number | None = None
    since: _Date | None = None
    until: _Date | None = None

    @property
    def filter(self) -> Filter:
        """The condition as a filter."""
        if self.equals is not None:
            return Equals(self.attribute, self.equals)
        if self.one_of is not None:
            return OneOf(self.attribute, self.one_of)
        if self.since is not None or self.until is not None:
            return Dates(self.attribute, self.since, self.until)
        return Range(self.attribute, self.at_least, self.at_most)

    def __str__(self) -> str:
        kinds = [(name, getattr(self, name)) for name in Condition.model_fields]
        return " ".join(
            [self.attribute, *(f"{k} {v}" for k, v in kinds[1:] if v is not None)],
        )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [
            self.equals is not None,
            self.one_of is not None,
            self.at_least is not None or self.at_most is not None,
            self.since is not None or self.until is not None,
        ]
        if sum(kinds) != 1:
            raise ValueError(
                "give one of equals, one_of, at_least and at_most, since and until; "
                f"there are {sum(kinds)} of them"
            )
        try:
            self.filter  # noqa: B018 - raises for invalid values
        except OptionError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return self


class Never(Condition):
    """Items hidden from users with an item in their history that matches ``after``."""

    after: Condition

    def __str__(self) -> str:
        return f"{super().__str__()} after {self.after}"


class Boost(Condition):
    """Items whose score is raised by ``add`` standard deviations; lowered where it is negative."""

    add: FiniteFloat = Field(strict=True)


class AtMost(BaseModel):
    """How many items of each value of an attribute one list may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    n: int = Field(ge=1, strict=True)

    def __str__(self) -> str:
        return f"{self.n} of each {self.attribute}"


class Rules(BaseModel):
    """The rules of one file; without any, everything is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: tuple[Condition, ...] = ()
    drop: tuple[Condition, ...] = ()
    never: tuple[Never, ...] = ()
    at_most: tuple[AtMost, ...] = ()
    boost: tuple[Boost, ...] = ()

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read rules from a TOML file.

        Raises:
            DataError: The file cannot be read, is not TOML, or holds a key or value that is not
                allowed; the nearest valid key is named.
        """
        path = check_path("rules", path)
        try:
            document = parse_toml(decoded(path.read_bytes()))
        except (OSError, ValueError) as error:  # neither UTF-8 nor TOML: a ValueError
            raise DataError(
                f"The rules '{path}' cannot be read: {error}.",
                hint="Give the path of a TOML file in UTF-8, as docs/data.md#rules describes.",
            ) from error
        try:
            rules = cls.model_validate(document)
        except ValidationError as error:
            close = [hint for fault in error.errors() if (hint := _nearest_key(fault))]
            raise DataError(
                f"The rules '{path}' are not usable: {'; '.join(map(_fault, error.errors()))}.",
                hint=" ".join(close) or f"Rules are {', '.join(_MODELS)}; see docs/data.md#rules.",
            ) from error
        if rules == cls():
            logger.warning("The rules %s hold no rule: everything is allowed.", path)
        return rules

    def bind(self, columns: AttributeColumns) -> BoundRules:
        """Evaluate the rules on items; what each removes for everybody is logged.

        Raises:
            OptionError: No item has an attribute, or its values cannot be compared.
        """

        def mask(rule: Condition) -> np.ndarray:
            return columns.mask([rule.filter])

        items = columns.items
        allowed = np.ones(len(items), dtype=bool)
        removed: dict[str, int] = {}
        fixed = [(f"keep {rule}", mask(rule)) for rule in self.keep]
        fixed += [(f"drop {rule}", ~mask(rule)) for rule in self.drop]
        for name, kept in fixed:
            removed[name] = removed.get(name, 0) + int(np.count_nonzero(allowed & ~kept))
            allowed &= kept
        listed = ", ".join(f"`{rule}` removes {n:,}" for rule, n in removed.items())
        if not allowed.any():
            logger.warning("The rules leave none of %d items: %s.", len(items), listed)
        elif removed:
            logger.info("Of %d items the rules remove: %s.", len(items), listed)
        boosts = np.zeros(len(items))
        for boost in self.boost:
            boosts += boost.add * mask(boost)
        for cap in self.at_most:
            columns.column(cap.attribute)  # raises where no item has it
        never = tuple((f"never {rule}", mask(rule), mask(rule.after)) for rule in self.never)
        for array in (allowed, boosts):
            array.setflags(write=False)
        return BoundRules(items, allowed, boosts, never, self.at_most)


@dataclass(frozen=True, eq=False)
class BoundRules:
    """Rules evaluated on items, once for all users.

    Attributes:
        items: The items.
        everybody: bool [n_items], read-only: what ``keep`` and ``drop`` allow.
        boosts: float64 [n_items], read-only, to add to the standardised score.
        never: Each rule's name, what it removes, and what must have been met for that.
        at_most: Caps on one list.
    """

    items: Mapping[str, Item]
    everybody: np.ndarray
    boosts: np.ndarray
    never: tuple[tuple[str, np.ndarray, np.ndarray], ...]
    at_most: tuple[AtMost, ...]

    def allowed(self, user: User, met: Sequence[int]) -> np.ndarray:
        """Return what a user may be shown, bool [n_items]; ``met`` is the rows of the history."""
        mask = self.everybody.copy()
        for name, these, after in self.never:
            if after[list(met)].any():
                count = np.count_nonzero(mask & these)
                logger.info("Of user %s's items '%s' removes %d.", user.user_id, name, count)
                mask &= ~these
        return mask

    def cap(self, candidates: Sequence[Candidate], k: int) -> tuple[Candidate, ...]:
        """Take the first k candidates within the caps.

        Args:
            candidates: Best first; more than k, to replace those removed.
            k: How many; fewer come back only where no more candidates may be shown.
        """
        counts: defaultdict[AtMost, Counter[object]] = defaultdict(Counter)
        left: list[Candidate] = []
        removed: Counter[str] = Counter()
        for candidate in candidates:
            if len(left) == k:
                break
            item = self.items[candidate.item_id]
            kinds = [(rule, _values(item, rule.attribute)) for rule in self.at_most]
            full = [r for r, values in kinds if any(counts[r][v] >= r.n for v in values)]
            if full:
                removed[f"at_most {full[0]}"] += 1
                continue
            for rule, values in kinds:
                counts[rule].update(values)
            left.append(candidate)
        if removed:
            logger.info("The rules remove candidates: %s.", dict(removed))
        return tuple(left)


def _values(item: Item, attribute: str) -> set[object]:
    value = item.attributes.get(attribute)
    return set(value) if isinstance(value, tuple) else set() if value is None else {value}


_MODELS: Mapping[str, type[BaseModel]] = {
    "keep": Condition,
    "drop": Condition,
    "never": Never,
    "at_most": AtMost,
    "boost": Boost,
}


def _fault(fault: ErrorDetails) -> str:
    """Say in one clause what pydantic found."""
    where = ".".join(map(str, fault["loc"])) or "the file"
    if fault["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    if fault["type"] == "tuple_type":
        return f"{where}: one rule is written under [[{where}]], in double brackets"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"


def _nearest_key(fault: ErrorDetails) -> str:
    if fault["type"] != "extra_forbidden":
        return ""
    key, *inside = reversed(fault["loc"])
    model = Condition if "after" in inside else _MODELS[str(inside[-1])] if inside else Rules
    fields = ", ".join(model.model_fields)
    return nearest(str(key), model.model_fields) or f"Allowed are {fields}."
