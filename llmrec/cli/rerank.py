"""``llmrec rerank``: rank given candidates, of one user or of a file of requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.exits import FAILED
from llmrec.cli.options import (
    AsJson,
    ItemTable,
    ModelOptions,
    OptionalIndex,
    StrategyOptions,
    command,
    split_names,
)
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.errors import OptionError

if TYPE_CHECKING:
    from llmrec.reranking import Strategy


_ID_NOTE = "Some candidates are ids without a title: give titles, --items ITEMS or INDEX."


@command
def rerank(
    index: OptionalIndex = None,
    *,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the user, with --candidates.")
    ] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,C", help="Item ids of the index; commas or repeated."),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines {"history": [...], "candidates": [...]}: titles, ids or items; '
            "optional: user_id, profile, query, request_id. Or .csv or .parquet: one row a user "
            "and candidate. See docs/data.md#request-files.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Results of --requests: JSON lines, or .csv or .parquet with score and rank. Run "
            "the same command to resume.",
        ),
    ] = None,
    items: ItemTable = None,
    ask: StrategyOptions,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Rerank candidates: --requests and --out, or INDEX with --user and --candidates.

    No index is needed for requests that bring their own items, or name those of --items. "moved"
    counts the places that an item went up or down against the retriever's order; "Fallbacks" count
    what did not go as requested.
    """
    from llmrec.cli.ranking_view import print_recommendation
    from llmrec.recommender import Recommender

    strategies, rates = ask.make(model.adapter), model.rates()
    match index, user, candidates, requests, out, items:
        case Path(), str(), list(), None, None, None:
            with waiting("Opening the index"):
                recommender = Recommender.open(index, model=model.load, strategy=strategies)
            ids = split_names(candidates, recommender.index.items.__contains__)
            with waiting(f"Reranking {len(ids)} candidates"):
                found = recommender.rerank(user, ids)
            print_recommendation(found, recommender.model, rates, as_json=as_json)
        case _, None, None, Path(), Path(), _ if not (index and items):
            _rerank_file(index, requests, out, items, strategies, model, as_json=as_json)
        case _:
            raise OptionError(
                "Candidates come either from the command line or from a file.",
                hint="Give INDEX, --user and --candidates; or --requests and --out, with INDEX or "
                "--items where the requests name ids.",
            )


def _rerank_file(
    index: Path | None,
    requests: Path,
    out: Path,
    items: Path | None,
    strategies: tuple[Strategy, ...],
    model: ModelOptions,
    *,
    as_json: bool,
) -> None:
    """Answer a file of requests and print the counts; exit status 1 if one failed."""
    from llmrec.cli.ranking_view import (
        cost_line,
        describe_model,
        fallbacks_line,
        model_line,
        tokens_line,
    )
    from llmrec.prompting import Context
    from llmrec.reranking import Reranker, items_context
    from llmrec.reranking.driver import window_of
    from llmrec.reranking.rankings import ID_AS_TITLE
    from llmrec.reranking.request_files import check_requests, rank_file

    check_requests(requests)  # fails before a model is loaded
    known: Context | None
    settings: tuple[object, ...]
    if index is not None:
        from llmrec.recommender import Recommender

        with waiting("Opening the index"):
            recommender = Recommender.open(index, model=model.load, strategy=strategies)
        known, rank, reranker = recommender.context, recommender.rank_many, recommender.reranker
        opened = recommender.index
        gate = opened.gates.get(reranker.weights_key, {})
        settings = (dict(gate), opened.fingerprint, opened.encoder)
    else:
        known = items_context(items) if items else None
        reranker = Reranker(model.load(), strategy=strategies)
        rank, settings = reranker.rank_many, (items and items.read_bytes(),)
    about = describe_model(reranker.model)
    placement = about.get("device"), about.get("dtype")
    outcome = rank_file(
        requests,
        out,
        rank,
        known=known,
        settings=repr((reranker.weights_key, placement, *settings)),
        window=window_of(reranker.model),
        progress=True,
    )
    rates = model.rates()
    if as_json:
        cost = rates.cost(outcome.usage) if rates else None
        print_json({"out": out, "outcome": outcome, "model": about, "cost": cost})
    else:
        done = outcome.reranked + outcome.resumed
        rows = {
            "Results": out,
            "Requests": f"{done:,}: {outcome.reranked:,} in this run, {outcome.resumed:,} before",
            "Answered": f"{done - outcome.failed:,}",
            "Failed": f"{outcome.failed:,}: see error in the results" if outcome.failed else "",
            "Incomplete": f"{outcome.incomplete:,}: a server did not answer some prompts"
            if outcome.incomplete
            else "",
            "Fallbacks": fallbacks_line(outcome.fallbacks),
            "Note": "" if ID_AS_TITLE not in outcome.fallbacks else _ID_NOTE,
            "Model": model_line(reranker.model),
            "Tokens": tokens_line(outcome.usage),
            "Cost": cost_line(rates, outcome.usage),
        }
        screen().print(fields(rows))
    if outcome.failed:
        raise typer.Exit(FAILED)
