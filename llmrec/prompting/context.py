"""What prompts may say beside the catalogue's own text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrec.items import Taste
from llmrec.records import Insight, Review, User

if TYPE_CHECKING:
    from llmrec.retrieval import Index


@dataclass(frozen=True, slots=True)
class Background:
    """Where templates look up what was understood of items and users; by default nothing was.

    Attributes:
        reviews: Reviews of an item by its id.
        insight: Captions, opinion and facts of an item by its id.
        taste: What a user's history says.
    """

    reviews: Callable[[str], Sequence[Review]] = lambda _: ()
    insight: Callable[[str], Insight] = lambda _: Insight()
    taste: Callable[[User], Taste] = lambda _: Taste()


def background_of(index: Index) -> Background:
    """Look everything up in an index."""
    return Background(index.reviews_of, index.insight_of, index.taste_of)
