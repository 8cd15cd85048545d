"""``llmrec explain``: why this item for this user."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.options import (
    AsJson,
    ExplainText,
    ItemTable,
    ModelOptions,
    OptionalIndex,
    command,
    split_names,
)
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.errors import OptionError

if TYPE_CHECKING:
    from llmrec.models import LanguageModel
    from llmrec.reranking import Request
    from llmrec.reranking.removal import Reasons
    from llmrec.retrieval import Index


@command
def explain(
    index: OptionalIndex = None,
    *,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Id of the user.")
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="ID", help="Item ids of the index; commas or repeated."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="ID", help="Compare the item's ranking with another item's."
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Requests (docs/data.md) with the items to explain as candidates."
        ),
    ] = None,
    items: ItemTable = None,
    text: ExplainText = "statements",
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="An explain template, or a .jinja file, for --text written.",
            show_default="explain/shopper",
        ),
    ] = None,
    weigh: Annotated[
        bool,
        typer.Option(
            "--weigh",
            help="Weigh the evidence: how far the item's score falls without it, among the user's "
            "candidates.",
        ),
    ] = False,
    entailment: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="NLI cross-encoder that must infer each claim from its evidence."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML card of each item too.")
    ] = None,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Explain items to a user: INDEX with --user and --item, or --requests.

    Each text is shown with the evidence that it was checked against. Only --text written, --weigh
    and --against load a language model.
    """
    from llmrec.cli.contrast_view import print_contrast
    from llmrec.cli.ranking_view import (
        cost_line,
        describe_model,
        explanation_view,
        faults_line,
        model_line,
    )
    from llmrec.explaining.card import write_cards
    from llmrec.explaining.explainer import check_text_options
    from llmrec.items import picture_path
    from llmrec.prompting import context_of
    from llmrec.records import Usage
    from llmrec.reranking import items_context, make_request
    from llmrec.reranking.request_files import read_requests
    from llmrec.reranking.reranker import explain_requests
    from llmrec.retrieval import Index

    check_text_options(text, template)  # fails before a model is loaded
    if against is not None:
        _refuse_beside_against(
            text=text != "statements", weigh=weigh, entailment=entailment, html=html
        )
    if index is not None and items is not None:
        raise OptionError(
            f"--items {items} beside the index {index}, which has its own items.",
            hint="Remove one.",
        )
    rates = model.rates()
    known = items_context(items) if items else None
    found: Index | None = None
    if index is not None:
        with waiting("Opening the index"):
            found = Index.open(index)
            known = context_of(found)
    match index, user, item, requests:
        case Path(), str(), list(), None:
            ids = split_names(item, known.items.__contains__) if known else item
            asked = [make_request(ids, user=user, known=known)]
        case _, None, None, Path():
            asked = list(read_requests(requests, known))
        case _:
            raise OptionError(
                "Items to explain come either from an index or from a file.",
                hint="Give INDEX, --user and --item; or --requests.",
            )
    if against is not None:
        print_contrast(found, asked, against, model.load, rates, as_json=as_json)
        return
    language_model = model.load() if text == "written" or weigh else None
    with waiting("Explaining"):
        many = explain_requests(
            asked,
            language_model,
            text=text,
            template=template,
            entailment=entailment,
            weigh=_weigher(found, language_model, given=requests is not None)
            if weigh and language_model
            else None,
        )
    explanations = [explanation for each in many for explanation in each]
    new = dict.fromkeys(request.user.user_id for request in asked if not request.user.history)
    notes = [
        f"{f'User {user_id}' if user_id else 'The user'} has no history: the item itself is "
        "explained."
        for user_id in new
    ]
    usage = sum((each.usage for each in explanations), start=Usage())
    if html is not None:
        pictures = {
            each.item_id: picture_path(
                request.context.items[each.item_id], found.folder, found.media_root
            )
            for request in asked
            for each in request.candidates
            if found is not None
        }
        write_cards(explanations, html, pictures)
    if as_json:
        print_json(
            {
                "explanations": [
                    {"title": each.title, "explanation": each} for each in explanations
                ],
                "model": describe_model(language_model) if language_model else None,
                "cost": rates.cost(usage) if rates else None,
                "notes": notes,
            }
        )
        return
    console = screen()
    console.print(explanation_view(explanations, evidence=True), "")
    rows = {
        "Checked": faults_line(explanations),
        "Model": model_line(language_model) if language_model else "none used",
        "Cost": cost_line(rates, usage),
        "Cards": str(html or ""),
    }
    console.print(fields({**rows, "Note": " ".join(notes)}))


def _refuse_beside_against(**options: object) -> None:
    """Refuse the options of texts, which a comparison does not write.

    Raises:
        OptionError: One has a value.
    """
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise OptionError(
            f"--against writes no explanation, but {', '.join(given)} was given.",
            hint="Leave out --against, or the other options.",
        )


def _weigher(
    index: Index | None, model: LanguageModel, *, given: bool
) -> Callable[[Request], tuple[Reasons, ...]]:
    """Weighs among the candidates that requests of a file give, else among the user's own."""
    from llmrec.recommender import Recommender
    from llmrec.reranking import Reranker

    if index is None:
        return partial(Reranker(model).reasons, pairs=0)
    recommender = Recommender(index, model=model)

    def weigh(request: Request) -> tuple[Reasons, ...]:
        if given:
            return recommender.reranker.reasons(recommender.scored(request)[0], pairs=0)
        ids = [each.item_id for each in request.candidates]
        return recommender.reasons(request.user, ids, pairs=0)

    return weigh
