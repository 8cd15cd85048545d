"""The facts that an explanation may use: of the item, the user's history and profile, reviews.

Each fact is a short text that a prompt can list as it is. Titles stand in double quotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmrec.catalog import liked
from llmrec.catalog.values import named_values, readable
from llmrec.errors import UnknownItemError, nearest
from llmrec.explaining.rarity import Rarity
from llmrec.explaining.titles import content_keys, split_sentences
from llmrec.items import opinion_line
from llmrec.prompting import Context
from llmrec.records import CaptionSource, Evidence, Item, Review, User

TITLE = "Title: "
ABOUT = "Description: "
LIKED = "You liked "
CHOSEN = "Chosen by "
FITS = "It fits your "
REVIEW = "A review says: "
REVIEWERS = "Reviewers: "
SHOWS = "Its picture shows: "
ASKED = "You asked for: "

_TITLE_LENGTH = 100
_VALUES_LENGTH = 80
"""Characters of the values of an attribute, so that a list ends with a whole value."""
_STAND_IN_LENGTH = 60
"""Characters of a description that stand for a missing title."""
_TEXT_READ = 2_000
"""Characters read of a description or review."""
_REVIEWS_READ = 50
_GOOD = 0.7
"""A rating is good from this share of the best rating in the catalogue's reviews."""
_REVIEW_SENTENCE = range(30, 180)
"""Minimum and maximum characters of a quoted review sentence."""


@dataclass(frozen=True, slots=True)
class EvidenceLimits:
    """How many facts of each kind are gathered at most.

    Attributes:
        attributes: Attributes of the item.
        values: Values of one attribute, as far as they fit a line.
        sentences: Sentences of the description.
        characters: Characters of one of them.
        history: Items of the user's history.
        profile: Columns of the user's profile.
        reviews: Sentences of reviews, each of another review.
        facts: Facts of a knowledge graph.
        opinion_from: Fewest reviews for reporting their positive share.
    """

    attributes: int = 6
    values: int = 4
    sentences: int = 2
    characters: int = 240
    history: int = 3
    profile: int = 3
    reviews: int = 1
    facts: int = 2
    opinion_from: int = 3


def gather_evidence(
    context: Context,
    user: User,
    item_id: str,
    *,
    limits: EvidenceLimits | None = None,
    rarity: Rarity | None = None,
) -> tuple[Evidence, ...]:
    """Gather the facts that an explanation may use, in a fixed order.

    They come only from the user and the context. The user's own review of the item is left out.

    Args:
        context: Data of items and users.
        user: Who the explanation is for.
        item_id: The item to explain.
        limits: How much to gather.
        rarity: ``Rarity.of(context.items.values())``, so that a caller counts once for many items.

    Returns:
        Facts about the item first (its title always), then the items of the history most related
        to it, the profile, the query, and reviews. ``unit`` names the source of each: ``title``,
        ``attribute:NAME``, ``description#SENTENCE``, ``caption``, ``fact:N``, ``opinion``,
        ``popularity``, ``history:PLACE``, ``profile:COLUMN``, ``query``, ``friends`` or
        ``review:N#SENTENCE``. Numbers count from 1: the place in the user's history, the review
        among the item's, the sentence in its text.

    Raises:
        UnknownItemError: The context does not hold the item, or one of the history.
    """
    limits = limits or EvidenceLimits()
    rarity = rarity or Rarity.of(context.items.values())
    for known_id in (item_id, *(row.item_id for row in user.history)):
        if known_id not in context.items:
            raise UnknownItemError(
                f"There is no item {known_id!r}.",
                hint=nearest(known_id, context.items) or "Check the id.",
            )
    item = context.items[item_id]
    history = list(_history_facts(context, user, item, limits, rarity))
    chosen = [] if history else list(_popularity_fact(context, item))
    return (
        *_item_facts(item, limits),
        *_insight_facts(context, item, limits),
        *_friends_fact(context, user, item),
        *chosen,
        *history,
        *_profile_facts(user, item, limits),
        *_query_fact(user, limits),
        *_review_facts(context, user, item, limits),
    )


