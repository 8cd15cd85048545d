"""The records that flow through llmrec, from the catalogue to an explanation.

All are frozen: a step returns new records and never changes its inputs. Ids are always strings.
Times are seconds since 1970-01-01 UTC, floats where they have a fraction. Scores are "higher is
better" everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from llmrec.errors import check_count

AttributeValue = str | int | float | bool | tuple[str, ...]
"""Type of an attribute value; a list column becomes a tuple of strings."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended.

    ``attributes`` keeps every other column of the item file, in file order, without missing
    values. ``image``, ``video`` and ``audio`` are paths as the file gives them.
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
        """The title, or the description's first 60 characters, or the id."""
        return self.title or self.description[:60].strip() or self.item_id


LONGEST_READ = 20_000
"""Characters of a review that are read: half of them from its opening, half from its ending."""


@dataclass(frozen=True, slots=True)
class Review:
    """A user's text about an item."""

    item_id: str
    text: str
    rating: float | None = None
    user_id: str | None = None
    timestamp: int | float | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """A user's interaction with an item. ``rating`` keeps the data set's unit; None if missing."""

    user_id: str
    item_id: str
    rating: float | None = None
    timestamp: int | float | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user as every later step sees one: profile columns and history, oldest interaction first.

    The user need not be in a catalogue: ``User("new", history=(...))`` works like a known one. A
    user with an empty history is a cold start. ``query`` is a request in plain words, or empty.
    ``neutral_rating`` is the data set's rating above which an item counts as liked; None guesses it
    from the history.
    """

    user_id: str
    history: tuple[Interaction, ...] = ()
    profile: Mapping[str, AttributeValue] = field(default_factory=dict)
    friends: tuple[str, ...] = ()
    query: str = ""
    neutral_rating: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that retrieval proposes for a user.

    ``score`` is the retriever's score. ``signals`` holds its parts by name
    (``content``: cosine similarity to the user's history; ``popularity``: log of 1 + interactions).
    """

    item_id: str
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


class CaptionSource(StrEnum):
    """Source of a caption."""

    GIVEN = "given"
    """The data set contains the caption."""
    MODEL = "model"
    """A captioning model wrote it."""
    CLASSES = "classes"
    """Class names from an image classifier, with their probabilities."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A description of an image or video clip."""

    text: str
    source: CaptionSource


@dataclass(frozen=True, slots=True)
class Aspect:
    """A topic of an item's reviews, with its counts of positive and negative sentences."""

    name: str
    positive: int
    negative: int


class SentimentSource(StrEnum):
    """Source of a review's sentiment."""

    MODEL = "model"
    """A text-classification model."""
    RATINGS = "ratings"
    """A head fitted on this data set's rated reviews, without the item's own."""
    ZERO_SHOT = "zero_shot"
    """The text encoder: similarity to sentences of praise and of complaint, no ratings needed."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """A summary of an item's reviews.

    ``share_positive`` is the share of positive reviews among ``n``: by rating if it is clear, else
    by a predicted probability above 0.5. ``praise`` and ``complaints`` hold the most typical
    sentences, most typical first. ``aspects`` are sorted by number of mentions.
    """

    n: int
    share_positive: float
    praise: tuple[str, ...]
    complaints: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    source: SentimentSource


@dataclass(frozen=True, slots=True)
class Insight:
    """Information about an item that is not in the text of its file.

    ``facts`` are sentences from a knowledge graph. ``gaps`` maps a modality (``image``, ``video``,
    ``audio``, ``reviews``) to the reason why it could not be read.
    """

    picture: Caption | None = None
    clip: Caption | None = None
    opinion: Opinion | None = None
    facts: tuple[str, ...] = ()
    gaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The input of a language model.

    A chat prompt has ``system`` (may be empty) and ``user``, one message each; ``text`` is None. A
    plain prompt has only ``text``, which the model continues without roles.
    """

    system: str
    user: str
    text: str | None = None


