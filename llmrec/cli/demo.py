"""``llmrec demo``: rerank the embedded sample, before and after side by side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from llmrec.cli.options import AsJson, ModelOptions, command, load_text_encoder
from llmrec.cli.output import fields, print_json, safe, screen, table, waiting

if TYPE_CHECKING:
    from llmrec.recommender import Recommendation
    from llmrec.records import Ranking

_CANDIDATES = 20
_EXPLAINED = 3

OWN_DATA = (
    "llmrec data check DATA",
    "llmrec index DATA --out INDEX",
    "llmrec recommend INDEX --user ID --explain",
)
"""The same on one's own data."""


@command
def demo(
    *,
    user: Annotated[str, typer.Option(metavar="ID", help="A user of the sample, u01 to u21.")] = (
        "u19"
    ),
    k: Annotated[int, typer.Option("-k", min=1, max=_CANDIDATES, help="Items to print.")] = 10,
    model: ModelOptions,
    as_json: AsJson = False,
) -> None:
    """Retrieve, rerank and explain one user's items of the embedded sample: before and after."""
    from llmrec.catalog import Catalog, sample_folder
    from llmrec.cli.ranking_view import (
        explanation_view,
        footer,
        ranked_document,
        recommendation_document,
    )
    from llmrec.items.understanding import modalities_of, understand_items
    from llmrec.models import OFFLINE_IMAGE_MODEL
    from llmrec.recommender import Recommender
    from llmrec.retrieval import Index

    start = time.perf_counter()
    catalog = Catalog.from_folder(sample_folder())
    person = catalog.user(user)
    encoder = load_text_encoder()
    # Packaged models suffice for the sample, without waiting for a hub.
    modalities = modalities_of(catalog, encoder, image_encoder=OFFLINE_IMAGE_MODEL, progress=True)
    insights = understand_items(catalog, encoder, sentiment="zero_shot", progress=True)
    index = Index.build(catalog, encoder, modalities=modalities, insights=insights)
    before = Recommender(index).recommend(user, k, n_candidates=_CANDIDATES).ranking
    recommender = Recommender(index, model=model.load)
    with waiting(f"Reranking {len(before.items)} candidates"):
        after = recommender.recommend(user, k, n_candidates=_CANDIDATES)
    with waiting(f"Explaining {_EXPLAINED} items"):
        explanations = recommender.explain(user, after.ranking.item_ids[:_EXPLAINED])
    seconds = time.perf_counter() - start
    history = [index.items[entry.item_id].name for entry in person.history]
    rates = model.rates()
    if as_json:
        document = recommendation_document(after, recommender.model, rates)
        lists = {
            "before": [ranked_document(row) for row in before.items[:k]],
            "after": document.pop("items"),
        }
        about = {"history": history, "seconds": seconds, "own_data": OWN_DATA}
        print_json({**document, **lists, **about, "explanations": explanations})
        return
    console = screen()
    profile = str(person.profile.get("about", ""))
    about_user = {"User": user, "Profile": profile, "History": "; ".join(history[-4:])}
    console.print(fields(about_user), "")
    console.print(_side_by_side(before, after, k), "")
    console.print(explanation_view(explanations), "")
    console.print(
        fields({**dict(footer(after, recommender.model, rates)), "Seconds": f"{seconds:.1f}"})
    )
    console.print("\nThe same on your own data:", style="bold")
    for line in OWN_DATA:
        console.print(f"  {line}", style="cyan", markup=False)


def _side_by_side(before: Ranking, after: Recommendation, k: int) -> Group:
    """Rank by rank, the retriever's item and the reranked item."""
    from llmrec.cli.ranking_view import MOVED, moved, number, signal_names

    signals = signal_names(after.items)
    heads = (">#", "id", "retrieved", ">score", "id", "reranked", ">moved")
    return table(
        (*heads, *(f">{name}" for name in signals), ">score"),
        [
            (
                str(new.rank),
                safe(old.item_id),
                safe(old.title),
                number(old.score),
                safe(new.item_id),
                safe(new.title),
                moved(new),
                *(number(new.signals.get(name)) for name in signals),
                Text(number(new.score), "bold"),
            )
            for old, new in zip(before.items[:k], after.items, strict=True)
        ],
        cut=("retrieved", "reranked"),
        leave_out=signals,
        notes=[MOVED],
    )
