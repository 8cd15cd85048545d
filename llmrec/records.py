"""The records that flow through llmrec, from the catalogue to an explanation.

All are frozen: a step returns new records and never changes those it was given. Ids are strings
always. Times are seconds since 1970-01-01 UTC. Scores are "higher is better" everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from llmrec.errors import OptionError

AttributeValue = str | int | float | bool | tuple[str, ...]
"""What an attribute column may hold; a list column becomes a tuple of strings."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended.

    ``attributes`` keeps every further column of the item file, in file order, without the values
    that are missing. ``image``, ``video`` and ``audio`` are paths as the file gives them.
    """

    item_id: str
    title: str = ""
    description: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    image: str | None = None
    video: str | None = None
    audio: str | None = None

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
    a user with an empty history is a cold start. ``query`` is what the user asks for in plain
    words, empty where nothing is asked.
    """

    user_id: str
    history: tuple[Interaction, ...] = ()
    profile: Mapping[str, AttributeValue] = field(default_factory=dict)
    friends: tuple[str, ...] = ()
    query: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that retrieval proposes for a user.

    ``score`` is the retriever's own. ``signals`` holds each signal it was made of by name
    (``content``: cosine similarity to the user's history; ``popularity``: log of 1 + interactions).
    """

    item_id: str
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


class CaptionSource(StrEnum):
    """Who says what a picture or clip shows."""

    GIVEN = "given"
    """The data set brings the caption."""
    MODEL = "model"
    """A model looked at the picture and wrote it."""
    CLASSES = "classes"
    """Names of the classes a picture classifier gave it, with their probabilities."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What a picture or clip shows, in words."""

    text: str
    source: CaptionSource


@dataclass(frozen=True, slots=True)
class Aspect:
    """What reviews of an item speak of; how many sentences speak well and how many ill of it."""

    name: str
    positive: int
    negative: int


class SentimentSource(StrEnum):
    """What says whether a review speaks well of its item."""

    MODEL = "model"
    """A text-classification model."""
    RATINGS = "ratings"
    """A head fitted on this data set's rated reviews, the item's own left out."""
    ZERO_SHOT = "zero_shot"
    """The text encoder, by similarity to sentences of praise and of complaint: no ratings."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What reviewers say of an item.

    ``share_positive`` is the share of the ``n`` reviews that speak well of the item: by their own
    rating where it is a clear one, else where the probability is above one half. ``praise`` and
    ``complaints`` are the most telling sentences, most telling first. ``aspects`` are those most
    spoken of first.
    """

    n: int
    share_positive: float
    praise: tuple[str, ...]
    complaints: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    source: SentimentSource


@dataclass(frozen=True, slots=True)
class Insight:
    """What was understood of an item beside the text its file gives.

    ``facts`` are sentences from a knowledge graph. ``gaps`` says by modality (``image``, ``video``,
    ``audio``, ``reviews``) what could not be read, and why.
    """

    picture: Caption | None = None
    clip: Caption | None = None
    opinion: Opinion | None = None
    facts: tuple[str, ...] = ()
    gaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a language model is shown.

    A chat prompt has ``system`` and ``user``, one message each (``system`` may be empty), and
    ``text`` is None. A plain prompt has ``text`` alone, which the model continues without roles.
    """

    system: str
    user: str
    text: str | None = None


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
    None where the model could not judge the candidate; where a strategy's score is all there is, it
    is that score itself. ``signals`` holds what was fused, before standardising, the language
    model's own score under the strategy's name. ``title`` is the item's name.
    """

    item_id: str
    rank: int
    retrieval_rank: int
    score: float | None
    status: Status
    signals: Mapping[str, float] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step asked of a language model. Usages add up.

    ``tokens_given`` is what whole prompts would have cost, ``tokens_forwarded`` what was forwarded
    once shared prefixes were; ``tokens_generated`` is decoded text; ``forwards`` counts calls of
    the model; ``seconds`` is wall time in the model; ``prompts`` counts what was asked: candidates,
    comparisons, windows.
    """

    tokens_given: int = 0
    tokens_forwarded: int = 0
    tokens_generated: int = 0
    forwards: int = 0
    seconds: float = 0.0
    prompts: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_given + other.tokens_given,
            self.tokens_forwarded + other.tokens_forwarded,
            self.tokens_generated + other.tokens_generated,
            self.forwards + other.forwards,
            self.seconds + other.seconds,
            self.prompts + other.prompts,
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

    def top(self, n: int) -> tuple[RankedItem, ...]:
        """Return the best n rows; fewer where there are not so many.

        Raises:
            OptionError: ``n`` is negative.
        """
        if n < 0:
            raise OptionError(f"top({n}): allowed is 0 or more.")
        return self.items[:n]


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

    ``faults`` lists what the check found wrong in the texts that were thrown away. ``title`` is the
    item's name.
    """

    user_id: str
    item_id: str
    text: str
    source: TextSource
    evidence: tuple[Evidence, ...]
    faults: tuple[str, ...] = ()
    usage: Usage = Usage()
    title: str = ""