def quoted_name(item: Item) -> str:
    """Write an item's name in double quotes, those inside it single, a long one cut."""
    title = shortened(item.title, _TITLE_LENGTH)
    name = title or shortened(item.description, _STAND_IN_LENGTH) or item.item_id
    return '"' + name.replace('"', "'") + '"'


def shortened(text: str, length: int) -> str:
    """Put a text on one line and cut it, between words where it has any, to so many characters."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    cut = text[:length]
    return (cut.rpartition(" ")[0] or cut) + "…"


def read_sentences(text: str) -> list[str]:
    """The sentences of a description or review, as far as it is read; units count them from 1."""
    return split_sentences(text[:_TEXT_READ])


def _item_facts(item: Item, limits: EvidenceLimits) -> Iterator[Evidence]:
    yield Evidence("item", f"{TITLE}{quoted_name(item)}", item.item_id, "title")
    told = [(name, readable(name, value)) for name, value in item.attributes.items()]
    for name, values in [(name, values) for name, values in told if values][: limits.attributes]:
        text = f"{_label(name)}: {_whole_values(values[: limits.values])}"
        yield Evidence("item", text, item.item_id, f"attribute:{name}")
    sentences = read_sentences(item.description)[: limits.sentences]
    for number, sentence in enumerate(sentences, 1):
        text = ABOUT + shortened(sentence, limits.characters)
        yield Evidence("item", text, item.item_id, f"description#{number}")


def _insight_facts(context: Context, item: Item, limits: EvidenceLimits) -> Iterator[Evidence]:
    """Facts from captions, the knowledge graph and reviews."""
    insight = context.insight(item.item_id)
    # Class names are guesses: not reliable enough for a user.
    if insight.picture and insight.picture.source is not CaptionSource.CLASSES:
        shows = SHOWS + shortened(insight.picture.text, limits.characters)
        yield Evidence("item", shows, item.item_id, "caption")
    for number, fact in enumerate(insight.facts[: limits.facts], 1):
        yield Evidence("item", shortened(fact, limits.characters), item.item_id, f"fact:{number}")
    if insight.opinion and insight.opinion.n >= limits.opinion_from:
        said = REVIEWERS + opinion_line(insight.opinion)
        yield Evidence("review", said, item.item_id, "opinion")


def _friends_fact(context: Context, user: User, item: Item) -> Iterator[Evidence]:
    friends = context.met_by(item.item_id) & set(user.friends)
    if friends:
        people = "one of your friends" if len(friends) == 1 else f"{len(friends)} of your friends"
        yield Evidence("profile", CHOSEN + people, item.item_id, "friends")


def _popularity_fact(context: Context, item: Item) -> Iterator[Evidence]:
    count = context.popularity(item.item_id)
    if count > 1:
        yield Evidence("item", f"{CHOSEN}{count} people", item.item_id, "popularity")


def _history_facts(
    context: Context, user: User, item: Item, limits: EvidenceLimits, rarity: Rarity
) -> Iterator[Evidence]:
    """The liked items most related to the item: close vectors, shared values, rare ones first."""
    own = named_values(item)
    related = []
    for item_id in _liked(user):
        if item_id == item.item_id:
            continue
        similarity = context.similarity(item_id, item.item_id)
        other = set(named_values(context.items[item_id]))
        shared = [value for value in own if value in other]
        share = rarity.weight(shared) / rarity.weight(own) if shared else 0.0
        # A shared value alone, such as a colour, does not make two items related.
        related.append((similarity * (1 + share), item_id, shared))
    related.sort(key=lambda row: -row[0])  # stable: of two as close, the latest stays first
    places = {row.item_id: place for place, row in enumerate(user.history, 1)}
    for _, item_id, shared in related[: limits.history]:
        telling = [value for value in shared if not rarity.common(value)]
        text = LIKED + quoted_name(context.items[item_id]) + _shared_text(telling, limits, rarity)
        yield Evidence("history", text, item_id, f"history:{places[item_id]}")


def _shared_text(shared: list[tuple[str, str]], limits: EvidenceLimits, rarity: Rarity) -> str:
    """The most specific attribute that two items share: " (genres: Comedy)"."""
    by_name = {name: [value for value in shared if value[0] == name] for name, _ in shared}
    if not by_name:
        return ""
    name = max(by_name, key=lambda name: rarity.weight(by_name[name]))
    rare_first = sorted(by_name[name], key=lambda value: -rarity.weight([value]))
    values = [text for _, text in rare_first[: limits.values]]
    return f" ({_label(name)}: {_whole_values(values)})"


def _liked(user: User) -> list[str]:
    """Ids of the items that the user liked when they last met them, the latest first."""
    told = liked(user.history, user.neutral_rating)
    opinions = {row.item_id: opinion for row, opinion in zip(user.history, told, strict=True)}
    return [item_id for item_id in reversed(opinions) if opinions[item_id]]


def _profile_facts(user: User, item: Item, limits: EvidenceLimits) -> Iterator[Evidence]:
    """The profile's columns; those with a value of the item come first."""
    item_values = {text.casefold() for _, text in named_values(item)}
    facts = []
    for name, value in user.profile.items():
        values = readable(name, value, longest=limits.characters)
        fitting = [text for text in values if text.casefold() in item_values]
        told = ", ".join((fitting or values)[: limits.values])
        text = f"{FITS if fitting else 'Your '}{_label(name)}: {told}"
        facts.append((not fitting, Evidence("profile", text, unit=f"profile:{name}"), told))
    for _, fact, told in sorted(facts, key=lambda fact: fact[0])[: limits.profile]:
        if told:
            yield fact


