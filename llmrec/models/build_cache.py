"""Cached folders that are built once: complete or absent, and checked before use.

A folder is built beside its place and moved there in one step, so that a killed build leaves
nothing half-made. Its manifest holds the SHA-256 of every file. Hashing is slow, so a digest is
stored with the file's size and modification time, and computed again when either changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from llmrec.documents import parse_json
from llmrec.errors import StorageError
from llmrec.locks import locked

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def cache_folder() -> Path:
    """Return the cache: the folder in ``LLMREC_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("LLMREC_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("llmrec")


def digest(path: Path, *, fresh: bool = False, remember: bool = True) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    ``fresh`` reads the file even if its size and modification time did not change; ``remember``
    stores the digest for the next call.
    """
    stamp = _stamp_of(path)
    state = _state_of(path)
    if not fresh and stamp.is_file():
        known_state, _, known = stamp.read_text(encoding="ascii", errors="replace").partition(" ")
        if known_state == state and len(known) == 64:
            return known
    with path.open("rb") as stream:
        value = hashlib.file_digest(stream, "sha256").hexdigest()
    if remember:
        _remember(path, value)
    return value


def build_once(
    folder: Path, build: Callable[[Path], None], *, what: str, verify: bool = False
) -> Path:
    """Return a cached folder, building it first where it is missing or damaged.

    Of processes that ask for the same folder one builds it, and the others wait.

    Args:
        folder: Its place in the cache.
        build: Fills the empty folder that it is given.
        what: The content, for the log.
        verify: Read every byte of a cached folder instead of trusting unchanged files.

    Raises:
        StorageError: The cache cannot be written.
    """
    if _damage(folder, fresh=verify) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(Path(f"{folder}.lock")):
            damage = _damage(folder, fresh=verify)
            if damage is not None:  # else another process built it while this one waited
                if folder.exists():
                    logger.warning("%s in the cache is damaged (%s): rebuilding", what, damage)
                _build(folder, build)
    except OSError as error:
        raise StorageError(
            f"{what} cannot be written to {folder}: {error}.",
            hint="Free some disk, or set LLMREC_CACHE to a folder that can be written.",
        ) from error
    return folder


def is_built(folder: Path) -> bool:
    """Whether a cached folder is complete, by its files' sizes and modification times."""
    return _damage(folder) is None


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
    partial.mkdir()
    try:
        build(partial)
        digests = {
            path.relative_to(partial).as_posix(): digest(path, remember=False)
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        (partial / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for name, value in digests.items():
        _remember(folder / name, value)


def _damage(folder: Path, *, fresh: bool = False) -> str | None:
    """Describe the damage of a cached folder; None if it is whole."""
    try:
        files = parse_json((folder / MANIFEST).read_bytes()).items()
    except OSError as error:
        return f"{MANIFEST}: {error.strerror}"
    except (ValueError, AttributeError):
        return f"{MANIFEST} cannot be read"
    for name, expected in files:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if digest(path, fresh=fresh) != expected:
            return f"{name} is not what was stored"
    return None


def _stamp_of(path: Path) -> Path:
    key = hashlib.sha256(str(path.absolute()).encode()).hexdigest()
    return cache_folder() / "digests" / key[:32]


def _state_of(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _remember(path: Path, value: str) -> None:
    stamp = _stamp_of(path)
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        unfinished = stamp.with_name(f"{stamp.name}.{os.getpid()}")
        unfinished.write_text(f"{_state_of(path)} {value}", encoding="ascii")
        unfinished.replace(stamp)
    except OSError as error:  # a read-only cache only costs hashing again
        logger.debug("the digest of %s is not remembered: %s", path, error)
