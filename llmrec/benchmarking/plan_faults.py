"""What is wrong with a benchmark file, said so that its writer can mend it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml
from pydantic_core import ErrorDetails

from llmrec.errors import OptionError, nearest

_EXAMPLES: Mapping[str, str] = {
    "fields": "{short: {description: 0}}",
    "variants": "{pointwise/plain-list: [my/pointwise/other.jinja]}",
}
"""How keys that hold names of the writer's own are written."""


def refusal(where: str, faults: Sequence[ErrorDetails], usual: Mapping[str, object]) -> OptionError:
    """The error that names every key and value that is not allowed, what is, and the way out.

    Args:
        where: What was read.
        faults: As pydantic found them.
        usual: The allowed keys, with what each holds where it is left out.
    """
    # A list whose entries were all refused counts as empty too: that it is not.
    told = [fault for fault in faults if fault["type"] != "too_short" or not fault["input"]]
    messages = dict.fromkeys(_message(fault) for fault in told)
    hints = dict.fromkeys(filter(None, (_hint(fault, usual) for fault in told)))
    if any(fault["type"] == "extra_forbidden" for fault in told) and not hints:
        hints[f"Allowed are {', '.join(usual)}."] = None
    said = "; ".join(messages)
    return OptionError(
        f"{where}: {said}{'' if said.endswith('?') else '.'}",
        hint=" ".join(hints) or "`llmrec bench schema` tells what each key takes.",
    )


def _message(fault: ErrorDetails) -> str:
    kind, place = fault["type"], fault["loc"]
    key = ".".join(part for part in place if isinstance(part, str)) or "the file"
    if kind == "extra_forbidden":
        return f"unknown key {key!r}"
    said = fault["msg"].removeprefix("Value error, ")
    if kind in {"missing", "value_error"}:
        return f"{key}: {said}"
    wanted = {
        "tuple_type": "a list is wanted",
        "dict_type": "names are wanted, and after each what it stands for",
        "path_type": "a path is wanted",
        "too_short": "at least one is needed",
        "literal_error": f"allowed is {_expected(fault)}",
    }.get(kind, f"{said[:1].lower()}{said[1:]}")
    verb = "has" if place and isinstance(place[-1], int) else "is"
    return f"{key} {verb} {fault['input']!r}: {wanted}"


def _hint(fault: ErrorDetails, usual: Mapping[str, object]) -> str:
    kind, value = fault["type"], fault["input"]
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    if kind == "extra_forbidden":
        return nearest(key, usual)
    if kind == "missing":
        return "It begins like index: INDEX."
    if kind == "literal_error":
        return nearest(str(value), re.findall(r"'([^']*)'", _expected(fault)))
    if kind == "tuple_type":
        return f"Write it as {key}: {_as_list(value, usual.get(key))}."
    if kind == "dict_type" and key in _EXAMPLES:
        return f"Write it as {key}: {_EXAMPLES[key]}."
    return ""


def _expected(fault: ErrorDetails) -> str:
    return str(fault.get("ctx", {}).get("expected", ""))


def _as_list(value: object, usual: object) -> str:
    """The list that was meant by one value, or by several with commas; else what is usual."""
    entries: list[object] = [value] if isinstance(value, int | float) else []
    if isinstance(value, str):
        entries = [part.strip() for part in value.split(",") if part.strip()]
    if not entries and isinstance(usual, tuple):
        entries = list(usual)
    shown = yaml.safe_dump(entries or ["A", "B"], default_flow_style=True, width=10_000)
    return shown.strip()
