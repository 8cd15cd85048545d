"""``llmrec fit``: fusion weights from the index's own users."""

from __future__ import annotations

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
    from collections.abc import Mapping
    from pathlib import Path

    from llmrec.retrieval import FittedWeights

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
    """Fit the weight of each signal, and save the weights in the index.

    Each user's last interaction is held out, from popularity too. The weights are fitted to rank it
    high among the candidates retrieved without it.
    """
    from llmrec.cli.ranking_view import model_line
    from llmrec.recommender import Recommender

    if retriever:
        refuse_model_options("--retriever", ask, model)
        _fit_retriever(index, seed=seed, as_json=as_json)
        return
    with waiting("Opening the index"):
        recommender = Recommender.open(index, model=model.load, strategy=ask.make())
    fitted, tried = recommender.fit(
        users=users, n_candidates=n_candidates, seed=seed, progress=True
    )
    reranker = recommender.reranker
    with waiting("Keeping the weights"):
        _keep(index, recommender.index.fingerprint, reranker.weights_key, fitted.weights)
    about = {
        "Lists": f"{fitted.lists:,} in which the held-out item was retrieved, of {tried:,} users",
        "Model": model_line(reranker.model),
        "Kept in": index,
    }
    _print(fitted, reranker.weights_key, tried, about, as_json=as_json)


def _fit_retriever(folder: Path, *, seed: int, as_json: bool) -> None:
    """Fit and save the weights of the retriever's signals."""
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
    """Print fitted weights and the notes under them."""
    few = f"Only {fitted.lists} lists: weights from fewer than {_FEW} are mostly noise."
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
    rows = [
        (name, f"{weight:.3f}", f"{fitted.p_values[name]:.2g}")
        for name, weight in fitted.weights.items()
    ]
    console = screen()
    console.print(table(("Signal", ">weight", ">p-value"), rows), "")
    console.print(fields({**about, "Note": "".join(notes)}))


def _keep(folder: Path, fingerprint: str, key: str, weights: Mapping[str, float]) -> None:
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
    index.with_weights(key, weights).save(folder)
