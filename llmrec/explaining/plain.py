"""Plain sentences from the evidence, for when no text of the model is usable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmrec.explaining.evidence import ABOUT, CHOSEN, FITS, LIKED, SHOWS, TITLE
from llmrec.records import Evidence

BARE = "This was chosen for you from the catalogue."
"""What can be said of everything."""

_LONGEST_QUOTATION = 200


def plain_texts(evidence: Sequence[Evidence]) -> Iterator[str]:
    """Build texts of one to three sentences, the one that says most first.

    The later ones are for evidence with text so unusual that the check does not pass the earlier;
    the last says nothing that any evidence could be missing for.

    Args:
        evidence: The facts, as :func:`~llmrec.explaining.evidence.gather_evidence` gives them.
    """
    reason = _reason(evidence)
    fits = [f"{fact.text}." for fact in evidence if fact.text.startswith(FITS)][:1]
    description, listed = _description(evidence), _listed(evidence)
    for about in [*description, *listed]:
        yield " ".join([reason, *fits, about])
    yield " ".join([reason, *fits])
    yield reason
    yield BARE


def _reason(evidence: Sequence[Evidence]) -> str:
    name = next(_after(TITLE, evidence), "This item")
    liked = list(_after(LIKED, evidence))
    shared = [like for like in liked if like.endswith(")")]
    if shared:
        return f"{name} is suggested because you liked {_joined(shared)}."
    if liked:
        return f"{name} is suggested because it is close to {_joined(liked)}, which you liked."
    chosen = next(_after(CHOSEN, evidence), None)
    why = f"because {chosen} chose it" if chosen else "on its own merits"
    return f"Nothing that you liked is known yet, so {name} is suggested {why}."


def _description(evidence: Sequence[Evidence]) -> Iterator[str]:
    first = next(_after(ABOUT, evidence), "")
    if first and len(first) <= _LONGEST_QUOTATION:
        yield first


def _listed(evidence: Sequence[Evidence]) -> Iterator[str]:
    facts = [
        fact.text
        for fact in evidence
        if fact.kind == "item" and not fact.text.startswith((TITLE, ABOUT, CHOSEN, SHOWS))
    ]
    if facts:
        yield f"The catalogue lists it with {'; '.join(facts)}."


def _after(beginning: str, evidence: Sequence[Evidence]) -> Iterator[str]:
    return (
        fact.text.removeprefix(beginning) for fact in evidence if fact.text.startswith(beginning)
    )


def _joined(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
