"""Rankings and explanations, on the screen and as JSON documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from llmrec.cli.output import fields, print_json, safe, screen, table
from llmrec.records import (
    FALLBACKS,
    FAULT_KINDS,
    Explanation,
    RankedItem,
    Ranking,
    Status,
    TextSource,
    Usage,
)

if TYPE_CHECKING:
    from llmrec.models import LanguageModel
    from llmrec.models.openai import Prices
    from llmrec.recommender import Recommendation

_SOURCES = {
    TextSource.STATEMENTS: "quoted from the evidence",
    TextSource.TEMPLATE: "a template sentence from the evidence",
    TextSource.MODEL: "written by the model; passed the check against the evidence",
    TextSource.REWRITTEN: "the model's second text; passed the check against the evidence",
}


def print_recommendation(
    found: Recommendation, model: LanguageModel | None, rates: Prices | None, *, as_json: bool
) -> None:
    """Print the items and the footer, or all as one JSON document.

    Args:
        found: The recommendation.
        model: The language model, if any.
        rates: Its prices.
        as_json: Print the document.
    """
    if as_json:
        print_json(recommendation_document(found, model, rates))
        return
    console = screen()
    console.print(ranking_table(found.ranking, found.k, console.width), "")
    if found.explanations:
        console.print(explanation_view(found.explanations), "")
        console.print(fields({"Checked": faults_line(found.explanations)}))
    console.print(fields(dict(footer(found, model, rates))))


def recommendation_document(
    found: Recommendation, model: LanguageModel | None, rates: Prices | None
) -> dict[str, object]:
    """A recommendation as one record."""
    ranking = found.ranking
    return {
        **{each.name: getattr(ranking, each.name) for each in fields_of(ranking)},
        "usage": found.usage,
        "candidates": len(ranking.items),
        "items": [ranked_document(row) for row in found.items],
        "explanations": found.explanations,
        "model": describe_model(model) if model else None,
        "fitted": found.fitted,
        "notes": found.notes,
        "cost": rates.cost(found.usage) if rates else None,
    }


def ranked_document(ranked: RankedItem) -> dict[str, object]:
    """A row of a ranking as a record, id and title first."""
    document = {each.name: getattr(ranked, each.name) for each in fields_of(ranked)}
    return {"item_id": ranked.item_id, "title": ranked.title, **document}


def describe_model(model: LanguageModel) -> dict[str, object]:
    """What identifies a loaded model in a JSON document."""
    about: dict[str, object] = {"name": model.name, "revision": model.revision}
    for name in ("placement", "capabilities"):  # of weights in this process, of a server
        found = getattr(model, name, None)
        about |= asdict(found) if found else {}
    return about


MOVED = "moved: places up (▲) or down (▼) against the retriever's order."


def ranking_table(ranking: Ranking, k: int, width: int = 0) -> Group:
    """The first k rows: rank, move, id, title, every signal, the fused score.

    If the signals leave too little room, the last ones are shown: the model's.
    """
    rows = ranking.items[:k]
    asked = any(row.status is not Status.NOT_ASKED for row in rows)
    signals = signal_names(rows)
    move = [">moved"] if asked else []
    return table(
        (">#", *move, "id", "item", *(f">{name}" for name in signals), ">score"),
        [
            (
                str(row.rank),
                *([moved(row)] if asked else []),
                safe(row.item_id),
                safe(row.title),
                *(number(row.signals.get(name)) for name in signals),
                Text(number(row.score), "bold"),
            )
            for row in rows
        ],
        width=width,
        cut=("item",),
        leave_out=signals,
        notes=[MOVED] if asked else [],
    )


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
    """A score with two decimals; a dash if missing."""
    return "–" if value is None else f"{value:.2f}"


def footer(
    found: Recommendation, model: LanguageModel | None, rates: Prices | None
) -> Iterator[tuple[str, str]]:
    """The footer of a ranking: model, weights, tokens, fallbacks."""
    ranking = found.ranking
    if model is None:
        yield "Model", "none used"
    else:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in ranking.weights.items())
        origin = "fitted" if found.fitted else "default; `llmrec fit` fits them"
        yield "Model", model_line(model)
        yield "Weights", f"{weights} ({origin})" if weights else ""
        labels = ", ".join(f"{name} {share:.2f}" for name, share in ranking.label_shares.items())
        yield "Labels", f"{labels} of the probability" if labels else ""
        yield "Tokens", tokens_line(found.usage)
        yield "Cost", cost_line(rates, found.usage)
    yield "Fallbacks", fallbacks_line(ranking.fallbacks)
    yield "Note", " ".join(found.notes)


def fallbacks_line(fallbacks: Mapping[str, int]) -> str:
    """Each fallback with its count and meaning."""
    meant = {name: f" ({FALLBACKS[name]})" for name in fallbacks if name in FALLBACKS}
    return "; ".join(f"{name} {n:,}{meant.get(name, '')}" for name, n in fallbacks.items())


def fallbacks_key(names: Iterable[str]) -> str:
    """What each of these fallbacks means."""
    return " ".join(f"{n}: {FALLBACKS[n]}." for n in dict.fromkeys(names) if n in FALLBACKS)


def cost_line(rates: Prices | None, usage: Usage) -> str:
    """The cost of the tokens; empty without a price table."""
    return f"{rates.cost(usage):.6f} by the price table" if rates else ""


def model_line(model: LanguageModel) -> str:
    """A model's name, device and changes to its weights."""
    placement = getattr(model, "placement", None)
    if placement is None:
        return f"{model.name}, {model.revision}"
    held = "" if placement.quantization == "none" else f", weights in {placement.quantization}"
    shortened = re.search(r"\+skip-(\d+)", model.revision)
    left_out = f", without the last {shortened[1]} layers" if shortened else ""
    tuned = ", tuned" if "+adapter-" in model.revision else ""
    return f"{model.name} on {placement.device}, {placement.dtype}{held}{left_out}{tuned}"


