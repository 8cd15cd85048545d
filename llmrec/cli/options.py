"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_MODEL = "Language model"

IndexFolder = Annotated[
    Path, typer.Argument(metavar="INDEX", help="A folder that `llmrec index` made.")
]
DataFolder = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="A folder with items and, where there are any, interactions..."
    ),
]
ColumnFile = Annotated[
    Path | None,
    typer.Option(
        "--columns", metavar="FILE", help="JSON file: how files and columns are called there."
    ),
]
UserId = Annotated[str, typer.Option("--user", metavar="ID", help="Whose candidates.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
]
ModelRef = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="REF",
        rich_help_panel=_MODEL,
        help="A hub id, a folder, a .gguf file or a name of `llmrec models list`.",
        show_default="SmolLM2-135M-Instruct",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=_MODEL,
        help="cpu, cuda, cuda:N or mps.",
        show_default="the fastest there is",
    ),
]
Quantization = Annotated[
    Literal["none", "nf4", "int8"],
    typer.Option(rich_help_panel=_MODEL, help="How the model's weights are held."),
]
Strategy = Annotated[
    str,
    typer.Option(
        metavar="NAME", rich_help_panel=_MODEL, help="What it is asked: likelihood or pointwise."
    ),
]
TemplateRef = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="NAME",
        rich_help_panel=_MODEL,
        help="A name of `llmrec prompts list`, or a .jinja file.",
        show_default="the strategy's own",
    ),
]
