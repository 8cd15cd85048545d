"""Template sentences from the evidence: the fallback if no text of the model passes the check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmrec.explaining.evidence import ABOUT, CHOSEN, FITS, LIKED, SHOWS, TITLE
from llmrec.records import Evidence

BARE = "This was chosen for you from the catalogue."
"""The last fallback, true of every item."""

_LONGEST_QUOTATION = 200


def plain_texts(evidence: Sequence[Evidence]) -> Iterator[str]:
    """Build texts of one to three sentences, the most informative first.

    Later ones serve if the check rejects an earlier one; the last needs no evidence.
    """
    reason = _reason(evidence)
    fits = [f"{fact.text}." for fact in evidence if fact.text.startswith(FITS)][:1]
    abouts = list(_after(ABOUT, evidence))[:1]
    abouts = [text for text in abouts if 0 < len(text) <= _LONGEST_QUOTATION]
    facts = [
        fact.text
        for fact in evidence
        if fact.kind == "item" and not fact.text.startswith((TITLE, ABOUT, CHOSEN, SHOWS))
    ]
    if facts:
        abouts.append(f"The catalogue lists it with {'; '.join(facts)}.")
    for about in abouts:
        yield " ".join([reason, *fits, about])
    yield " ".join([reason, *fits])
    yield reason
    yield BARE


def _reason(evidence: Sequence[Evidence]) -> str:
    name = next(_after(TITLE, evidence), "This item")
    liked = list(_after(LIKED, evidence))
    shared = [like for like in liked if like.endswith(")")]
    if liked:
        return f"{name} is suggested because you liked {_joined(shared or liked)}."
    chosen = next(_after(CHOSEN, evidence), None)
    why = f"because {chosen} chose it" if chosen else "on its own merits"
    return f"Nothing that you liked is known yet, so {name} is suggested {why}."


def _after(beginning: str, evidence: Sequence[Evidence]) -> Iterator[str]:
    return (
        fact.text.removeprefix(beginning) for fact in evidence if fact.text.startswith(beginning)
    )


def _joined(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
