"""``llmrec explain``: why this item for this user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import AsJson, ItemTable, ModelOptions, OptionalIndex, command, split_names
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.errors import OptionError


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
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Requests (docs/data.md) with the items to explain as candidates."
        ),
    ] = None,
    items: ItemTable = None,
    template: Annotated[
        str, typer.Option(metavar="NAME", help="An explain template, or a .jinja file.")
    ] = "explain/plain",
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Explain items to a user: INDEX with --user and --item, or --requests.

    Each text is shown with the evidence that it was checked against.
    """
    from llmrec.cli.ranking_view import cost_line, describe_model, explanation_view, model_line
    from llmrec.explaining.explainer import explain_template_of
    from llmrec.prompting import context_of
    from llmrec.records import Usage
    from llmrec.reranking import Reranker, items_context, make_request
    from llmrec.reranking.request_files import read_requests
    from llmrec.retrieval import Index

    explain_template_of(template)  # fails before a model is loaded
    if index is not None and items is not None:
        raise OptionError(
            f"--items {items} beside the index {index}, which has its own items.",
            hint="Leave out the one or the other.",
        )
    rates = model.rates()
    known = items_context(items) if items else None
    if index is not None:
        with waiting("Opening the index"):
            known = context_of(Index.open(index))
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
    language_model = model.load()
    with waiting("Explaining"):
        many = Reranker(language_model).explain_many(asked, template=template)
    explanations = [explanation for each in many for explanation in each]
    new = (request.user.user_id for request in asked if not request.user.history)
    notes = [
        f"{f'User {user_id}' if user_id else 'The user'} has no history: the item itself is "
        "explained."
        for user_id in new
    ]
    usage = sum((each.usage for each in explanations), start=Usage())
    if as_json:
        print_json(
            {
                "explanations": [
                    {"title": each.title, "explanation": each} for each in explanations
                ],
                "model": describe_model(language_model),
                "cost": rates.cost(usage) if rates else None,
                "notes": notes,
            }
        )
        return
    console = screen()
    console.print(explanation_view(explanations, evidence=True), "")
    rows = {"Model": model_line(language_model), "Cost": cost_line(rates, usage)}
    console.print(fields({**rows, "Note": " ".join(notes)}))
