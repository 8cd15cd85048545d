"""The data sets of the evaluations: one way to read, split and index them, and to write results."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

from llmrec import Catalog, Index, TextEncoder
from llmrec.catalog import ColumnMap, Split, TableMap, leave_one_out
from llmrec.evaluation import training_catalog
from llmrec.models import cache_folder
from llmrec.records import Interaction
from llmrec.resumable import ResumableLog

SEED = 0
RESULTS = Path(__file__).parent / "results"
KEPT = cache_folder() / "eval"
"""Where answers and trained rows are kept, so that a killed run resumes."""
VALIDATION, TEST, TRAINING = range(3)
"""What lists to rerank are for: ``part`` in their files."""


def _five_core(rows: Iterable[Interaction]) -> tuple[Interaction, ...]:
    """Leave out users and items with fewer than five rows until there are none."""
    left = tuple(rows)
    while True:
        users, items = Counter(row.user_id for row in left), Counter(row.item_id for row in left)
        kept = tuple(row for row in left if users[row.user_id] >= 5 and items[row.item_id] >= 5)
        if len(kept) == len(left):
            return left
        left = kept


def _shuffled(rows: Iterable[Interaction]) -> tuple[Interaction, ...]:
    """Shuffle rows without times: their file order would tell how often a user listened."""
    every = tuple(rows)
    return tuple(every[row] for row in np.random.default_rng(SEED).permutation(len(every)))


@dataclass(frozen=True)
class DataSet:
    """How a data set is read and fusions are trained: with ``parts``, of each modality too."""

    columns: ColumnMap
    note: str = ""
    seeds: int = 3
    epochs: int = 40
    parts: bool = False
    rows: Callable[[Iterable[Interaction]], tuple[Interaction, ...]] = tuple


# Counts of ratings include the test rows, picture sources follow popularity, ids carry no content.
_LEAKS = ("n_ratings", "n_reviews", "image_source", "imdb_id", "tmdb_id")
_FILMS = DataSet(ColumnMap(items=TableMap(ignore=_LEAKS)), parts=True)
SETS = {
    "movielens_mm": _FILMS,
    "movielens_mm_mini": _FILMS,
    "ml_latest_small": DataSet(
        ColumnMap(
            items=TableMap(
                file="movies.csv", columns={"item_id": "movieId"}, separators={"genres": "|"}
            ),
            interactions=TableMap(
                file="ratings.csv",
                columns={"user_id": "userId", "item_id": "movieId"},
                ignore=("rating",),
            ),
        ),
        rows=_five_core,
    ),
    "amazon_gift_cards": DataSet(
        ColumnMap(items=TableMap(ignore=("n_reviews", "image_url"))),
        "148 cards that differ in little; 20 of them are a seventh of all, so recall@20 is easy.",
    ),
    "douban_books_mm": DataSet(
        ColumnMap(
            items=TableMap(ignore=("douban_rating",)), interactions=TableMap(missing_rating=0)
        ),
        "The text encoder all-MiniLM-L6-v2 is English; these texts are Chinese. The text rows "
        "match shared tokens, not meaning. 272 of 1,200 books have a cover.",
        seeds=1,
    ),
    "lastfm_2k_social": DataSet(
        ColumnMap(items=TableMap(ignore=("url", "image_url"))),
        "No times: two random rows a user are held out. Friends: log of 1 + friends that met the "
        "artist in training rows, standardised, its weight chosen on validation.",
        seeds=1,
        epochs=10,
        rows=_shuffled,
    ),
}


def set_of(folder: Path) -> DataSet:
    """The set named like the folder; any other has llmrec's own column names."""
    return SETS.get(folder.name, DataSet(ColumnMap(), parts=True))


def read(folder: Path) -> Catalog:
    """Read a data set; items without interactions are left out where the set is a 5-core."""
    chosen = set_of(folder)
    catalog = Catalog.from_folder(folder, columns=chosen.columns)
    rows = chosen.rows(catalog.interactions)
    items = catalog.items
    if len(rows) < len(catalog.interactions):
        met = {row.item_id for row in rows}
        items = {item_id: item for item_id, item in items.items() if item_id in met}
    return replace(catalog, items=items, interactions=rows)


@dataclass(frozen=True)
class Held:
    """A catalogue, its leave-one-out split, and an index of the training rows alone."""

    catalog: Catalog
    split: Split
    index: Index


def load(catalog: Catalog) -> Held:
    """Split and embed the texts."""
    split = leave_one_out(catalog)
    known, encoder = training_catalog(catalog, split), TextEncoder.from_pretrained()
    index = Index.build(known, encoder, modalities=(), insights={}, progress=True)
    return Held(catalog, split, index)


Kept = Callable[[str, Callable[[], Mapping[str, Any]]], Mapping[str, Any]]
"""Returns what is logged under a key, made first where it is missing."""


@contextmanager
def kept_in(path: Path) -> Iterator[Kept]:
    """Open a log of results by key, so that a killed run resumes."""
    with ResumableLog(path) as log:
        known = {row["key"]: row for row in log.rows}

        def get(key: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
            if key not in known:
                known[key] = {"key": key, **make()}
                log.append(known[key])
            return known[key]

        yield get


def command_of(script: str, arguments: Sequence[str] | None) -> str:
    """A command as its results name it: folders by name, without --out and --kept."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    for option in ("--out", "--kept"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    named = [Path(word).name if Path(word).is_absolute() else word for word in words]
    return " ".join([f"python eval/{script}.py", *named])


def write_results(
    name: str, text: str, document: Mapping[str, Any], folder: Path | None = None
) -> None:
    """Print the text and write ``results/NAME.md`` and ``.json``."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    versions = {package: version(package) for package in ("llmrec", "torch", "transformers")}
    plain = to_jsonable_python({**document, "versions": versions}, fallback=dict)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(text)
