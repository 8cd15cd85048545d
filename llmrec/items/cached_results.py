"""Run models on texts and files: each content once, cached batch by batch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from llmrec.catalog.media_files import MediaError, MediaPath, open_media
from llmrec.content_cache import ContentCache, content_key
from llmrec.errors import DataError
from llmrec.items.modality import ModalityVectors
from llmrec.models import cache_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Cache(Protocol[R]):
    """Where results are kept by key: a ContentCache (bytes) or a VectorCache (arrays)."""

    def get_many(self, keys: Sequence[str]) -> Mapping[str, R]:
        """Read the cached results."""
        ...

    def put_many(self, contents: Mapping[str, R], /) -> None:
        """Keep results, each under its key."""
        ...


class VectorCache:
    """float32 vectors by string key in one file; see :class:`~llmrec.content_cache.ContentCache`.

    Args:
        path: The file. Its folder is created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._contents = ContentCache(path)

    def get_many(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Read the vectors that are cached (StorageError: the file cannot be read)."""
        found = self._contents.get_many(keys)
        return {
            key: np.frombuffer(b"" if len(blob) % 4 else blob, "<f4").astype(np.float32)
            for key, blob in found.items()
        }

    def put_many(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep vectors, all or (if interrupted) none (StorageError: it cannot be written)."""
        self._contents.put_many(
            {key: np.asarray(vector, dtype="<f4").tobytes() for key, vector in vectors.items()}
        )


def default_vector_cache() -> VectorCache:
    """The file ``vectors.sqlite3`` in llmrec's cache folder."""
    return VectorCache(cache_folder() / "vectors.sqlite3")


def compute_missing(
    inputs: Mapping[str, T],
    compute: Callable[[Mapping[str, T]], Mapping[str, R]],
    *,
    cache: Cache[R] | None,
    batch_size: int,
    damaged: Callable[[Mapping[str, R]], Sequence[str]],
    doing: str,
    unit: str,
    progress: bool = False,
) -> tuple[dict[str, R], int]:
    """Compute the results that the cache lacks, in the order of ``inputs``, then damaged ones.

    Each batch is cached as soon as it is computed, so an interrupted run resumes where it stopped.

    Args:
        inputs: By the key of their result.
        compute: A batch of inputs to their results, by key; it may leave some out.
        cache: Where results are kept between runs; None keeps none.
        batch_size: Inputs at once.
        damaged: Finds the keys of results that cannot be used; they are computed again.
        doing: Text of the progress bar.
        unit: Name of one input.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        Results by key, and how many the cache held.

    Raises:
        StorageError: The cache cannot be used.
    """
    known = dict(cache.get_many(list(inputs))) if cache else {}
    cached = len(known)
    disable = None if progress else True

    def fill(missing: Sequence[str]) -> None:
        with tqdm(total=len(missing), desc=doing, unit=unit, disable=disable) as bar:
            for start in range(0, len(missing), batch_size):
                batch = {key: inputs[key] for key in missing[start : start + batch_size]}
                new = compute(batch)
                if cache and new:
                    cache.put_many(new)
                known.update(new)
                bar.update(len(batch))

    fill([key for key in inputs if key not in known])
    broken = damaged(known) if cached else ()
    if broken:
        logger.warning("%s: %d damaged results in the cache: recomputed.", doing, len(broken))
        cached -= len(broken)
        for key in broken:
            del known[key]
        fill(broken)
    logger.info("%s: %d computed, %d from the cache", doing, len(known) - cached, cached)
    return known, cached


def unreadable(known: Mapping[str, R], read: Callable[[R], object]) -> list[str]:
    """Return the keys of results that ``read`` refuses with a ValueError."""
    broken = []
    for key, result in known.items():
        try:
            read(result)
        except ValueError:
            broken.append(key)
    return broken


def damaged_vectors(known: Mapping[str, np.ndarray], dimension: Callable[[], int]) -> list[str]:
    """Return the keys of vectors that are not finite, or not of length 1 or 0, or of another d.

    ``dimension`` finds d; it is asked if the vectors have several.
    """
    sizes = {vector.size for vector in known.values()} - {0}
    d = dimension() if len(sizes) > 1 else next(iter(sizes), 0)

    def check(vector: np.ndarray) -> None:
        if vector.size != d or not d or not (abs(vector @ vector - 1) < 0.01 or not vector.any()):
            raise ValueError("no row of an encoder")

    with np.errstate(all="ignore"):
        return unreadable(known, check)


@dataclass(frozen=True)
class FileTask(Generic[T, R]):
    """How files become results.

    Args:
        unit: Content of a file: ``image``, ``clip``...
        doing: Text of the progress bar.
        recipe: Settings that results depend on besides the file's bytes; part of the cache key.
        read: Reads one file, or raises a DataError that names its fault.
        compute: Several contents to as many results.
        batch_size: Files that are held in memory at once.
        cache: Where results are kept between runs; None keeps none.
        damaged: Finds the keys of cached results that cannot be used.
    """

    unit: str
    doing: str
    recipe: Sequence[str]
    read: Callable[[Path], T]
    compute: Callable[[Sequence[T]], Sequence[R]]
    batch_size: int
    cache: Cache[R] | None
    damaged: Callable[[Mapping[str, R]], Sequence[str]]


@dataclass(frozen=True)
class FileResults(Generic[R]):
    """A result by row, and for each row whose file gave none, why.

    ``computed`` and ``cached`` count distinct contents.
    """

    results: Mapping[int, R]
    gaps: Mapping[int, str]
    computed: int
    cached: int


def from_files(
    paths: Sequence[MediaPath], task: FileTask[T, R], *, progress: bool = False
) -> FileResults[R]:
    """Compute a result for each file; files with the same bytes are computed once.

    Args:
        paths: The file of each row (see ``media_paths``), None where a row has none.
        task: The computation.
        progress: Show a progress bar on stderr while computing if it is a terminal.
    """
    gaps = {row: path.message for row, path in enumerate(paths) if isinstance(path, MediaError)}
    files = {row: path for row, path in enumerate(paths) if isinstance(path, Path)}
    keys: dict[Path, str] = {}
    faults: dict[Path, str] = {}
    for path in dict.fromkeys(files.values()):
        try:
            keys[path] = _key(path, task)
        except MediaError as fault:
            faults[path] = fault.message
    unread: dict[str, str] = {}

    def compute(batch: Mapping[str, Path]) -> Mapping[str, R]:
        contents: dict[str, T] = {}
        for key, path in batch.items():
            try:
                content = task.read(path)
                if _key(path, task) == key:
                    contents[key] = content
                else:
                    unread[key] = f"The file {str(path)!r} changed while it was read."
            except DataError as fault:
                unread[key] = fault.message
        if not contents:
            return {}
        return dict(zip(contents, task.compute(list(contents.values())), strict=True))

    known, cached = compute_missing(
        {key: path for path, key in keys.items()},
        compute,
        cache=task.cache,
        batch_size=task.batch_size,
        damaged=task.damaged,
        doing=task.doing,
        unit=task.unit,
        progress=progress,
    )
    results = {row: known[keys[path]] for row, path in files.items() if keys.get(path) in known}
    gaps |= {
        row: faults[path] if path in faults else unread[keys[path]]
        for row, path in files.items()
        if row not in results
    }
    if gaps:
        logger.info("%s: %d rows could not be read", task.doing, len(gaps))
    return FileResults(results, gaps, len(known) - cached, cached)


def embed_files(
    encoder: str,
    dimension: Callable[[], int],
    paths: Sequence[MediaPath],
    task: FileTask[T, np.ndarray],
    *,
    progress: bool,
) -> ModalityVectors:
    """Embed one file per item; see :func:`from_files`.

    Args:
        encoder: The model's name with its revision.
        dimension: Finds the length d of a vector, where no file gives one.
        paths: The file of each item (see ``media_paths``), None where it has none.
        task: Its results are rows of length 1, its unit is the modality's name.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Returns:
        float32 [n_items, d]. A file that cannot be read, or in which the encoder finds nothing, is
        a gap.
    """
    found = from_files(paths, task, progress=progress)
    first = next(iter(found.results.values()), None)
    d = dimension() if first is None else len(first)
    vectors = np.zeros((len(paths), d), dtype=np.float32)
    gaps = dict(found.gaps)
    for row, vector in found.results.items():
        vectors[row] = vector
        if not vector.any():
            gaps[row] = f"{encoder} finds nothing in {str(paths[row])!r}."
    return ModalityVectors(task.unit, encoder, vectors, np.any(vectors != 0, axis=1), gaps)


def _key(path: Path, task: FileTask[T, R]) -> str:
    """The cache key of a file's content (MediaError: it cannot be read)."""
    with open_media(path) as stream:
        try:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise MediaError(f"The file {str(path)!r} cannot be read: {error.strerror}.") from error
    return content_key(*task.recipe, digest)
