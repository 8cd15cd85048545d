"""JSON, TOML and YAML of other people, read within limits: what is outside them is a ValueError.

Refused are NaN and infinity (``1e999`` too), numbers of over 309 digits, nesting over 64 levels,
and in YAML duplicate keys and over 100,000 values with aliases written out.
"""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any, NoReturn

import yaml

MOST_DIGITS = 309
"""Digits of a whole number: one with more fits no float."""
MOST_VALUES = 100_000
"""Values of a YAML document, with its aliases written out."""
DEEPEST = 64
"""Levels of lists and mappings in each other."""


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:  # noqa: ANN401 - any JSON
    """Parse one JSON document; ``finite=False`` allows NaN and infinity, as model files hold them.

    Raises:
        ValueError: It is no JSON, or outside the limits.
    """
    hooks: dict[str, Any] = {"parse_int": _whole}
    if finite:
        hooks |= {"parse_float": _finite, "parse_constant": _not_finite}
    try:
        document = json.loads(text, **hooks)
    except RecursionError:
        raise _too_deep() from None
    opened = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else 0
    opened = text.count("[") + text.count("{") if isinstance(text, str) else opened
    if opened > DEEPEST:
        _check(document, finite=False)
    return document


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: It is no TOML, or outside the limits.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    _check(document)
    return document


def parse_yaml(text: str) -> Any:  # noqa: ANN401 - any YAML
    """Parse a YAML document of plain values.

    Raises:
        ValueError: It is no YAML, or outside the limits.
    """
    try:
        document = yaml.load(text, _PlainLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise _too_deep() from None
    _check(document)
    return document


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases that make a document grow without end, and duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - its base's
        """Read a value, counting what it holds with its aliases written out."""
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise yaml.YAMLError("an alias stands inside what it names")
        if not alias:
            inside = node.value if isinstance(node, yaml.CollectionNode) else ()
            each = (
                one for entry in inside for one in (entry if type(entry) is tuple else (entry,))
            )
            self._sizes[id(node)] = 1 + sum(self._sizes[id(one)] for one in each)
        if self._sizes[id(node)] > MOST_VALUES:
            raise yaml.YAMLError(f"it holds over {MOST_VALUES:,} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 - its base's
        """Read a mapping, checking its keys."""
        node = super().compose_mapping_node(anchor)
        found: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key.value!r}", key.start_mark
                )
            found.add(key.value)
        return node


def _check(document: object, *, finite: bool = True) -> None:
    """Refuse deep nesting and, if ``finite``, numbers outside the limits; without recursion."""
    level = [document]
    for _ in range(DEEPEST + 1):
        inside: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inside += value.values()
            elif isinstance(value, list):
                inside += value
            elif finite and isinstance(value, float) and not math.isfinite(value):
                _not_finite(str(value))
            elif finite and isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
                raise _too_long()
        level = inside
        if not level:
            return
    raise _too_deep()


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS + digits.startswith("-"):
        raise _too_long()
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no finite number")


def _too_long() -> ValueError:
    return ValueError(f"a number has over {MOST_DIGITS} digits")


def _too_deep() -> ValueError:
    return ValueError(f"lists and mappings are nested over {DEEPEST} levels deep")
