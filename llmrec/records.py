"""The records that flow through llmrec, from the catalogue to an explanation.

All are frozen: a step returns new records and never changes those it was given. Ids are strings
always. Times are seconds since 1970-01-01 UTC. Scores are "higher is better" everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

AttributeValue = str | int | float | bool | tuple[str, ...]
"""What an attribute column may hold; a list column becomes a tuple of strings."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended.

    ``attributes`` keeps every further column of the item file, in file order, without the values
    that are missing. ``image`` and ``video`` are paths as the file gives them.
    """

    item_id: str
    title: str = ""
    description: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    image: str | None = None
    video: str | None = None

    @property
    def name(self) -> str:
        """The title; where it is missing, the description's first 60 characters, else the id."""
        return self.title or self.description[:60].strip() or self.item_id


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody wrote about an item."""

    item_id: str
    text: str
    rating: float | None = None
    user_id: str | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """A user met an item. ``rating`` is in the data set's own unit, or None where it has none."""

    user_id: str
    item_id: str
    rating: float | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user as every later step sees one: profile columns and history, oldest interaction first.

    It need not be in any catalogue: ``User("new", history=(...))`` is served like a known one, and
    a user with an empty history is a cold start.
    """

    user_id: str
    history: tuple[Interaction, ...] = ()
    profile: Mapping[str, AttributeValue] = field(default_factory=dict)
    friends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that retrieval proposes for a user.

    ``score`` is the retriever's own. ``signals`` holds each signal it was made of by name
    (``content``: cosine similarity to the user's history; ``popularity``: log of 1 + interactions).
    """

    item_id: str
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


class Status(StrEnum):
    """Whether the language model could judge a candidate."""

    SCORED = "scored"
    UNSCORED = "unscored"
    """The model gave no usable judgement: it keeps its retrieval order behind the scored."""
    NOT_ASKED = "not_asked"
    """No language model was asked (``--no-llm``)."""


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One row of a ranking.

    ``rank`` and ``retrieval_rank`` count from 1. ``score`` is the fused score that orders the list,
    None where the model could not judge the candidate. ``signals`` holds what was fused, before
    standardising, the language model's own score under the strategy's name.
    """

    item_id: str
    rank: int
    retrieval_rank: int
    score: float | None
    status: Status
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step asked of a language model. Usages add up.

    ``tokens_given`` is what whole prompts would have cost, ``tokens_forwarded`` what was forwarded
    once shared prefixes were; ``tokens_generated`` is decoded text; ``forwards`` counts calls of
    the model; ``seconds`` is wall time in the model.
    """

    tokens_given: int = 0
    tokens_forwarded: int = 0
    tokens_generated: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_given + other.tokens_given,
            self.tokens_forwarded + other.tokens_forwarded,
            self.tokens_generated + other.tokens_generated,
            self.forwards + other.forwards,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """A permutation of the candidates that were given: none lost, none invented, none twice.

    ``fallbacks`` counts by name everything that did not go as asked (``unscored``,
    ``history_shortened``, ``batch_halved``, ``cold_start``, ``signal_missing``,
    ``weights_not_fitted``). ``weights`` are those the signals
    were fused with, on the standardised scale.
    """

    user_id: str
    items: tuple[RankedItem, ...]
    usage: Usage = Usage()
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The item ids in ranked order, best first."""
        return tuple(item.item_id for item in self.items)


class TextSource(StrEnum):
    """Where an explanation's text comes from."""

    MODEL = "model"
    REWRITTEN = "rewritten"
    """The model's second text: the first named something that the evidence does not hold."""
    EVIDENCE = "evidence"
    """A plain sentence built from the evidence: both of the model's texts failed the check."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact an explanation may use: ``kind`` is item, history, profile or review."""

    kind: str
    text: str
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why this item for this user, with the evidence the text was checked against.

    ``faults`` lists what the check found wrong in the texts that were thrown away.
    """

    user_id: str
    item_id: str
    text: str
    source: TextSource
    evidence: tuple[Evidence, ...]
    faults: tuple[str, ...] = ()
    usage: Usage = Usage()
