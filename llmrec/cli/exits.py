"""How a command ends: 0, 1 where it failed, 2 where it was called wrongly, 130 on Ctrl-C."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import typer
from rich.text import Text

from llmrec.cli.output import STDERR, print_json, safe
from llmrec.errors import LlmrecError, OptionError

P = ParamSpec("P")

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130


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

    return run


def _show(error: LlmrecError, *, as_json: bool) -> None:
    STDERR.print(Text.assemble(("Error: ", "bold red"), safe(error.message)), highlight=False)
    if error.hint:
        STDERR.print(safe(error.hint, "cyan"), highlight=False)
    if as_json:
        fault = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        print_json({"error": fault})
