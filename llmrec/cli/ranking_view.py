"""Rankings and explanations, on the screen and as JSON documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmrec.cli.loading import describe_model
from llmrec.cli.output import fields, print_json, safe, screen, table
from llmrec.records import Explanation, Item, RankedItem, Ranking, Status, TextSource, Usage

if TYPE_CHECKING:
    from llmrec.models import LanguageModel
    from llmrec.models.openai import Prices

_SOURCES = {
    TextSource.MODEL: "written by the model; passed the check against the evidence",
    TextSource.REWRITTEN: "the model's second text; passed the check against the evidence",
    TextSource.EVIDENCE: "a plain sentence from the evidence: the model's texts failed the check",
}


@dataclass(frozen=True)
class Answer:
    """A user's ranking with all that a reader wants to know beside it."""

    ranking: Ranking
    items: Mapping[str, Item]
    model: LanguageModel | None = None
    fitted: bool = False
    explanations: tuple[Explanation, ...] = ()
    notes: tuple[str, ...] = ()
    rates: Prices | None = None

    @property
    def cost(self) -> float | None:
        """What the ranking cost, in the currency of the table of prices."""
        return self.rates.cost(self.ranking.usage) if self.rates else None


def print_answer(answer: Answer, k: int, *, as_json: bool) -> None:
    """Print the first k items and what stands under them, or all of it as one JSON document."""
    if as_json:
        print_json(answer_document(answer, k))
        return
    console = screen()
    console.print(ranking_table(answer.ranking, answer.items, k, console.width), "")
    if answer.explanations:
        console.print(explanation_view(answer.explanations, answer.items), "")
    console.print(fields(dict(footer(answer))))


def answer_document(answer: Answer, k: int) -> dict[str, object]:
    """An answer as a record, with its first k items."""
    ranking = answer.ranking
    return {
        **{each.name: getattr(ranking, each.name) for each in fields_of(ranking)},
        "candidates": len(ranking.items),
        "items": [ranked_document(row, answer.items) for row in ranking.items[:k]],
        "explanations": answer.explanations,
        "model": describe_model(answer.model) if answer.model else None,
        "fitted": answer.fitted,
        "notes": answer.notes,
        "cost": answer.cost,
    }


def ranked_document(ranked: RankedItem, items: Mapping[str, Item]) -> dict[str, object]:
    """A row of a ranking as a record, with the item's title."""
    document = {each.name: getattr(ranked, each.name) for each in fields_of(ranked)}
    return {"item_id": ranked.item_id, "title": items[ranked.item_id].title, **document}


_BESIDE_SIGNALS = 40
"""Characters that a line has for the rank, the move, the title and the score."""


def ranking_table(ranking: Ranking, items: Mapping[str, Item], k: int, width: int) -> Table:
    """The first k rows: rank, how far it moved, title, every signal, the fused score.

    Of more signals than leave the titles room, the last are shown: what the model was asked.
    """
    rows = ranking.items[:k]
    asked = any(row.status is not Status.NOT_ASKED for row in rows)
    signals = signal_names(rows)
    while len(signals) > 1 and sum(len(name) + 1 for name in signals) > width - _BESIDE_SIGNALS:
        signals = signals[1:]
    heads = [f">{name}" for name in signals]
    shown = table(">#", *([">moved"] if asked else []), "item", *heads, ">score")
    shorten(shown, "item")
    if len(signals) < len(signal_names(rows)):
        shown.caption, shown.caption_justify = "More signals than fit; --json has them all.", "left"
    for row in rows:
        shown.add_row(
            str(row.rank),
            *([moved(row)] if asked else []),
            safe(items[row.item_id].name),
            *(number(row.signals.get(name)) for name in signals),
            Text(number(row.score), "bold"),
        )
    return shown


def shorten(shown: Table, *columns: str) -> None:
    """Let columns take the room that is left and shorten what does not fit, without wrapping."""
    shown.expand = True
    for column in shown.columns:
        if column.header in columns:
            column.no_wrap, column.overflow, column.ratio = True, "ellipsis", 1


def signal_names(rows: Sequence[RankedItem]) -> tuple[str, ...]:
    """The signals that any row has, in their order."""
    return tuple(dict.fromkeys(name for row in rows for name in row.signals))


def moved(row: RankedItem) -> Text:
    """How many places a row went up or down against the retriever's order."""
    places = row.retrieval_rank - row.rank
    if places == 0:
        return Text("·", "dim")
    return Text(f"▲{places}", "green") if places > 0 else Text(f"▼{-places}", "red")


def number(value: float | None) -> str:
    """A score with two decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"


def footer(answer: Answer) -> Iterator[tuple[str, str]]:
    """What stands under a ranking: the model, the weights, the tokens, whatever went otherwise."""
    ranking = answer.ranking
    if answer.model is None:
        yield "Model", "none was asked"
    else:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in ranking.weights.items())
        origin = "fitted" if answer.fitted else "zero-shot; `llmrec fit` fits them"
        yield "Model", model_line(answer.model)
        yield "Weights", f"{weights} ({origin})"
        yield "Tokens", tokens_line(ranking.usage)
        yield "Cost", "" if answer.cost is None else f"{answer.cost:.6f} by the table of prices"
    counts = [f"{name.replace('_', ' ')} {n:,}" for name, n in ranking.fallbacks.items()]
    yield "Fallbacks", ", ".join(counts)
    yield "Note", " ".join(answer.notes)


def model_line(model: LanguageModel) -> str:
    """A model's name, where it runs and what was changed about its weights."""
    placement = getattr(model, "placement", None)
    if placement is None:
        return f"{model.name}, {model.revision}"
    held = "" if placement.quantization == "none" else f", weights in {placement.quantization}"
    shortened = re.search(r"\+skip-(\d+)$", model.revision)
    left_out = f", without the last {shortened[1]} layers" if shortened else ""
    return f"{model.name} on {placement.device}, {placement.dtype}{held}{left_out}"


def tokens_line(usage: Usage) -> str:
    """Tokens forwarded against those of whole prompts, how many these were, and seconds."""
    if not usage.prompts:
        return "none: nothing was asked"
    share = usage.tokens_given / max(usage.tokens_forwarded, 1)
    return (
        f"{usage.tokens_forwarded:,} forwarded; whole prompts ({usage.prompts:,}) are "
        f"{usage.tokens_given:,}, {share:.1f} times as many; {usage.seconds:.1f} s in the model"
    )


def explanation_view(
    explanations: Sequence[Explanation], items: Mapping[str, Item], *, evidence: bool = False
) -> RenderableType:
    """Title, text and source of each; with ``evidence`` also the facts and the faults found."""
    parts: list[RenderableType] = []
    for at, explanation in enumerate(explanations, start=1):
        title = safe(items[explanation.item_id].name, "bold")
        parts.append(Text.assemble(f"{at}. ", title) if len(explanations) > 1 else title)
        parts.append(Padding(safe(explanation.text), (0, 0, 0, 3)))
        parts.append(Padding(safe(f"({_SOURCES[explanation.source]})", "dim"), (0, 0, 0, 3)))
        if evidence:
            facts = table("Evidence", "what it says")
            for fact in explanation.evidence:
                facts.add_row(fact.kind, safe(fact.text))
            parts.append(Padding(facts, (1, 0, 0, 3)))
            parts.extend(
                Padding(safe(f"Refused: {fault}", "dim"), (0, 0, 0, 3))
                for fault in explanation.faults
            )
    return Group(*parts)
