"""Rules of a shop or feed in one TOML file: what is proposed, what never, and what comes first.

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

    [[never]]                       # none of these for whoever met one of those
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
import tomllib
from collections import Counter
from collections.abc import Mapping
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

from llmrec.errors import DataError, OptionError, nearest
from llmrec.records import Item
from llmrec.retrieval.bound_rules import Allowed, AtMost, BoundRules, Capped
from llmrec.retrieval.filters import (
    Dates,
    Equals,
    Filter,
    OneOf,
    Range,
    Scalar,
    attribute_values,
    filter_mask,
)

__all__ = ["Allowed", "AtMost", "Boost", "BoundRules", "Capped", "Condition", "Never", "Rules"]

logger = logging.getLogger(__name__)


def _scalar(value: object) -> object:
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is neither text nor a number nor true or false")
    return value


def _date(value: object) -> object:
    if not isinstance(value, date):  # a datetime is one too
        raise ValueError(f"{value!r} is no date; write it without quotes, as 2001-12-31")
    return value


_Scalar = Annotated[Scalar, PlainValidator(_scalar)]
_Date = Annotated[date, PlainValidator(_date)]


class Condition(BaseModel):
    """What must hold of one attribute: one value, one of some, a range, or a span of time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    equals: _Scalar | None = None
    one_of: tuple[_Scalar, ...] | None = None
    at_least: FiniteFloat | None = Field(None, strict=True)
    at_most: FiniteFloat | None = Field(None, strict=True)
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
            self.filter  # noqa: B018 - it says what is wrong with its values
        except OptionError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return self


class Never(Condition):
    """Items that nobody is shown who met an item for which ``after`` holds."""

    after: Condition

    def __str__(self) -> str:
        return f"{super().__str__()} after {self.after}"


class Boost(Condition):
    """Items whose score is raised by ``add`` standard deviations; lowered where it is negative."""

    add: FiniteFloat = Field(strict=True)


class Rules(BaseModel):
    """Rules as a file says them; without any, everything is allowed."""

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
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:  # neither UTF-8 nor TOML: a ValueError
            raise DataError(
                f"The rules '{path}' cannot be read: {error}.",
                hint="Give the path of a TOML file in UTF-8.",
            ) from error
        try:
            rules = cls.model_validate(document)
        except ValidationError as error:
            close = [hint for fault in error.errors() if (hint := _nearest_key(fault))]
            raise DataError(
                f"The rules '{path}' are not usable: {'; '.join(map(_fault, error.errors()))}.",
                hint=" ".join(close) or f"Rules are {', '.join(_MODELS)}.",
            ) from error
        if rules == cls():
            logger.warning("The rules %s hold no rule: everything is allowed.", path)
        return rules

    def bind(self, items: Mapping[str, Item]) -> BoundRules:
        """Make the rules ready for items; what each removes for everybody is logged.

        Raises:
            OptionError: No item has an attribute, or its values cannot be compared.
        """
        rows = tuple(items.values())
        allowed = np.ones(len(rows), dtype=bool)
        removed: Counter[str] = Counter()
        fixed = [(f"keep {rule}", filter_mask(rows, [rule.filter])) for rule in self.keep]
        fixed += [(f"drop {rule}", ~filter_mask(rows, [rule.filter])) for rule in self.drop]
        for name, mask in fixed:
            removed[name] += int(np.count_nonzero(allowed & ~mask))
            allowed &= mask
        if not allowed.any():
            logger.warning("The rules leave none of %d items: %s.", len(rows), _listed(removed))
        elif removed:
            logger.info("Of %d items the rules remove: %s.", len(rows), _listed(removed))
        boosts = np.zeros(len(rows))
        for boost in self.boost:
            boosts += boost.add * filter_mask(rows, [boost.filter])
        never = tuple(
            (
                f"never {rule}",
                filter_mask(rows, [rule.filter]),
                filter_mask(rows, [rule.after.filter]),
            )
            for rule in self.never
        )
        for cap in self.at_most:
            attribute_values(rows, cap.attribute)  # says so where no item has it
        for array in (allowed, boosts):
            array.setflags(write=False)
        row_by_id = {item_id: row for row, item_id in enumerate(items)}
        return BoundRules(boosts, rows, row_by_id, allowed, removed, never, self.at_most)


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


def _listed(removed: Mapping[str, int]) -> str:
    return ", ".join(f"`{rule}` removes {n:,}" for rule, n in removed.items())
