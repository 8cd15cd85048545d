"""Template sentences: from facts, or from signals where no fact moves the score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from llmrec.explaining.evidence import (
    ABOUT,
    ASKED,
    CHOSEN,
    FITS,
    LIKED,
    REVIEW,
    REVIEWERS,
    SHOWS,
    shortened,
)
from llmrec.records import Claim, Evidence

BARE = "This was chosen for you from the catalogue."
"""The last fallback, true of every item."""

_CLAUSES = {
    ABOUT: 'its description says "{}"',
    ASKED: 'you asked for "{}"',
    CHOSEN: "{} chose it",
    FITS: "it fits your {}",
    REVIEW: "a review says {}",
    REVIEWERS: "reviewers: {}",
    SHOWS: 'its picture shows "{}"',
}
_LONGEST = 100
"""Characters of a list of values."""
_BECAUSE = 2
"""Facts of a template sentence."""
_ENDED = re.compile(r"[.!?…。！？][\"'”’]*$")


def clause(fact: Evidence) -> str:
    """A fact as a clause: 'its description says "..."'."""
    for beginning, pattern in _CLAUSES.items():
        if fact.text.startswith(beginning):
            said = fact.text.removeprefix(beginning)
            return pattern.format(said if beginning == REVIEW else said.replace('"', "'"))
    if fact.text.startswith(LIKED):
        title, _, shared = fact.text.removeprefix(LIKED).partition('" (')
        if not shared:
            return f"you liked {title}"
        return f'you liked {title}", which has the same {_listed(shared[:-1])}'
    if fact.unit.startswith("attribute:"):
        return f"its {_listed(fact.text)}"
    if fact.kind == "profile":
        return f"{fact.text[0].lower()}{fact.text[1:]}"
    return f"the catalogue says {fact.text}"


def _listed(values: str) -> str:
    return shortened(values, _LONGEST).rstrip(".")


def sentence(text: str) -> str:
    """A clause as a sentence."""
    return f"{text[0].upper()}{text[1:]}{'' if _ENDED.search(text) else '.'}"


def plain_texts(name: str, facts: Sequence[Evidence]) -> Iterator[Claim]:
    """One sentence of the best facts; later ones serve if the check rejects an earlier one.

    Args:
        name: The item's name in quotation marks.
        facts: What the sentence may use, the best first.
    """
    for most in range(min(_BECAUSE, len(facts)), 0, -1):
        reasons = ", and ".join(clause(fact) for fact in facts[:most])
        units = tuple(fact.unit for fact in facts[:most])
        yield Claim(sentence(f"{name} is suggested because {reasons}"), units)
    yield Claim(f"{name} is suggested from the catalogue.", ("title",))


def unmoved_texts(
    name: str, evidence: Sequence[Evidence], carried: Mapping[str, float]
) -> Iterator[Claim]:
    """One sentence for an item whose score no fact moves by more than the noise of wording.

    Args:
        name: The item's name in quotation marks.
        evidence: What is known.
        carried: What the score consists of, by signal.
    """
    first = max(carried, key=lambda signal: carried[signal], default="")
    if "popularity" in first:
        yield Claim(f"{name} is suggested mostly because it is popular.", (first,))
    elif first.startswith("retriev"):
        high = f"{name} is suggested because the retriever ranks it high"
        for fact in [fact for fact in evidence if fact.kind == "history"][:1]:
            like = fact.text.partition('"')[2].partition('"')[0]
            yield Claim(f'{high} for "{like}".', (first, fact.unit))
        yield Claim(f"{high}.", (first,))
    yield Claim(f"{name} is suggested, but no single fact moves its score.", ())
