"""What a model makes of files: each content once, cached by batch, faults reported by row."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from llmrec.content_cache import content_key
from llmrec.errors import DataError
from llmrec.items.modality import ModalityVectors

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Cache(Protocol[R]):
    """Where results are kept by key: a ContentCache (bytes) or a VectorCache (arrays)."""

    def get_many(self, keys: Sequence[str]) -> Mapping[str, R]:
        """Read what is there."""
        ...

    def put_many(self, contents: Mapping[str, R], /) -> None:
        """Keep results, each under its key."""
        ...


@dataclass(frozen=True)
class Reading(Generic[T, R]):
    """How files become results.

    Args:
        unit: What a file holds: ``image``, ``clip``...
        doing: What is done with it, for the progress bar.
        recipe: What a result depends on beside a file's bytes: it is kept under it.
        read: Reads one file, or raises a DataError that names its fault.
        compute: Several contents to as many results.
        batch_size: Files that are held in memory at once.
        cache: Where results are kept between runs; None keeps none.
    """

    unit: str
    doing: str
    recipe: Sequence[str]
    read: Callable[[Path], T]
    compute: Callable[[Sequence[T]], Sequence[R]]
    batch_size: int
    cache: Cache[R] | None


@dataclass(frozen=True)
class FromFiles(Generic[R]):
    """What files gave: a result by row, and for each row that has none although it has a file, why.

    ``computed`` and ``cached`` count distinct contents.
    """

    results: Mapping[int, R]
    gaps: Mapping[int, str]
    computed: int
    cached: int


def from_files(
    paths: Sequence[Path | None], by: Reading[T, R], *, progress: bool = False
) -> FromFiles[R]:
    """Compute a result for each file; files with the same bytes are computed once.

    Each batch is kept as soon as it is there, so an interrupted run continues where it stopped.

    Args:
        paths: The file of each row, None where a row has none.
        by: How.
        progress: Show a bar on stderr while computing, where that is a terminal.
    """
    keys: dict[Path, str] = {}
    faults: dict[Path, str] = {}
    for path in dict.fromkeys(path for path in paths if path is not None):
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            keys[path] = content_key(*by.recipe, digest)
        except (OSError, ValueError) as error:
            faults[path] = _fault(path, by, error)
    known = dict(by.cache.get_many(list(keys.values()))) if by.cache else {}
    cached = len(known)
    todo = list({key: path for path, key in keys.items() if key not in known}.items())
    unread: dict[str, str] = {}
    with tqdm(
        total=len(todo), desc=by.doing, unit=by.unit, disable=None if progress else True
    ) as bar:
        for start in range(0, len(todo), by.batch_size):
            batch = todo[start : start + by.batch_size]
            new = _compute(batch, by, unread)
            if by.cache:
                by.cache.put_many(new)
            known.update(new)
            bar.update(len(batch))
    rows = {row: path for row, path in enumerate(paths) if path is not None}
    results = {row: known[keys[path]] for row, path in rows.items() if keys.get(path) in known}
    gaps = {
        row: faults[path] if path in faults else unread[keys[path]]
        for row, path in rows.items()
        if row not in results
    }
    computed = len(known) - cached
    logger.info(
        "%s: %d computed, %d from the cache, %d rows unread", by.doing, computed, cached, len(gaps)
    )
    return FromFiles(results, gaps, computed, cached)


def _fault(path: Path, by: Reading[T, R], error: Exception) -> str:
    """Let the reader say what is wrong with a file that cannot even be hashed."""
    try:
        by.read(path)
    except DataError as fault:
        return fault.message
    return str(error)


def _compute(
    batch: Sequence[tuple[str, Path]], by: Reading[T, R], unread: dict[str, str]
) -> dict[str, R]:
    contents: dict[str, T] = {}
    for key, path in batch:
        try:
            contents[key] = by.read(path)
        except DataError as fault:
            unread[key] = fault.message
    if not contents:
        return {}
    return dict(zip(contents, by.compute(list(contents.values())), strict=True))


def embed_files(
    encoder: str,
    dimension: Callable[[], int],
    paths: Sequence[Path | None],
    by: Reading[T, np.ndarray],
    *,
    progress: bool,
) -> ModalityVectors:
    """Embed one file an item: see :func:`~llmrec.items.media_files.from_files`.

    Args:
        encoder: The model's name with its revision.
        dimension: Finds the length d of a vector, where no file gives one.
        paths: The file of each item, None where it has none.
        by: How; its results are rows of length 1, its unit is the modality's name.
        progress: Show a bar on stderr while computing, where that is a terminal.

    Returns:
        float32 [n_items, d]. A file that cannot be read, or in which the encoder finds nothing, is
        a gap.
    """
    found = from_files(paths, by, progress=progress)
    first = next(iter(found.results.values()), None)
    d = dimension() if first is None else len(first)
    vectors = np.zeros((len(paths), d), dtype=np.float32)
    gaps = dict(found.gaps)
    for row, vector in found.results.items():
        vectors[row] = vector
        if not vector.any():
            gaps[row] = f"{encoder} finds nothing in {str(paths[row])!r}."
    return ModalityVectors(by.unit, encoder, vectors, np.any(vectors != 0, axis=1), gaps)
