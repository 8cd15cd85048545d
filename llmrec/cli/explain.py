"""``llmrec explain``: why this item for this user."""

from __future__ import annotations

from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import (
    AsJson,
    Concurrency,
    Device,
    IndexFolder,
    ModelRef,
    Quantization,
    Timeout,
    TokenizerRef,
    UserId,
)
from llmrec.cli.output import fields, print_json, screen, waiting


@ends_well
def explain(
    index: IndexFolder,
    *,
    user: UserId,
    item: Annotated[
        list[str], typer.Option("--item", metavar="ID", help="The item; may be given repeatedly.")
    ],
    template: Annotated[
        str, typer.Option(metavar="NAME", help="An explain template, or a .jinja file.")
    ] = "explain/plain",
    model: ModelRef = None,
    quantization: Quantization = "none",
    device: Device = None,
    tokenizer: TokenizerRef = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Say why an item is for a user, with the evidence that the text was checked against."""
    from llmrec.cli.loading import ModelChoice, describe_model
    from llmrec.cli.ranking_view import explanation_view, model_line
    from llmrec.explaining import Explainer
    from llmrec.prompting import load_template
    from llmrec.retrieval import Index

    load_template(template)  # what can be refused is refused before a model is loaded
    opened = Index.open(index)
    person = opened.user(user)
    for item_id in item:
        opened.row(item_id)
    choice = ModelChoice(model, device, quantization, tokenizer, concurrency, timeout)
    language_model = choice.load()
    with waiting("Explaining"):
        explanations = Explainer(language_model, opened, template=template).explain(person, item)
    note = "" if person.history else f"User {user} has no history: the item itself is explained."
    if as_json:
        print_json(
            {
                "explanations": [
                    {"title": opened.items[each.item_id].title, "explanation": each}
                    for each in explanations
                ],
                "model": describe_model(language_model),
                "notes": [note] if note else [],
            }
        )
        return
    console = screen()
    console.print(explanation_view(explanations, opened.items, evidence=True), "")
    console.print(fields({"Model": model_line(language_model), "Note": note}))
