"""How the data sets that evaluations run on are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.catalog import ColumnMap, TableMap

# Counts of ratings hold the test rows, picture sources follow popularity, ids say nothing.
LEAKS = ("n_ratings", "n_reviews", "image_source", "imdb_id", "tmdb_id")
FILMS = ColumnMap(items=TableMap(ignore=LEAKS))


@dataclass(frozen=True)
class DataSet:
    """How a data set is read, and what a reader of its table should know."""

    columns: ColumnMap
    note: str
    seeds: int = 3
    epochs: int = 40


SETS = {
    "amazon_gift_cards": DataSet(
        ColumnMap(items=TableMap(ignore=("n_reviews", "image_url"))),
        "148 cards that differ in little, 20 of which are a seventh of all: recall@20 is easy.",
    ),
    "douban_books_mm": DataSet(
        ColumnMap(
            items=TableMap(ignore=("douban_rating",)), interactions=TableMap(missing_rating=0)
        ),
        "The text encoder all-MiniLM-L6-v2 knows English; these texts are Chinese. What the text "
        "rows find is what its tokens share, not what they mean. 272 of 1,200 books have a cover.",
        seeds=1,
    ),
    "lastfm_2k_social": DataSet(
        ColumnMap(items=TableMap(ignore=("url", "image_url"))),
        "No times: two random rows a user are held out. Friends: log of 1 + friends that met the "
        "artist in training rows, standardised, its weight chosen on validation.",
        seeds=1,
        epochs=10,
    ),
}


def columns_of(data: Path) -> ColumnMap:
    """The columns of a set that is named here, by its folder; of any other those of films."""
    return SETS[data.name].columns if data.name in SETS else FILMS
