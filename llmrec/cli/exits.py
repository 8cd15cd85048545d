"""Exit statuses: 0 success, 1 failure, 2 wrong usage, 130 Ctrl-C."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any, ParamSpec

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup, TyperOption

from llmrec.cli.output import STDERR, print_json, safe
from llmrec.errors import LlmrecError, OptionError

P = ParamSpec("P")

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
_JSON = "llmrec.json"
_CALLED_WRONGLY: Any = typer.BadParameter.__base__
"""The root of typer's errors of usage, which has no public name in every version."""


def ends_well(command: Callable[P, None]) -> Callable[P, None]:
    """Turn an error of llmrec and Ctrl-C into a message and an exit status, without a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LlmrecError as error:
            _show(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(WRONG_USAGE if isinstance(error, OptionError) else FAILED) from error
        except KeyboardInterrupt as error:
            STDERR.print("Interrupted.", style="yellow")
            raise typer.Exit(INTERRUPTED) from error

    # typer's help would keep the line breaks of the source.
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return run


class Command(TyperCommand):
    """A command that refuses an option of one value given twice, instead of keeping the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own
        """Parse the arguments; the parser names each option as often as it is given."""
        given: Counter[Any] = Counter(self.make_parser(ctx).parse_args(list(args))[2])
        for option, times in given.items():
            several = times > 1 and isinstance(option, TyperOption) and not option.is_flag
            if several and not option.multiple:
                raise typer.BadParameter(
                    f"it is given {times} times and takes one value; give it once.",
                    ctx=ctx,
                    param=option,
                )
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """The commands; with ``--json``, usage errors are JSON too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own
        """Note ``--json`` before parsing, so that a usage error can use it."""
        ctx.meta[_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own
        """Run a command; stderr stays unchanged."""
        try:
            return super().invoke(ctx)
        except _CALLED_WRONGLY as error:
            if ctx.meta[_JSON]:
                _print_error("UsageError", error.format_message())
            raise


def _show(error: LlmrecError, *, as_json: bool) -> None:
    STDERR.print(Text.assemble(("Error: ", "bold red"), safe(error.message)), highlight=False)
    if error.hint:
        STDERR.print(safe(error.hint, "cyan"), highlight=False)
    if as_json:
        _print_error(type(error).__name__, error.message, error.hint)


def _print_error(kind: str, message: str, hint: str = "") -> None:
    """Print an error as the command's JSON document."""
    print_json({"error": {"type": kind, "message": message, "hint": hint}})
