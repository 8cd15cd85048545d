"""``llmrec recommend``: retrieve, rerank, explain."""

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
    UserId,
    refuse_how_to_ask,
)
from llmrec.cli.output import waiting
from llmrec.errors import OptionError
from llmrec.records import Explanation


@ends_well
def recommend(
    index: IndexFolder,
    *,
    user: UserId,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to print.")] = 10,
    candidates: Annotated[
        int, typer.Option(min=1, help="How many to retrieve and rerank; at least -k.")
    ] = 100,
    no_llm: Annotated[
        bool, typer.Option("--no-llm", help="Keep the retriever's order; no model is loaded.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each item printed why it is for the user.")
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="CONDITION",
            help="'year>=1990', 'brand=Acme|Apex', 'year=1990..1999'; all given must hold.",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="TOML file: what to keep, drop, boost, never do, cap in number."
        ),
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items of the user's history too.")
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
    prices: PriceTable = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user: retrieved, reranked by a language model, explained."""
    from llmrec.cli.loading import Asking, ModelChoice, retriever_for, strategies_of
    from llmrec.cli.ranking_view import Answer, print_answer
    from llmrec.explaining import Explainer
    from llmrec.reranking import retrieval_ranking
    from llmrec.retrieval import Index, parse_filter
    from llmrec.retrieval.rules import Rules

    if no_llm and explain:
        raise OptionError(
            "--explain asks the language model, which --no-llm leaves out.", hint="Give one."
        )
    choice = ModelChoice(
        model, device, quantization, tokenizer, concurrency, timeout, prices, skip_layers
    )
    if no_llm:
        refuse_how_to_ask(
            "--no-llm",
            strategy=strategy,
            template=template,
            calibrate=calibrate,
            shuffles=shuffles,
            stop_early=stop_early,
            **choice.given(),
        )
    conditions = [parse_filter(text) for text in filters or ()]
    house_rules = Rules.from_file(rules) if rules else None
    strategies = strategies_of(
        strategy, template, calibrate=calibrate, shuffles=shuffles, stop_early=stop_early, top=k
    )
    asking, rates = Asking(strategies, choice), choice.rates()
    with waiting("Opening the index"):
        opened = Index.open(index)
    person = opened.user(user)
    served = retriever_for(opened, person, house_rules)
    found = served.retriever.retrieve(
        person, max(k, candidates), filters=conditions, include_seen=include_seen
    )
    none_left = (
        "" if found else "No item is left: loosen --filter or --rules, or take --include-seen."
    )
    notes = tuple(note for note in (served.note, none_left) if note)
    if no_llm or not found:
        answer = Answer(retrieval_ranking(person, found), opened.items, notes=notes)
    else:
        reranker, language_model = asking.load(opened)
        with waiting(f"Reranking {len(found)} candidates"):
            ranking = reranker.rerank(person, found)
        explanations: tuple[Explanation, ...] = ()
        if explain:
            with waiting(f"Explaining {min(k, len(found))} items"):
                explanations = Explainer(language_model, opened).explain(
                    person, ranking.item_ids[:k]
                )
        fitted = reranker.weights_key in opened.weights
        answer = Answer(ranking, opened.items, language_model, fitted, explanations, notes, rates)
    print_answer(answer, k, as_json=as_json)
