"""``llmrec fit``: fusion weights from the index's own users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import (
    AsJson,
    Calibrate,
    Concurrency,
    Device,
    IndexFolder,
    ModelRef,
    Quantization,
    Shuffles,
    SkipLayers,
    StopEarly,
    StrategyNames,
    Templates,
    Timeout,
    TokenizerRef,
    refuse_how_to_ask,
)
from llmrec.cli.output import fields, print_json, screen, table, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmrec.retrieval.weights import FittedWeights

_FEW = 100
"""Lists below which a weight is mostly chance."""


@ends_well
def fit(
    index: IndexFolder,
    *,
    users: Annotated[
        int, typer.Option(min=1, help="Ask the model about so many users' lists at most.")
    ] = 200,
    candidates: Annotated[int, typer.Option(min=2, help="How many to retrieve for a user.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the draw of users.")] = 0,
    retriever: Annotated[
        bool,
        typer.Option(
            "--retriever", help="The retriever's own weights, on all users; no model is asked."
        ),
    ] = False,
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
    as_json: AsJson = False,
) -> None:
    """Fit how much each signal counts, and keep the weights in the index.

    Each user's last interaction is held out, from popularity too, and is to be ranked high among
    the candidates that are retrieved without it.
    """
    from llmrec.cli.loading import Asking, ModelChoice, strategies_of
    from llmrec.cli.ranking_view import model_line
    from llmrec.reranking import fit_weights
    from llmrec.reranking.fitting import hold_out_last, signal_lists
    from llmrec.retrieval import Index

    choice = ModelChoice(
        model, device, quantization, tokenizer, concurrency, timeout, skip_layers=skip_layers
    )
    if retriever:
        refuse_how_to_ask(
            "--retriever",
            strategy=strategy,
            template=template,
            calibrate=calibrate,
            shuffles=shuffles,
            stop_early=stop_early,
            **choice.given(),
        )
        _fit_retriever(index, seed=seed, as_json=as_json)
        return
    strategies = strategies_of(
        strategy, template, calibrate=calibrate, shuffles=shuffles, stop_early=stop_early
    )
    asking = Asking(strategies, choice)
    with waiting("Opening the index"):
        opened = Index.open(index)
    with waiting("Retrieving without each user's last item"):
        held = hold_out_last(opened, candidates=candidates, users=users, seed=seed)
    reranker, language_model = asking.load(held.index)
    lists = signal_lists(reranker, held.lists, progress=True)
    fitted = fit_weights(lists, optional=[strategy.name for strategy in asking.strategies])
    with waiting("Keeping the weights"):
        _keep(index, opened.fingerprint, reranker.weights_key, fitted.weights)
    about = {
        "Lists": f"{fitted.lists:,} where the held-out item was retrieved, of "
        f"{held.tried:,} users tried",
        "Model": model_line(language_model),
    }
    _print(fitted, reranker.weights_key, held.tried, {**about, "Kept in": index}, as_json=as_json)


def _fit_retriever(folder: Path, *, seed: int, as_json: bool) -> None:
    """Fit and keep what each of the retriever's signals counts."""
    from llmrec.retrieval import WEIGHTS_KEY, Index, learn_weights

    with waiting("Opening the index"):
        opened = Index.open(folder)
    fitted = learn_weights(opened, seed=seed, progress=True)
    with waiting("Keeping the weights"):
        _keep(folder, opened.fingerprint, WEIGHTS_KEY, fitted.weights)
    about = {"Lists": f"{fitted.lists:,} users' last interactions", "Kept in": folder}
    _print(fitted, WEIGHTS_KEY, fitted.lists, about, as_json=as_json)


def _print(
    fitted: FittedWeights,
    key: str,
    tried: int,
    about: Mapping[str, object],
    *,
    as_json: bool,
) -> None:
    """Print fitted weights, and what stands under them."""
    few = f"{fitted.lists} lists say little: with fewer than {_FEW}, a weight is mostly chance."
    notes = [few] if fitted.lists < _FEW else []
    if as_json:
        print_json(
            {
                "key": key,
                "weights": fitted.weights,
                "p_values": fitted.p_values,
                "lists": fitted.lists,
                "users_tried": tried,
                "notes": notes,
            }
        )
        return
    shown = table("Signal", ">weight", ">p-value")
    for name, weight in fitted.weights.items():
        shown.add_row(name, f"{weight:.3f}", f"{fitted.p_values[name]:.2g}")
    console = screen()
    console.print(shown, "")
    console.print(fields({**about, "Note": "".join(notes)}))


def _keep(folder: Path, fingerprint: str, key: str, weights: Mapping[str, float]) -> None:
    """Save weights in the index as it is by now: fitting takes minutes, and others write too."""
    from llmrec.errors import StorageError
    from llmrec.retrieval import Index

    index = Index.open(folder)
    if index.fingerprint != fingerprint:
        raise StorageError(
            f"The index {folder} was made anew from other data while its weights were fitted: "
            "they are not kept.",
            hint="Fit them again with `llmrec fit`.",
        )
    index.with_weights(key, weights).save(folder)
