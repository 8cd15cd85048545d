"""The sandbox that models' chat templates run in.

A model folder may come from a stranger, and its chat template is a program. It gets what
transformers gives chat templates, without the clock, and the limits of
:mod:`llmrec.metered_jinja`: beside filters and loops every call and all that it prints is metered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sized
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import safe_range
from jinja2.utils import Namespace

from llmrec.metered_jinja import (
    MOST_MADE,
    Meter,
    MeteredSandbox,
    MeteringOutput,
    meter_of,
    metered,
)

TODAY = "1 January 2025"
"""What a template's clock says: today's date would change prompts from day to day."""

_FILTERS = (
    "abs batch capitalize count d default dictsort e escape first float groupby indent int items "
    "join last length list lower map max min reject rejectattr replace reverse round safe select "
    "selectattr slice sort string sum title trim unique upper wordcount"
)
_TEXT_METHODS = (
    "capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit isnumeric "
    "isspace islower isupper join lower lstrip partition removeprefix removesuffix replace rfind "
    "rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
)
_METHODS: Mapping[type, Collection[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    dict: frozenset({"get", "items", "keys", "values"}),
}
"""The methods that templates may call; others fill texts up to any length, or change values."""
_SECONDS = 1.0  # of processor time; a usual prompt takes a millisecond
_PER_CHARACTER = 100
"""What may be made for each character that a template is given."""


class _Names(Namespace):
    """jinja2's namespace without names that begin with an underscore, which reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (a name may be "self")
        own, *given = args
        for name in (values := dict(*given, **kwargs)):
            _check_name(name)
        Namespace.__init__(own, values)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


class _Generation(Extension):
    """``{% generation %}``, which marks an assistant's text in training, and prints it as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _ChatSandbox(MeteredSandbox):
    """The metered sandbox, with macros, a few methods and text times a number."""

    metering = MeteringOutput

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Calculate; ``'-' * 20`` is counted before it is made."""
        if operator == "*" and isinstance(left, str) and isinstance(right, int):
            meter_of(context).take(len(left) * max(0, right))
            return left * right
        made = super().call_binop(context, operator, left, right)
        whole = isinstance(left, int) and isinstance(right, int) and right >= 0
        return int(made) if operator == "**" and whole else made

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Call a macro, a method or a function that templates are given."""
        owner = getattr(called, "__self__", None)
        for kind, allowed in _METHODS.items():
            if isinstance(owner, kind) and called.__name__ not in allowed:
                raise jinja2.exceptions.SecurityError(f"{called.__name__} may not be called")
        meter = meter_of(context)
        meter.take(1 + (len(owner) if isinstance(owner, str) else 0))
        if isinstance(owner, str) and called.__name__ in {"join", "replace"}:  # repeat a text
            longest = max((len(value) for value in args if isinstance(value, Sized)), default=0)
            meter.take((len(owner) + 1) * (longest + 1))
        made = super().call(context, called, *args, **kwargs)
        meter.count(made)
        return made


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(str(message))


def _strftime_now(form: str) -> str:  # noqa: ARG001 (called with a form)
    return TODAY


def _tojson(value: object, *, indent: int | None = None, **options: Any) -> str:  # noqa: ANN401
    options = {"ensure_ascii": False, **options}
    return json.dumps(value, indent=None if indent is None else min(indent, 16), **options)


def _mapping(*args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    return dict(*args, **kwargs)


def _sandbox() -> _ChatSandbox:
    sandbox = _ChatSandbox(
        _FILTERS.split(), {"tojson": _tojson}, extensions=[_Generation, loopcontrols]
    )
    sandbox.globals.update(
        dict=_mapping,
        namespace=_Names,
        raise_exception=_raise_exception,
        range=safe_range,
        strftime_now=_strftime_now,
    )
    return sandbox


_ENVIRONMENT = _sandbox()


_compiled = lru_cache(maxsize=32)(_ENVIRONMENT.compiled)


def render_chat(source: str, variables: Mapping[str, object]) -> str:
    """Render a chat template.

    Args:
        source: The template.
        variables: ``messages`` and whatever else it may read; ``tools`` and ``documents`` are None,
            as in transformers, which a template tells from undefined.

    Raises:
        One of `FAILURES`: It is no template, refuses, does what templates may not do, or makes or
        takes too much.
    """
    given = {"tools": None, "documents": None, **variables}
    meter = Meter(_SECONDS, MOST_MADE + _PER_CHARACTER * len(repr(given)))
    template = _compiled(source)
    context = template.new_context(metered(given, meter))
    return "".join(template.root_render_func(context))
