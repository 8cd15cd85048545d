"""``llmrec recommend``: retrieve, rerank, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import (
    AsJson,
    ExplainText,
    IndexFolder,
    ModelOptions,
    StrategyOptions,
    UserId,
    command,
    refuse_model_options,
)
from llmrec.cli.output import waiting
from llmrec.errors import OptionError


@command
def recommend(
    index: IndexFolder,
    *,
    user: UserId,
    k: Annotated[int, typer.Option("-k", min=1, help="Items to print.")] = 10,
    n_candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of items to retrieve and rerank, at least -k.",
            show_default="100, or -k if that is more",
        ),
    ] = None,
    no_llm: Annotated[
        bool, typer.Option("--no-llm", help="Keep the retriever's order; load no language model.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain each item that is printed.")
    ] = False,
    text: ExplainText = "statements",
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="CONDITION",
            help="'year>=1990', 'price<50', 'brand=Acme|Apex', 'brand!=Acme', 'year=1990..1999'; "
            "all given must hold.",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file of rules: keep, drop, never, at_most, boost; see docs/data.md#rules.",
        ),
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Include items of the user's history.")
    ] = False,
    always_ask: Annotated[
        bool,
        typer.Option(
            "--always-ask",
            help="Ask the model even if `llmrec fit` gave it the weight 0, which changes no order.",
        ),
    ] = False,
    ask: StrategyOptions,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user: retrieved, reranked by a language model, explained.

    "moved" counts the places that an item went up or down against the retriever's order.
    "Fallbacks" count what did not go as requested, each with its meaning.
    """
    from llmrec.cli.ranking_view import print_recommendation
    from llmrec.explaining.explainer import check_text_options
    from llmrec.recommender import Recommender

    check_text_options(text, None)
    if text != "statements" and not explain:
        raise OptionError(f"--text {text} is given without --explain.", hint="Give --explain too.")
    if no_llm and text == "written":
        raise OptionError("--text written needs a language model; --no-llm loads none.")
    if no_llm:
        refuse_model_options("--no-llm", ask, model)
    strategies, rates = ask.make(model.adapter, top=k), model.rates()
    with waiting("Opening the index"):
        recommender = Recommender.open(
            index,
            model=None if no_llm else model,
            strategy=strategies,
            rules=rules,
            explain_text=text,
        )
    with waiting(f"Recommending to {user}"):
        found = recommender.recommend(
            user,
            k,
            n_candidates=n_candidates,
            explain=explain,
            filters=filters or (),
            include_seen=include_seen,
            always_ask=always_ask,
        )
    asked = recommender.model if found.usage.prompts else None
    print_recommendation(found, asked, rates, as_json=as_json)
