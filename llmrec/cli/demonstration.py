"""``llmrec demo`` at work: the main job on the embedded sample, before and after side by side."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from llmrec.catalog import Catalog, sample_folder
from llmrec.cli.clock import Clock
from llmrec.cli.loading import Asking, ModelChoice, load_text_encoder, retriever_for
from llmrec.cli.output import fields, print_json, safe, screen, table, waiting
from llmrec.cli.ranking_view import (
    Answer,
    answer_document,
    explanation_view,
    footer,
    moved,
    number,
    ranked_document,
    shorten,
    signal_names,
)
from llmrec.explaining import Explainer
from llmrec.items import modalities_of, understand_items
from llmrec.models import OFFLINE_IMAGE_MODEL
from llmrec.records import Ranking, User
from llmrec.reranking import make_strategy, retrieval_ranking
from llmrec.retrieval import Index

_CANDIDATES = 20
_EXPLAINED = 3
_WIDE = 100
"""Columns from which every signal has a place beside both lists."""

OWN_DATA = (
    "llmrec data check DATA",
    "llmrec index DATA --out INDEX",
    "llmrec recommend INDEX --user ID --explain",
)
"""The same on one's own data."""


@dataclass(frozen=True)
class Demonstration:
    """What the demo found: one user's ranking before and after the language model."""

    user: User
    before: Ranking
    after: Answer
    seconds: dict[str, float]


def run_demonstration(user_id: str, model_ref: str | None) -> Demonstration:
    """Run the main job on the embedded sample.

    Raises:
        UnknownUserError: The sample has no such user.
        ModelError: A model cannot be had.
    """
    clock = Clock()
    catalog = Catalog.from_folder(sample_folder())
    user = catalog.user(user_id)
    encoder = load_text_encoder()
    clock.took("loading the encoder")
    # What is packaged serves a sample: nobody waits for a hub.
    modalities = modalities_of(catalog, encoder, image_encoder=OFFLINE_IMAGE_MODEL, progress=True)
    clock.took("embedding")
    insights = understand_items(catalog, encoder, sentiment="lexicon", progress=True)
    clock.took("understanding")
    index = Index.build(catalog, encoder, modalities=modalities, insights=insights)
    served = retriever_for(index, user)
    found = served.retriever.retrieve(user, _CANDIDATES)
    clock.took("retrieving")
    reranker, model = Asking((make_strategy("likelihood"),), ModelChoice(model_ref)).load(index)
    clock.took("loading the model")
    with waiting(f"Reranking {len(found)} candidates"):
        ranking = reranker.rerank(user, found)
    clock.took("reranking")
    with waiting(f"Explaining {_EXPLAINED} items"):
        explanations = Explainer(model, index).explain(user, ranking.item_ids[:_EXPLAINED])
    clock.took("explaining")
    notes = (served.note,) if served.note else ()
    answer = Answer(ranking, index.items, model, explanations=explanations, notes=notes)
    return Demonstration(user, retrieval_ranking(user, found), answer, clock.seconds)


def print_demonstration(shown: Demonstration, k: int, *, as_json: bool) -> None:
    """Print both lists, the explanations, the cost and the commands for one's own data."""
    items = shown.after.items
    history = [items[entry.item_id].name for entry in shown.user.history]
    if as_json:
        document = answer_document(shown.after, k)
        before = [ranked_document(row, items) for row in shown.before.items[:k]]
        changed = {"before": before, "after": document.pop("items")}
        about = {"history": history, "seconds": shown.seconds, "own_data": OWN_DATA}
        print_json({**document, **changed, **about})
        return
    console = screen()
    profile = str(shown.user.profile.get("about", ""))
    about_user = {"User": shown.user.user_id, "Profile": profile, "Chose": "; ".join(history[-4:])}
    spent = ", ".join(f"{what} {seconds:.1f}" for what, seconds in shown.seconds.items())
    total = {"Seconds": f"{sum(shown.seconds.values()):.1f}: {spent}"}
    console.print(fields(about_user), "")
    console.print(_side_by_side(shown, k, wide=console.width >= _WIDE), "")
    console.print(explanation_view(shown.after.explanations, items), "")
    console.print(fields({**dict(footer(shown.after)), **total}))
    console.print("\nThe same on your own data:", style="bold")
    for command in OWN_DATA:
        console.print(f"  {command}", style="cyan", markup=False)


def _in_two_lines(name: str) -> str:
    return f"{name[:6]}-\n{name[6:]}" if len(name) > 7 else name


def _side_by_side(shown: Demonstration, k: int, *, wide: bool) -> Table:
    """Rank by rank, the retriever's item and the item that now stands there."""
    before, after = shown.before.items[:k], shown.after.ranking.items[:k]
    names = signal_names(after)
    signals = names if wide else names[-1:]
    heads = [f">{name if wide else _in_two_lines(name)}" for name in signals]
    both = table(">#", "retrieved", ">score", "reranked", ">moved", *heads, ">score")
    shorten(both, "retrieved", "reranked")
    for old, new in zip(before, after, strict=True):
        both.add_row(
            str(new.rank),
            safe(shown.after.items[old.item_id].name),
            number(old.score),
            safe(shown.after.items[new.item_id].name),
            moved(new),
            *(number(new.signals.get(name)) for name in signals),
            Text(number(new.score), "bold"),
        )
    return both
