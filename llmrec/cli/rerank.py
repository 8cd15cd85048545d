"""``llmrec rerank``: rank given candidates, of one user or of a file of requests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import (
    AsJson,
    Calibrate,
    Concurrency,
    Device,
    IndexFolder,
    ModelRef,
    PriceTable,
    Quantization,
    Shuffles,
    SkipLayers,
    StopEarly,
    StrategyNames,
    Templates,
    Timeout,
    TokenizerRef,
)
from llmrec.cli.output import waiting
from llmrec.errors import OptionError


@ends_well
def rerank(
    index: IndexFolder,
    *,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose candidates, with --candidates.")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Item ids, separated by commas.")
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines {"user_id": ..., "candidates": [...]}, and where wanted request_id '
            "and history (item ids, oldest first).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the results of --requests go, one JSON line each. Killed half-way, the "
            "same command goes on where it stopped.",
        ),
    ] = None,
    strategy: StrategyNames = None,
    template: Templates = None,
    calibrate: Calibrate = False,
    shuffles: Shuffles = 0,
    stop_early: StopEarly = False,
    model: ModelRef = None,
    quantization: Quantization = "none",
    device: Device = None,
    skip_layers: SkipLayers = 0,
    tokenizer: TokenizerRef = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    prices: PriceTable = None,
    as_json: AsJson = False,
) -> None:
    """Rerank given candidates: --user and --candidates, or --requests and --out."""
    from llmrec.cli.given_candidates import rerank_one, rerank_requests
    from llmrec.cli.loading import Asking, ModelChoice, strategies_of
    from llmrec.retrieval import Index

    strategies = strategies_of(
        strategy, template, calibrate=calibrate, shuffles=shuffles, stop_early=stop_early
    )
    choice = ModelChoice(
        model, device, quantization, tokenizer, concurrency, timeout, prices, skip_layers
    )
    asking = Asking(strategies, choice)
    choice.rates()  # a table that cannot be read is said before anything is loaded
    with waiting("Opening the index"):
        opened = Index.open(index)
    match user, candidates, requests, out:
        case str(), str(), None, None:
            rerank_one(opened, user, candidates, asking, as_json=as_json)
        case None, None, Path(), Path():
            rerank_requests(opened, requests, out, asking, as_json=as_json)
        case _:
            raise OptionError(
                "Candidates come either from the command line or from a file.",
                hint="Give --user and --candidates, or --requests and --out.",
            )
