"""Data of items and users for prompts and explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmrec.items import Taste
from llmrec.records import Insight, Item, Review, User

if TYPE_CHECKING:
    from llmrec.retrieval import Index


@dataclass(frozen=True, slots=True)
class Context:
    """Data for prompts and explanations, from an index or from the items of one request.

    Attributes:
        items: Every item of the histories and candidates, by id.
        reviews: Reviews of an item, by its id.
        insight: Captions, opinion and facts of an item, by its id.
        taste: A user's taste, from the history.
        popularity: Number of interactions of an item, by its id.
        met_by: Ids of the users who met an item, by its id.
        similarity: Cosine similarity of two items, by their ids; 1 without embeddings.
        best_rating: The highest rating in any review, 0 if there is none.
        pool: Ids of items that can replace candidates in the neutral prompts of calibration.
        user: A known user, by id.
        neutral_rating: The rating above which an item counts as liked; None guesses it.
    """

    items: Mapping[str, Item] = field(default_factory=dict)
    reviews: Callable[[str], Sequence[Review]] = lambda _: ()
    insight: Callable[[str], Insight] = lambda _: Insight()
    taste: Callable[[User], Taste] = lambda _: Taste()
    popularity: Callable[[str], int] = lambda _: 0
    met_by: Callable[[str], frozenset[str]] = lambda _: frozenset()
    similarity: Callable[[str, str], float] = lambda _, __: 1.0
    best_rating: Callable[[], float] = lambda: 0.0
    pool: Sequence[str] = ()
    user: Callable[[str], User] = User
    neutral_rating: float | None = None


def context_of(index: Index) -> Context:
    """The context of an index."""

    def similarity(one: str, other: str) -> float:
        return float(index.vectors[index.row(one)] @ index.vectors[index.row(other)])

    def best_rating() -> float:
        return max((r.rating for r in index.reviews if r.rating is not None), default=0.0)

    return Context(
        items=index.items,
        reviews=index.reviews_of,
        insight=index.insight_of,
        taste=index.taste_of,
        popularity=lambda item_id: int(index.popularity[index.row(item_id)]),
        met_by=index.met_by,
        similarity=similarity,
        best_rating=best_rating,
        pool=index.item_ids,
        user=index.user,
        neutral_rating=index.neutral_rating,
    )
