"""Bytes on disk by key: one sqlite file that several processes may share."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from llmrec.errors import StorageError

logger = logging.getLogger(__name__)

_FORMAT = 2
_CHECKSUM_BYTES = 4
_KEYS_PER_QUERY = 500
_SECONDS_TO_WAIT_FOR_A_LOCK = 60.0

T = TypeVar("T")


class ContentCache:
    """Bytes by string key in one sqlite file, created on first use.

    A key is the :func:`content_key` of an input and the model that processed it, so no input is
    processed twice. Several processes may use the file at once (sqlite locks). Each row has a
    checksum of its key and content; one that fails it counts as missing, with a warning. A damaged
    file is moved to ``<name>.damaged`` with a warning and replaced by an empty cache.

    Args:
        path: The file. A missing folder is created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Read contents by key.

        Returns:
            Bytes by key, without the keys that are not in the cache.

        Raises:
            StorageError: The file cannot be opened or read.
        """
        rows = self._run(lambda connection: _select(connection, keys))
        found = {key: content for key, blob in rows if (content := _unpack(key, blob)) is not None}
        if len(found) < len(rows):
            damaged = len(rows) - len(found)
            logger.warning("%d rows of %s fail their checksum: recomputed.", damaged, self.path)
        return found

    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Write contents by key: all or, if interrupted, none.

        Raises:
            StorageError: The file cannot be opened or written.
        """
        rows = [(key, _checksum(key, content) + content) for key, content in contents.items()]
        self._run(
            lambda connection: connection.executemany(
                "INSERT OR REPLACE INTO contents VALUES (?, ?)", rows
            )
        )

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction; if the file is damaged, run it again on an empty one."""
        try:
            with self._connect() as connection:
                return work(connection)
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            self._move_aside(error)
        try:
            with self._connect() as connection:
                return work(connection)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with (
            closing(sqlite3.connect(self.path, timeout=_SECONDS_TO_WAIT_FOR_A_LOCK)) as connection,
            connection,
        ):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS contents"
                    " (key TEXT PRIMARY KEY, content BLOB NOT NULL)"
                )
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
            elif version != _FORMAT:
                raise StorageError(
                    f"The cache {self.path} has format {version}; "
                    f"this llmrec reads format {_FORMAT}.",
                    hint="Delete the file, or name another cache.",
                )
            yield connection

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            # A journal left behind would be replayed into the new file.
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
            self.path.replace(aside)
        except FileNotFoundError:
            return  # another process was faster
        except OSError as problem:
            raise self._unusable(problem) from error
        logger.warning(
            "The cache %s is damaged (%s): moved to %s; an empty cache takes its place.",
            self.path,
            error,
            aside.name,
        )

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            f"The cache {self.path} cannot be used: {error}.",
            hint="Set LLMREC_CACHE to a writable folder, or delete the file.",
        )


def _select(connection: sqlite3.Connection, keys: Sequence[str]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(some))
        found += connection.execute(
            f"SELECT key, content FROM contents WHERE key IN ({marks})",  # noqa: S608
            some,
        )
    return found


def _unpack(key: str, blob: object) -> bytes | None:
    """The content of a row, None if it fails its checksum; sqlite keeps any type in any column."""
    if not isinstance(blob, bytes):
        return None
    content = blob[_CHECKSUM_BYTES:]
    return content if blob[:_CHECKSUM_BYTES] == _checksum(key, content) else None


def _checksum(key: str, content: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(key.encode())).to_bytes(_CHECKSUM_BYTES, "little")


def content_key(*parts: str | bytes) -> str:
    """Return the sha256 of the parts, in hex."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
