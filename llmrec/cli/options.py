"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmrec.errors import OptionError

_MODEL = "Language model"
_SERVER = "Language model on a server"

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
        help="A hub id, a folder, a .gguf file, a name of `llmrec models list`, "
        "openai:http://host:port/v1#model or vllm:model.",
        show_default="SmolLM2-135M-Instruct",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=_MODEL,
        help="cpu, cuda, cuda:N, mps, or auto: all GPUs, then main memory.",
        show_default="the fastest there is",
    ),
]
Quantization = Annotated[
    Literal["none", "nf4", "int8"],
    typer.Option(rich_help_panel=_MODEL, help="How the model's weights are held."),
]
SkipLayers = Annotated[
    int,
    typer.Option(
        "--skip-layers",
        min=0,
        metavar="N",
        rich_help_panel=_MODEL,
        help="Leave out the last N layers: a little faster, and other scores.",
    ),
]
TokenizerRef = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="REF",
        rich_help_panel=_SERVER,
        help="Of a server's model: its tokens are then counted, not estimated.",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1, rich_help_panel=_SERVER, help="Requests at the same time.", show_default="8"
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        rich_help_panel=_SERVER,
        help="Seconds until silence counts as a failure.",
        show_default="60",
    ),
]
PriceTable = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        rich_help_panel=_SERVER,
        help="TOML or JSON: by model, input and output per million tokens; the cost is printed.",
    ),
]
StrategyNames = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        rich_help_panel=_MODEL,
        help="What it is asked: pointwise, graded, likelihood, listwise, listwise-generated, "
        "setwise, pairwise or tournament. Given more than once, their scores are fused.",
        show_default="likelihood",
    ),
]
Templates = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="NAME",
        rich_help_panel=_MODEL,
        help="A name of `llmrec prompts list`, or a .jinja file; one a strategy.",
        show_default="the strategy's own",
    ),
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        rich_help_panel=_MODEL,
        help="Take off what the model would answer anyway, whatever the candidates or the user.",
    ),
]
Shuffles = Annotated[
    int,
    typer.Option(
        min=0,
        rich_help_panel=_MODEL,
        help="Ask about so many orders of the candidates and average; 0 asks the one given.",
    ),
]
StopEarly = Annotated[
    bool,
    typer.Option(
        "--stop-early",
        rich_help_panel=_MODEL,
        help="Ask for no more --shuffles once the ten best keep their order.",
    ),
]


def refuse_how_to_ask(option: str, **given: object) -> None:
    """Refuse options that say how a model is asked beside one that asks none.

    Args:
        option: The one that asks none.
        given: The others by their names, falsy where they were not given.

    Raises:
        OptionError: One was given.
    """
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if named:
        says = "says" if len(named) == 1 else "say"
        raise OptionError(
            f"{option} asks no model: {', '.join(named)} {says} how one is asked.",
            hint="Leave out the one or the others.",
        )