class Status(StrEnum):
    """Whether the language model scored a candidate."""

    SCORED = "scored"
    UNSCORED = "unscored"
    """The model gave no usable score: the candidate follows the scored ones, in retrieval order."""
    NOT_ASKED = "not_asked"
    """No language model was used (``--no-llm``)."""


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One row of a ranking.

    ``rank`` and ``retrieval_rank`` count from 1. ``score`` is the fused score that orders the list,
    or the strategy's score if there is nothing to fuse; None for an unscored candidate. ``signals``
    holds the fused scores before standardisation; the language model's is under the strategy's
    name. ``title`` is the item's name.
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
    """Usage of a language model by one step; usages can be added.

    ``tokens_given`` counts the tokens of whole prompts, ``tokens_forwarded`` those computed after
    sharing prefixes, ``tokens_generated`` the decoded ones. ``forwards`` counts calls of the model,
    ``seconds`` is wall time in the model, ``prompts`` counts prompts (candidates, comparisons,
    windows).
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


FALLBACKS: Mapping[str, str] = {
    "unscored": "the model did not score the candidate; it ranks after the scored ones",
    "cold_start": "the user has no history",
    "signal_missing": "the candidate has no score of the retriever",
    "id_as_title": "the candidate has no title; the model read its id",
    "labels_improbable": "the labels of a strategy got less than .2 of the probability on average",
    "weights_not_fitted": "the fitted gate weighs other signals; defaults were used",
    "popularity_unknown": "without an index popularity is unknown; plain weights were used",
    "part_missing": "the strategy did not give a part that the gate weighs; it counted as average",
    "history_shortened": "the oldest history items were left out of a prompt that was too long",
    "batch_halved": "out of memory: prompts were processed in smaller batches",
    "infinite": "the model returned an infinite score; the candidate is unscored",
    "labels_floored": "a server did not list a label; an upper bound was used",
    "no_answer": "a prompt had no usable answer",
    "order_conflict": "a pair was answered differently in its two orders; it is a tie",
    "request_failed": "a request to a server failed, also when repeated",
    "request_refused": "a server refused a request",
    "answer_repeated": "a generated order had a label twice",
    "answer_missing": "a generated order lacked a label",
    "answer_foreign": "a generated order had an unknown label",
    "answer_refused": "the model refused to give an order",
    "answer_empty": "the model generated nothing",
    "answer_cut_off": "a generated order was not finished",
    "no_label_returned": "a server returned none of the labels",
    "lists_without_a_judgement": "no candidate of a user was scored; the given order counts",
}
"""Everything that may not go as requested, by the name that rankings count it under."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A permutation of the given candidates.

    ``fallbacks`` counts fallbacks by name (see `FALLBACKS`). ``weights`` are the gate's weights of
    the standardised signals and of products with popularity. ``label_shares`` has, by strategy, the
    probability that the model gives to all labels of a prompt together ("Yes" and "No"), the mean
    of its prompts.
    """

    user_id: str
    items: tuple[RankedItem, ...]
    usage: Usage = Usage()
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    label_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The item ids in ranked order, best first."""
        return tuple(item.item_id for item in self.items)

    def top(self, n: int) -> tuple[RankedItem, ...]:
        """Return the best n rows, or all if there are fewer.

        Raises:
            OptionError: ``n`` is no whole number, or negative.
        """
        return self.items[: check_count("n", n, least=0)]


class TextSource(StrEnum):
    """Source of an explanation's text."""

    STATEMENTS = "statements"
    """The item's own attributes, facts and review sentences, quoted."""
    TEMPLATE = "template"
    """A template sentence from the evidence."""
    MODEL = "model"
    REWRITTEN = "rewritten"
    """The model's second text: the first one had an unsupported claim."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact an explanation may use: ``kind`` is item, history, profile or review.

    ``unit`` names its source (``history:3``, ``review:12#2``, ``caption``, ``attribute:brand``).
    ``weight`` is how far the item's fused score falls when the unit is left out, None where that
    was not measured; ``parts`` divides it by signal.
    """

    kind: str
    text: str
    item_id: str | None = None
    unit: str = ""
    weight: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of an explanation and the units of evidence that it rests on."""

    text: str
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a text, or a fact, was not used; ``kind`` is a name of `FAULT_KINDS`."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


FAULT_KINDS: Mapping[str, str] = {
    "subject": "it is not about the item, or offers another one",
    "name": "a title, name or quotation that the evidence lacks",
    "number": "a number that the evidence lacks",
    "value": "an attribute value, aspect or product word that the evidence lacks",
    "polarity": "the evidence says the opposite",
    "user": "something about the user that is not known",
    "support": "a sentence without evidence",
    "entailment": "the entailment model does not infer it from its evidence",
    "form": "unfinished, too long, a list, a repetition, or not addressed to the reader",
    "instruction": "it reads like an instruction to a language model",
    "prompt": "the prompt does not fit the model",
}
"""The kinds of faults that texts and facts are rejected for."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an item's text that the explanation rests on.

    ``start`` and ``end`` are code points, ``score`` is between 0 and 1: the weight of the ``unit``
    as a share of the largest, 1 where weights were not measured.
    """

    start: int
    end: int
    score: float
    unit: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """An explanation of one item for one user, with the evidence used to check it.

    ``faults`` lists why facts were left out and why texts were rejected. ``title`` is the item's
    name. ``claims`` divides the text into statements with their evidence. ``spans`` are places in
    ``item_text``: title, attributes and description, a line each.
    """

    user_id: str
    item_id: str
    text: str
    source: TextSource
    evidence: tuple[Evidence, ...]
    faults: tuple[Fault, ...] = ()
    usage: Usage = Usage()
    title: str = ""
    claims: tuple[Claim, ...] = ()
    item_text: str = ""
    spans: tuple[Span, ...] = ()
