"""The commands by name, and their common options."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
from rich.logging import RichHandler

import llmrec
from llmrec.cli import bench, data, doctor, models, prompts, rerankers
from llmrec.cli.build_index import index
from llmrec.cli.demo import demo
from llmrec.cli.exits import Command, Commands
from llmrec.cli.explain import explain
from llmrec.cli.fit import fit
from llmrec.cli.output import STDERR, visible
from llmrec.cli.recommend import recommend
from llmrec.cli.rerank import rerank
from llmrec.cli.verify import verify

_PANELS = {
    "Try it": (demo, doctor.doctor),
    "Use it": (index, verify, recommend, rerank, explain, fit),
}

app = typer.Typer(
    name="llmrec",
    cls=Commands,
    help="Rerank a user's candidates with a language model, and explain them.",
    epilog="Exit status: 0 success, 1 failure, 2 usage error, 130 interrupted. --json prints "
    "one JSON document on stdout, all else on stderr.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(cls=Command, rich_help_panel=_panel)(_command)
for _name, _group in (
    ("bench", bench.app),
    ("data", data.app),
    ("prompts", prompts.app),
    ("models", models.app),
    ("train", rerankers.app),
    ("tune", rerankers.tune_app),
):
    app.add_typer(_group, name=_name, rich_help_panel="Look closer")
    for _sub_command in _group.registered_commands:
        _sub_command.cls = Command


class _VisibleRecords(logging.Formatter):
    """Log records without what would control the terminal: they quote file names and titles."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record)).plain


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"llmrec {llmrec.__version__}")
        raise typer.Exit


@app.callback()
def _set_up(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log progress on stderr.")
    ] = False,
    version: Annotated[  # noqa: ARG001 (its callback has answered)
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    handler = RichHandler(console=STDERR, show_time=False, show_path=False)
    handler.setFormatter(_VisibleRecords())
    logger = logging.getLogger("llmrec")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
