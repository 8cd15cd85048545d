"""The sandbox that templates run in.

A template may come from a stranger. It reads its variables, loops and decides; it reaches no files
and no Python, and calls only ``.get`` of a mapping. jinja2's sandbox and the checks in
``template.py`` ensure that. What jinja2 does not limit is memory and time: a meter counts every
text and list entry that a block makes and every step of its loops, and reads the processor time.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from llmrec.errors import PromptError

_FILTERS = (
    "capitalize count default first float int items join last length list lower map max min reject "
    "rejectattr replace reverse round select selectattr sort sum title trim unique upper"
)
FILTERS = tuple(_FILTERS.split())
"""The filters that templates may use: none is random, and what each makes is metered."""

_LONGEST_BLOCK = 1_000_000  # characters; a hundred times what a model should read
_MOST_MADE = 1_000_000  # characters, list entries and loop steps of one block
_MOST_SECONDS = 5.0  # of processor time; a usual block takes milliseconds
_CLOCK_EVERY = 32  # reading it takes a microsecond
_MOST_DIGITS = 15

_METER = "(meter)"  # no template can write these names
_MADE = "(made)"
_STEPS = "(steps)"
# What a filter makes of, or looks for in, each part of its value.
_REPEATING = {"join", "replace", "select", "selectattr", "reject", "rejectattr"}
_MAKES = (nodes.List, nodes.Dict, nodes.Compare, nodes.Test)
_WHEN_RENDERING = (
    *(jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError),
    *(RecursionError, TypeError, ValueError),
)


class _Meter:
    """What one block may still make, and until when."""

    def __init__(self) -> None:
        self._left = _MOST_MADE
        self._until = time.thread_time() + _MOST_SECONDS
        self._taken = 0

    def take(self, size: int) -> None:
        self._left -= size
        self._taken += 1
        if self._left < 0:
            raise ValueError(f"it makes more than {_MOST_MADE:,} characters, entries and steps")
        if self._taken % _CLOCK_EVERY == 0 and time.thread_time() > self._until:
            raise ValueError(f"it takes more than {_MOST_SECONDS:g} s")

    def count(self, made: object) -> None:
        """Take a value as if each text in it were a copy, as printing it would make one."""
        if isinstance(made, str):
            self.take(len(made))
        elif isinstance(made, Mapping):
            self.count(list(made.items()))
        elif isinstance(made, list | tuple):
            self.take(len(made))
            for part in made:
                self.count(part)
        elif isinstance(made, int | float):
            self.take(1)
            if abs(made) > 10**_MOST_DIGITS:
                raise ValueError(f"it makes a number of more than {_MOST_DIGITS} digits")


def _meter(context: Context) -> _Meter:
    meter: _Meter = context[_METER]
    return meter


class _Metered(NodeTransformer):
    """Send what repeats, and what is larger or slower than its parts, past the meter."""

    def visit(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node, nodes.For):
            node.iter = _filtered(node.iter, _STEPS)
        if isinstance(node, nodes.Concat):  # its parts are counted before they are joined
            return _filtered(_filtered(nodes.List(node.nodes, lineno=node.lineno), _MADE), "join")
        is_slice = isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
        is_tuple = isinstance(node, nodes.Tuple) and node.ctx == "load"
        if isinstance(node, _MAKES) or is_slice or is_tuple:
            return _filtered(node, _MADE)
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, whose operators, tests and filters are metered."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Calculate; text times a large number would fill the memory, so only + takes texts."""
        if operator != "+" and not all(isinstance(side, int | float) for side in (left, right)):
            raise TypeError("*, ** and % calculate with numbers only")
        made = math.pow(left, right) if operator == "**" else _OPERATORS[operator](left, right)
        _meter(context).count(made)
        return made


_OPERATORS = {"+": operator.add, "*": operator.mul, "%": operator.mod}


@jinja2.pass_context
def _steps(context: Context, values: Iterable[object]) -> Iterator[object]:
    meter = _meter(context)
    for value in values:
        meter.take(1)
        yield value


def _metered(name: str, plain: jinja2.Environment) -> Callable[..., object]:
    """A filter whose cost is taken before it runs and whose result is counted."""

    @jinja2.pass_context  # and so it is not run at compile time, where there is no meter
    def metered(context: Context, value: Any, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        given = [*args, *kwargs.values()]
        if name == "sum" and any(isinstance(one, list | tuple) for one in given):
            raise TypeError("sum adds numbers only")  # lists would be copied at each step
        digits = [abs(one) for one in given if isinstance(one, int | float)]
        if name == "round" and max(digits, default=0) > _MOST_DIGITS:
            raise ValueError(f"round keeps at most {_MOST_DIGITS} digits")
        if name in _REPEATING:
            size = len(value) if isinstance(value, Sized) else len(str(value))
            longest = max((len(one) for one in given if isinstance(one, Sized)), default=0)
            _meter(context).take((size + 1) * (longest + 1))
        made = plain.call_filter(name, value, args, kwargs, context)
        if isinstance(made, Iterator):
            made = list(made)
        _meter(context).count(made)
        return made

    return metered


def _sandbox() -> _Sandbox:
    sandbox = _Sandbox(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    sandbox.globals.clear()
    plain = sandbox.overlay()
    plain.filters = {**sandbox.filters, _MADE: lambda value: value}
    sandbox.filters = {name: _metered(name, plain) for name in (*FILTERS, _MADE)}
    sandbox.filters[_STEPS] = _steps
    return sandbox


_ENVIRONMENT = _sandbox()
_FILE = "(template)"


def parse(source: str) -> nodes.Template:
    """Parse a template, as its author wrote it.

    Raises:
        jinja2.TemplateSyntaxError: It is none; ``lineno`` says where.
    """
    return _ENVIRONMENT.parse(source)


@lru_cache(maxsize=256)
def compiled(source: str) -> jinja2.Template:
    """Compile a template with its meter; raises the same where a filter or test is unknown."""
    tree = parse(source)
    _Metered().visit(tree)
    code = _ENVIRONMENT.compile(tree, filename=_FILE)
    return jinja2.Template.from_code(_ENVIRONMENT, code, {})


def render_block(source: str, block: str, variables: Mapping[str, object], *, name: str) -> str:
    """Render one block, byte for byte, except for one newline at its end.

    Args:
        source: A usable template.
        block: The name of one of its blocks.
        variables: What the block may read.
        name: The template's name, for messages.

    Raises:
        PromptError: The block reads what is missing, does what templates may not do, or makes too
            much.
    """
    template = compiled(source)
    parts: list[str] = []
    size = 0
    try:
        context = template.new_context({**variables, _METER: _Meter()})
        for part in template.blocks[block](context):
            parts.append(part)
            size += len(part)
            if size > _LONGEST_BLOCK:
                raise ValueError(f"it renders more than {_LONGEST_BLOCK:,} characters")
    except _WHEN_RENDERING as error:
        reason = str(error).replace("'dict object'", "the item's attributes")
        raise PromptError(
            f"Template {name}, line {error_line(source, error)}, block {block}: {reason}.",
            hint="For an attribute that some items lack write item.attributes.get('year', '').",
        ) from error
    return "".join(parts).removesuffix("\n")


def error_line(source: str, error: BaseException) -> int:
    """The template's line in which an error was raised: the last of its frames."""
    line = 1
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _FILE:
            line = compiled(source).get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line
