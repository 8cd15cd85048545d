"""The one jinja2 environment that templates run in, and how it is kept small.

A template is text that somebody may have sent: it reads its variables, loops and decides. It
reaches no files and no Python, and calls nothing but ``.get`` of a mapping. Every text, list and
number that it makes on its way is counted, so that a few lines cannot fill the memory.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import CodeType
from typing import Literal

import jinja2
from jinja2 import nodes
from jinja2.filters import do_round, make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from llmrec.errors import PromptError, nearest

FILTERS = (
    "capitalize",
    "count",
    "default",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
)
"""The filters that templates may use: none is random, and what each makes is counted."""

_LONGEST_BLOCK = 1_000_000  # characters; a hundred times what any model should read
_MOST_MADE = 2_000_000  # characters and list entries that a block makes on its way to its text
_MOST_DIGITS = 15
_ALLOWANCE = "(allowance)"  # no template can write these two names
_COUNTED = "(counted)"
_GROWING = (nodes.List, nodes.Dict, nodes.Add, nodes.Mul)
_TOO_DEEP_OR_BROKEN = (RecursionError, SyntaxError, ValueError, OverflowError, MemoryError)
_WHEN_RENDERING = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Allowance:
    """What one rendering may still make, in characters and list entries."""

    def __init__(self) -> None:
        self._left = _MOST_MADE

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"it makes texts and lists of more than {_MOST_MADE:,} characters")

    def count(self, made: object) -> None:
        """Count a value as if each text in it were a copy, which printing it would make it."""
        if isinstance(made, (str, int, float)):
            self.take(len(str(made)))
        elif isinstance(made, Mapping):
            self.count(list(made.items()))
        elif isinstance(made, (list, tuple)):
            for part in made:
                self.take(1)
                self.count(part)


def _allowance(context: Context) -> _Allowance:
    allowance: _Allowance = context[_ALLOWANCE]
    return allowance


class _Counting(NodeTransformer):
    """Put a counting filter around every expression that makes something larger than its parts."""

    def visit(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node, nodes.Concat):  # counted before it is made: it may have many parts
            return _filtered(nodes.List(node.nodes, lineno=node.lineno), "join")
        is_slice = isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
        is_tuple = isinstance(node, nodes.Tuple) and node.ctx == "load"
        if isinstance(node, _GROWING) or is_slice or is_tuple:
            return _filtered(node, _COUNTED)
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


@jinja2.pass_context
def _join(
    context: Context, values: Iterable[object], d: str = "", attribute: str | int | None = None
) -> str:
    read = make_attrgetter(context.environment, attribute)
    parts = [read(value) for value in values]
    _allowance(context).take(len(parts) * len(str(d)))
    _allowance(context).count(parts)
    return str(d).join(map(str, parts))


@jinja2.pass_context
def _replace(context: Context, text: object, old: object, new: object, count: int = -1) -> str:
    _allowance(context).take(str(text).count(str(old)) * len(str(new)))
    return str(text).replace(str(old), str(new), count)


def _round(
    value: float, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common"
) -> float:
    if abs(precision) > _MOST_DIGITS:
        raise ValueError(f"round keeps at most {_MOST_DIGITS} digits")
    return do_round(value, precision, method)


def _counting(name: str, environment: jinja2.Environment) -> Callable[..., object]:
    """A filter of ``environment`` whose results are counted, and are no iterators that wait."""

    @jinja2.pass_context  # and so the compiler does not run it, when nothing is counted yet
    def counting(context: Context, value: object, *args: object, **kwargs: object) -> object:
        made = environment.call_filter(name, value, args, kwargs, context)
        if isinstance(made, Iterator):
            made = list(made)
        _allowance(context).count(made)
        return made

    return counting


def _numbers_only(
    calculate: Callable[[float, float], float],
) -> Callable[[object, object], float]:
    """Text times a large number fills the memory: let an operator take numbers alone."""

    def checked(left: object, right: object) -> float:
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return calculate(left, right)
        raise TypeError("*, ** and % calculate with numbers alone")

    return checked


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals.clear()
    inner = environment.overlay()
    inner.filters = {
        **environment.filters,
        "join": _join,
        "replace": _replace,
        "round": _round,
        _COUNTED: lambda value: value,
    }
    environment.filters = {name: _counting(name, inner) for name in (*FILTERS, _COUNTED)}
    environment.intercepted_binops = frozenset({"*", "**", "%"})
    environment.binop_table.update(
        {
            "*": _numbers_only(operator.mul),
            "**": _numbers_only(math.pow),
            "%": _numbers_only(operator.mod),
        }
    )
    return environment


ENVIRONMENT = _environment()


def parse(source: str) -> jinja2.nodes.Template:
    """Parse a template.

    Raises:
        jinja2.TemplateSyntaxError: It is none; ``lineno`` says where.
    """
    try:
        tree = ENVIRONMENT.parse(source)
        # Filters and tests are looked up by the compiler alone.
        _code(source)
    except _TOO_DEEP_OR_BROKEN as error:
        raise jinja2.TemplateSyntaxError(f"cannot be compiled: {error}", 1) from error
    return tree


def syntax_hint(message: str) -> str:
    """The way out of a syntax error."""
    if "No filter named" in message:
        wrong = message.split("'")[1]
        return f"{nearest(wrong, FILTERS)} Filters: {', '.join(FILTERS)}.".lstrip()
    return "prompts/README.md says what a template is made of."


@lru_cache(maxsize=256)
def compiled(source: str, filename: str) -> jinja2.Template:
    """Compile a template that :func:`parse` accepts, once."""
    return jinja2.Template.from_code(ENVIRONMENT, _code(source, filename), {})


def _code(source: str, filename: str | None = None) -> CodeType:
    tree = ENVIRONMENT.parse(source)
    _Counting().visit(tree)
    return ENVIRONMENT.compile(tree, name=filename, filename=filename)


def render_block(
    template: jinja2.Template, block: str, variables: Mapping[str, object], *, name: str
) -> str:
    """Render one block, byte for byte, but for one newline at its end.

    Args:
        template: A compiled template.
        block: The name of a block it has.
        variables: What the block may read.
        name: The template's name, for messages.

    Raises:
        PromptError: The block reads what is not there, or does what templates may not.
    """
    parts: list[str] = []
    size = 0
    try:
        context = template.new_context({**variables, _ALLOWANCE: _Allowance()})
        for part in template.blocks[block](context):
            parts.append(part)
            size += len(part)
            if size > _LONGEST_BLOCK:
                raise ValueError(f"it renders more than {_LONGEST_BLOCK:,} characters")
    except _WHEN_RENDERING as error:
        line = line_of(template, error)
        reason = str(error).replace("'dict object'", "the item's attributes")
        raise PromptError(
            f"Template {name}, line {line}, block {block}: {reason}.",
            hint="For an attribute that some items lack write item.attributes.get('year', '').",
        ) from error
    return "".join(parts).removesuffix("\n")


def line_of(template: jinja2.Template, error: BaseException) -> int:
    """The template's line in which an error was raised: the last of its frames."""
    line = 1
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == template.filename:
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line
