"""The sandbox that templates run in.

A template may come from a stranger. It reads its variables, loops and decides; it reaches no files
and no Python, and calls only ``.get`` of a mapping. jinja2's sandbox and the checks in
``template.py`` ensure that; :mod:`llmrec.metered_jinja` limits memory and time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from llmrec.errors import PromptError
from llmrec.metered_jinja import FAILURES, FILE, Meter, MeteredSandbox, metered
from llmrec.prompting.fields import Shown

_FILTERS = (
    "capitalize count default first float int items join last length list lower map max min reject "
    "rejectattr replace reverse round select selectattr sort sum title trim unique upper"
)
FILTERS = tuple(_FILTERS.split())
"""The filters that templates may use: none is random, and what each makes is metered."""

_LONGEST_BLOCK = 1_000_000  # characters; a hundred times what a model should read
_MOST_SECONDS = 5.0  # of processor time; a usual block takes milliseconds


class _Sandbox(MeteredSandbox):
    """The metered sandbox, which knows the records that templates read."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        """A record has its fields alone: jinja2's search for more takes most of a loop."""
        if type(obj) is Shown:
            return not attr.startswith("_")
        return super().is_safe_attribute(obj, attr, value)


_ENVIRONMENT = _Sandbox(FILTERS, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def parse(source: str) -> nodes.Template:
    """Parse a template, as its author wrote it.

    Raises:
        jinja2.TemplateSyntaxError: It is none; ``lineno`` says where.
    """
    return _ENVIRONMENT.parse(source)


@lru_cache(maxsize=256)
def compiled(source: str) -> jinja2.Template:
    """Compile a template with its meter; raises the same where a filter or test is unknown."""
    return _ENVIRONMENT.compiled(source)


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
        context = template.new_context(metered(variables, Meter(_MOST_SECONDS)))
        for part in template.blocks[block](context):
            parts.append(part)
            size += len(part)
            if size > _LONGEST_BLOCK:
                raise ValueError(f"it renders more than {_LONGEST_BLOCK:,} characters")
    except FAILURES as error:
        reason = str(error).replace("'dict object'", "the item's attributes")
        raise PromptError(
            f"Template {name}, line {error_line(source, error)}, block {block}: {reason}.",
            hint="For an attribute that some items lack write item.attributes.get('year', '')."
            if isinstance(error, jinja2.UndefinedError)
            else "",
        ) from error
    return "".join(parts).removesuffix("\n")


def error_line(source: str, error: BaseException) -> int:
    """The template's line in which an error was raised: the last of its frames."""
    line = 1
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == FILE:
            line = compiled(source).get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line
