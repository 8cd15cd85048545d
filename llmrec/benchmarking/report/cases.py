"""The users about whom two rows disagree, with the pictures of what they were shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.benchmarking.report.pictures import Pictures
from llmrec.benchmarking.report.sentences import ranks_sentence
from llmrec.benchmarking.summary import Disagreement, RankedTitle

_FIRST = 5
"""Places of a ranking that are shown with their pictures; the others fold away."""


@dataclass(frozen=True, slots=True)
class Side:
    """One row's prompt and ranking for one user."""

    name: str
    prompt: str
    first: tuple[tuple[int, RankedTitle, str], ...]
    rest: tuple[tuple[int, RankedTitle], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A user about whom two rows disagree."""

    user_id: str
    sentence: str
    history: tuple[str, ...]
    sides: tuple[Side, ...]
    pictured: bool


def case(found: Disagreement, pictures: Pictures) -> Case:
    """A disagreement with its pictures inside."""
    ranks = [
        next((at for at, entry in enumerate(ranking, start=1) if entry.is_target), None)
        for ranking in found.rankings
    ]
    sides = tuple(
        _side(name, prompt, ranking, pictures)
        for name, prompt, ranking in zip(found.rows, found.prompts, found.rankings, strict=True)
    )
    return Case(
        user_id=found.user_id,
        sentence=ranks_sentence(found.rows, ranks),
        history=found.history,
        sides=sides,
        pictured=any(picture for side in sides for *_, picture in side.first),
    )


def _side(name: str, prompt: str, ranking: Sequence[RankedTitle], pictures: Pictures) -> Side:
    """The first places with pictures, and the target's wherever it stands; the others as text."""
    placed = list(enumerate(ranking, start=1))
    first = [(at, entry) for at, entry in placed if at <= _FIRST or entry.is_target]
    return Side(
        name=name,
        prompt=prompt,
        first=tuple((at, entry, pictures.uri(entry.image)) for at, entry in first),
        rest=tuple(pair for pair in placed if pair not in first),
    )