def _query_fact(user: User, limits: EvidenceLimits) -> Iterator[Evidence]:
    if user.query.strip():
        asked = ASKED + shortened(user.query, limits.characters).replace('"', "'")
        yield Evidence("profile", asked, unit="query")


def _review_facts(
    context: Context, user: User, item: Item, limits: EvidenceLimits
) -> Iterator[Evidence]:
    """One sentence of each of the reviews with a good rating that say most about the item."""
    best = context.best_rating()
    good = [
        (review.rating, number, review)
        for number, review in enumerate(context.reviews(item.item_id), 1)
        if review.rating is not None
        and 0 < _GOOD * best <= review.rating
        and review.user_id != user.user_id
    ]
    good.sort(key=lambda row: -row[0])
    about = content_keys(
        " ".join(
            [item.title, item.description[:_TEXT_READ], *(text for _, text in named_values(item))]
        )
    )
    sentences = [(n, *_most_telling(review, about)) for _, n, review in good[:_REVIEWS_READ]]
    sentences.sort(key=lambda row: -row[1])
    for number, hits, place, sentence in sentences[: limits.reviews]:
        if hits:
            unit = f"review:{number}#{place}"
            yield Evidence("review", f'{REVIEW}"{sentence}"', item.item_id, unit)


def _most_telling(review: Review, about: set[str]) -> tuple[int, int, str]:
    """The sentence that shares most words with the item's text: their number, its place, itself."""
    sentences = [" ".join(s.replace('"', "'").split()) for s in read_sentences(review.text)]
    return max(
        (
            (len(content_keys(s) & about), place, s)
            for place, s in enumerate(sentences, 1)
            if len(s) in _REVIEW_SENTENCE
        ),
        key=lambda row: row[0],
        default=(0, 0, ""),
    )


def _whole_values(values: Sequence[str]) -> str:
    """The first values, as many as fit a line; the first one always."""
    most = len(values)
    while most > 1 and len(", ".join(values[:most])) > _VALUES_LENGTH:
        most -= 1
    return ", ".join(values[:most])


def _label(name: str) -> str:
    return name.replace("_", " ")
