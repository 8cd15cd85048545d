"""The one jinja2 environment that templates run in, and how it is kept small.

A template is text that somebody may have sent: it reads its variables, loops and decides. It
reaches no files and no Python, and calls nothing but ``.get`` of a mapping.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

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
"""The filters that templates may use: none that is random, and none that makes text of any size."""

_LONGEST_BLOCK = 1_000_000  # characters; a hundred times what any model should read
_TOO_DEEP_OR_BROKEN = (RecursionError, SyntaxError, ValueError, OverflowError)
_WHEN_RENDERING = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


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
    environment.filters = {name: environment.filters[name] for name in FILTERS}
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
        ENVIRONMENT.compile(ENVIRONMENT.parse(source))
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
    code = ENVIRONMENT.compile(source, name=filename, filename=filename)
    return jinja2.Template.from_code(ENVIRONMENT, code, {})


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
        for part in template.blocks[block](template.new_context(dict(variables))):
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
