"""``llmrec fit``: a gate, or the retriever's weights, from the index's own users."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.options import (
    AsJson,
    IndexFolder,
    ModelOptions,
    StrategyOptions,
    command,
    refuse_model_options,
)
from llmrec.cli.output import fields, print_json, screen, table, waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmrec.reranking import GateFit
    from llmrec.retrieval import FittedWeights, Index

_FEW = 100
"""Lists below which a weight is mostly noise."""


@command
def fit(
    index: IndexFolder,
    *,
    users: Annotated[
        int, typer.Option(min=1, help="Users whose lists the model ranks, at most.")
    ] = 200,
    n_candidates: Annotated[
        int, typer.Option(min=2, help="Candidates to retrieve for a user.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    retriever: Annotated[
        bool,
        typer.Option(
            "--retriever", help="Fit the retriever's own weights, on all users; no language model."
        ),
    ] = False,
    ask: StrategyOptions,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Fit the gate that weighs retriever, popularity and language model, and save it in the index.

    Each user's last interaction is held out, from popularity too. The gate is fitted to rank it
    high among the candidates retrieved without it. The control is the same gate without a language
    model; the gate is used only if it beats the choice without a model by more than one standard
    error (cross-validated).
    """
    from llmrec.cli.ranking_view import cost_line, describe_model, model_line
    from llmrec.recommender import Recommender
    from llmrec.reranking import keep_gate

    if retriever:
        refuse_model_options("--retriever", ask, model)
        _fit_retriever(index, seed=seed, as_json=as_json)
        return
    strategies, rates = ask.make(model.adapter), model.rates()
    with waiting("Opening the index"):
        recommender = Recommender.open(index, model=model.load, strategy=strategies)
    fitted, tried = recommender.fit(
        users=users, n_candidates=n_candidates, seed=seed, progress=True
    )
    reranker = recommender.reranker
    key = reranker.weights_key
    with waiting("Saving the gate"):
        _keep(
            index,
            recommender.index.fingerprint,
            lambda current: keep_gate(current, key, fitted.served),
        )
    notes = [fitted.verdict, *_few(fitted.lists)]
    if as_json:
        print_json(
            {
                "key": key,
                "served": fitted.best,
                "weights": fitted.served.weights,
                "gate": fitted.gate.weights,
                "control": fitted.control.weights,
                "p_values": fitted.p_values,
                "dropped": fitted.dropped,
                "ndcg@10": fitted.ndcg,
                "gate_minus_control": fitted.gain,
                "control_minus_retriever": fitted.control_gain,
                "by_rarity": fitted.rarity,
                "lists": fitted.lists,
                "users_tried": tried,
                "model": describe_model(reranker.model),
                "cost": rates.cost(fitted.usage) if rates else None,
                "notes": notes,
            }
        )
        return
    _print_gate(fitted)
    about = {
        "Lists": f"{fitted.lists:,} in which the held-out item was retrieved, of {tried:,} users",
        "Model": model_line(reranker.model),
        "Cost": cost_line(rates, fitted.usage),
        "Saved in": index,
        "Note": " ".join(notes),
    }
    screen().print(fields(about))


def _fit_retriever(folder: Path, *, seed: int, as_json: bool) -> None:
    """Fit and save the weights of the retriever's signals."""
    from llmrec.retrieval import WEIGHTS_KEY, Index, learn_weights

    with waiting("Opening the index"):
        opened = Index.open(folder)
    fitted: FittedWeights = learn_weights(opened, seed=seed, progress=True)
    with waiting("Saving the weights"):
        _keep(
            folder,
            opened.fingerprint,
            lambda current: current.with_weights(WEIGHTS_KEY, fitted.weights),
        )
    notes = _few(fitted.lists)
    if as_json:
        print_json(
            {
                "key": WEIGHTS_KEY,
                "weights": fitted.weights,
                "p_values": fitted.p_values,
                "lists": fitted.lists,
                "users_tried": fitted.lists,
                "notes": notes,
            }
        )
        return
    rows = [
        (name, f"{weight:.3f}", f"{fitted.p_values[name]:.2g}")
        for name, weight in fitted.weights.items()
    ]
    console = screen()
    console.print(table(("Signal", ">weight", ">p-value"), rows), "")
    about = {"Lists": f"{fitted.lists:,} users' last interactions", "Saved in": folder}
    console.print(fields({**about, "Note": "".join(notes)}))


def _few(lists: int) -> list[str]:
    """A note where there are few lists."""
    few = f"Only {lists} lists: weights from fewer than {_FEW} are mostly noise."
    return [few] if lists < _FEW else []


def _print_gate(fitted: GateFit) -> None:
    """Print weights, nDCG@10 of all rows, and nDCG@10 by rarity."""
    names = dict.fromkeys([*fitted.gate.weights, *fitted.control.weights, *fitted.dropped])
    weights = [
        (
            name,
            *(
                f"{each.weights[name]:+.3f}" if name in each.weights else "-"
                for each in (fitted.gate, fitted.control)
            ),
            f"{fitted.p_values[name]:.2g}" if name in fitted.p_values else "",
        )
        for name in names
    ]
    gains = {"gate": fitted.gain, "control": fitted.control_gain}
    rows = [
        (
            name,
            f"{value.mean:.4f}",
            str(gains.get(name, "")),
            *(_figure(rarity.ndcg[name]) for rarity in fitted.rarity),
        )
        for name, value in fitted.ndcg.items()
    ]
    met = [f"{rarity.name} interactions ({rarity.lists})" for rarity in fitted.rarity]
    heads = ("Row", ">nDCG@10", ">to the row above", *(f">{name}" for name in met))
    console = screen()
    console.print(table(("Feature", ">gate", ">control", ">p-value"), weights), "")
    console.print(table(heads, rows, leave_out=met), "")


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _keep(folder: Path, fingerprint: str, kept_in: Callable[[Index], Index]) -> None:
    """Save weights in the current index: others may have written it while the fit ran."""
    from llmrec.errors import StorageError
    from llmrec.retrieval import Index

    index = Index.open(folder)
    if index.fingerprint != fingerprint:
        raise StorageError(
            f"The index {folder} was rebuilt from other data while its weights were fitted: "
            "they were not kept.",
            hint="Fit them again with `llmrec fit`.",
        )
    kept_in(index).save(folder)