def tokens_line(usage: Usage) -> str:
    """Tokens computed, tokens of whole prompts, prompts and seconds."""
    if not usage.prompts:
        return "none"
    share = usage.tokens_given / max(usage.tokens_forwarded, 1)
    return (
        f"{usage.tokens_forwarded:,} forwarded; whole prompts ({usage.prompts:,}) are "
        f"{usage.tokens_given:,}, {share:.1f} times as many; {usage.seconds:.1f} s in the model"
    )


def explanation_view(
    explanations: Sequence[Explanation], *, evidence: bool = False
) -> RenderableType:
    """Title, text, sources of each; with ``evidence`` also the facts and the faults found."""
    parts: list[RenderableType] = []
    for at, explanation in enumerate(explanations, start=1):
        place = f"{at}. " if len(explanations) > 1 else ""
        item_id = "" if explanation.item_id == explanation.title else f"({explanation.item_id})"
        title = safe(explanation.title, "bold")
        parts.append(Text.assemble(place, title, " " * bool(item_id), safe(item_id, "dim")))
        parts.append(Padding(safe(explanation.text), (0, 0, 0, 3)))
        units = dict.fromkeys(unit for claim in explanation.claims for unit in claim.units)
        source = f"({_SOURCES[explanation.source]}{': ' if units else ''}{', '.join(units)})"
        parts.append(Padding(safe(source, "dim"), (0, 0, 0, 3)))
        if evidence:
            rows = [
                (
                    "" if fact.weight is None else f"{fact.weight:+.2f}",
                    safe(fact.unit),
                    safe(fact.text),
                )
                for fact in explanation.evidence
            ]
            heads = (">weight", "evidence", "what it says")
            facts = table(heads, rows, width=screen().width - 3)
            parts.append(Padding(facts, (1, 0, 0, 3)))
            parts.extend(
                Padding(safe(f"Refused ({fault.kind}): {fault.text}", "dim"), (0, 0, 0, 3))
                for fault in explanation.faults
            )
    return Group(*parts)


def faults_line(explanations: Sequence[Explanation]) -> str:
    """The number of texts by source, and of what was refused by kind, with its meaning."""
    sources = Counter(each.source.value for each in explanations)
    kinds = Counter(fault.kind for each in explanations for fault in each.faults)
    said = ", ".join(f"{name} {count:,}" for name, count in sources.items())
    refused = "; ".join(f"{kind} {n:,} ({FAULT_KINDS[kind]})" for kind, n in kinds.items())
    return f"{said}; refused: {refused}" if refused else said
