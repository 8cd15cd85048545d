"""Locks between processes; who waits says for whom."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

_SILENT_SECONDS = 1.0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for it if need be; a wait over a second is logged.

    Raises:
        OSError: The file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_SILENT_SECONDS)
    except Timeout:
        logger.warning("Waiting for %s to release %s.", holder_of(path), path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def holder_of(path: Path) -> str:
    """Name the process that holds a lock file, ``process 123`` where the system tells."""
    try:
        inode = f":{path.stat().st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            _, kind, _, _, process, where, *_ = line.split()
            if kind == "FLOCK" and where.endswith(inode):
                return f"process {process}"
    except (OSError, ValueError):  # no such file, or another form of it
        pass
    return "another process"
