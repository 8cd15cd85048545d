"""jinja2's sandbox with a limit on time and on what a template makes.

Templates come from strangers. jinja2's sandbox keeps them from Python; it limits neither memory nor
time. Here a meter counts every text and list entry that a rendering makes and every step of its
loops, and reads the processor time.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

FAILURES = (
    *(jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError),
    *(RecursionError, TypeError, ValueError),
)
"""What rendering a template can raise."""
FILE = "(template)"
"""The file name of compiled templates in tracebacks."""

MOST_MADE = 1_000_000
"""Characters, list entries and loop steps of a rendering; a usual prompt makes thousands."""

_CLOCK_EVERY = 32  # reading it takes a microsecond
_MOST_DIGITS = 15
_METER = "(meter)"  # no template can write these names
_MADE = "(made)"
_STEPS = "(steps)"
# What a filter makes of, or looks for in, each part of its value.
_REPEATING = {"join", "reject", "rejectattr", "replace", "select", "selectattr"}
_FILLING = {"batch", "indent", "slice"}  # as much as a number says
_MAKES = (nodes.List, nodes.Dict, nodes.Compare, nodes.Test)


class Meter:
    """What one rendering may still make, and until when.

    Args:
        seconds: Of processor time.
        most: Characters, list entries and loop steps.
    """

    def __init__(self, seconds: float, most: int = MOST_MADE) -> None:
        self._most = self._left = most
        self._seconds = seconds
        self._until = time.thread_time() + seconds
        self._taken = 0

    def take(self, size: int) -> None:
        """Take what is to be made, before it is.

        Raises:
            ValueError: It is too much, or too late.
        """
        self._left -= size
        self._taken += 1
        if self._left < 0:
            raise ValueError(f"it makes more than {self._most:,} characters, entries and steps")
        if self._taken % _CLOCK_EVERY == 0 and time.thread_time() > self._until:
            raise ValueError(f"it takes more than {self._seconds:g} s")

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


def meter_of(context: Context) -> Meter:
    """The meter of a rendering."""
    meter: Meter = context[_METER]
    return meter


def metered(variables: Mapping[str, object], meter: Meter) -> dict[str, object]:
    """The variables of a rendering, with its meter."""
    return {**variables, _METER: meter}


class Metering(NodeTransformer):
    """Send what repeats, and what is larger or slower than its parts, past the meter."""

    def visit(self, node: nodes.Node) -> nodes.Node:
        """Change a node and what is below it."""
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


class MeteringOutput(Metering):
    """The same for templates with macros: what they print may be kept and not be seen."""

    def visit(self, node: nodes.Node) -> nodes.Node:
        """Change a node and what is below it."""
        node = super().visit(node)
        if isinstance(node, nodes.Output):
            node.nodes = [_filtered(part, _MADE) for part in node.nodes]
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class MeteredSandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, whose operators, tests and filters are metered; it has no globals.

    Args:
        names: The filters of jinja2 that templates may use.
        more: Further filters by name.
        options: Of jinja2's environment.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    metering: type[Metering] = Metering

    def __init__(
        self,
        names: Sequence[str],
        more: Mapping[str, Callable[..., object]] = {},
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, autoescape=False, **options)
        self.globals.clear()
        plain = self.overlay()
        plain.filters = {**self.filters, **more, _MADE: lambda value: value}
        self.filters = {name: _metered(name, plain) for name in (*names, *more, _MADE)}
        self.filters[_STEPS] = _steps

    def compiled(self, source: str) -> jinja2.Template:
        """Compile a template with its meter.

        Raises:
            jinja2.TemplateSyntaxError: It is none, or a filter or test is unknown.
        """
        tree = self.parse(source)
        self.metering().visit(tree)
        code = self.compile(tree, filename=FILE)
        return jinja2.Template.from_code(self, code, self.globals)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Calculate; text times a large number would fill the memory, so only + takes texts."""
        if operator != "+" and not all(isinstance(side, int | float) for side in (left, right)):
            raise TypeError("*, ** and % calculate with numbers only")
        made = math.pow(left, right) if operator == "**" else _OPERATORS[operator](left, right)
        meter_of(context).count(made)
        return made


_OPERATORS = {"+": operator.add, "*": operator.mul, "%": operator.mod}


@jinja2.pass_context
def _steps(context: Context, values: Iterable[object]) -> Iterator[object]:
    meter = meter_of(context)
    for value in values:
        meter.take(1)
        yield value


def _metered(name: str, plain: jinja2.Environment) -> Callable[..., object]:
    """A filter whose cost is taken before it runs and whose result is counted."""

    @jinja2.pass_context  # and so it is not run at compile time, where there is no meter
    def filtered(context: Context, value: Any, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        given = [*args, *kwargs.values()]
        if name == "sum" and any(isinstance(one, list | tuple) for one in given):
            raise TypeError("sum adds numbers only")  # lists would be copied at each step
        numbers = [abs(one) for one in given if isinstance(one, int | float)]
        if name == "round" and max(numbers, default=0) > _MOST_DIGITS:
            raise ValueError(f"round keeps at most {_MOST_DIGITS} digits")
        if name in _REPEATING | _FILLING:
            size = len(value) if isinstance(value, Sized) else len(str(value))
            sizes = [len(one) for one in given if isinstance(one, Sized)]
            longest = max([*sizes, *(numbers if name in _FILLING else ())], default=0)
            meter_of(context).take((size + 1) * (int(longest) + 1))
        made = plain.call_filter(name, value, args, kwargs, context)
        if isinstance(made, Iterator):
            made = list(made)
        meter_of(context).count(made)
        return made

    return filtered
