"""Folders that are made once and kept in the cache: whole or not there, and checked before use.

A kept folder is built beside its place and moved there in one step, so a killed build leaves
nothing half-made. Its manifest holds the SHA-256 of every file. Hashing half a gigabyte takes a
moment, so a digest is remembered with the file's size and modification time, and taken again when
either changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from llmrec.errors import StorageError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def cache_folder() -> Path:
    """Return the folder that models are kept in: ``LLMREC_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("LLMREC_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("llmrec")


def digest(path: Path, *, fresh: bool = False, remember: bool = True) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Args:
        path: The file.
        fresh: Read the whole file even where its size and modification time say it is unchanged.
        remember: Spare the next call the reading, as long as the file does not change.
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


def keep(folder: Path, build: Callable[[Path], None], *, what: str, verify: bool = False) -> Path:
    """Return a kept folder, building it first where it is missing or damaged.

    Two processes that ask for the same folder build it once: the second waits for the first.

    Args:
        folder: Its place in the cache.
        build: Fills the empty folder that it is given.
        what: What the folder holds, for the log.
        verify: Read every byte of a folder that is there instead of trusting unchanged files.

    Raises:
        StorageError: The cache cannot be written.
    """
    if _damage(folder, fresh=verify) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            damage = _damage(folder, fresh=verify)
            if damage is not None:  # else another process built it while this one waited
                if folder.exists():
                    logger.warning("%s in the cache is damaged (%s): made again", what, damage)
                _build(folder, build)
    except OSError as error:
        raise StorageError(
            f"{what} cannot be kept in {folder}: {error}.",
            hint="Free some disk, or set LLMREC_CACHE to a folder that can be written.",
        ) from error
    return folder


def is_kept(folder: Path) -> bool:
    """Say whether a kept folder is there and whole, by its files' sizes and modification times."""
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
    """Say what is wrong with a kept folder, or None where nothing is."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        return f"{MANIFEST}: {error.strerror}"
    except ValueError:
        return f"{MANIFEST} cannot be read"
    if not isinstance(manifest, dict):
        return f"{MANIFEST} cannot be read"
    for name, expected in manifest.items():
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
