"""Answers of a benchmark beside its committed results: a table is made again without a model.

A gzip of JSON lines: first what they are answers to, then each as a run folder keeps it. Users are
named by their ids and items not at all, so that nothing of a data set is copied.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmrec.benchmarking import RunFolder
from llmrec.benchmarking.users import UserList
from llmrec.resumable import encode_row

SAME = ("fingerprint", "protocol", "part", "candidates", "seed")


def take_up(
    path: Path, folder: RunFolder, about: Mapping[str, object], lists: Sequence[UserList]
) -> None:
    """Begin a run folder that holds no answer yet with those that are kept, if they are its own."""
    results = folder.path / "results.jsonl"
    if results.exists() or not path.exists():
        return
    head, _, lines = gzip.decompress(path.read_bytes()).partition(b"\n")
    if any(json.loads(head)[name] != about[name] for name in SAME):
        sys.stderr.write(
            f"{path.name} has answers about other lists: they are left where they are\n"
        )
        return
    with folder.open(about, lists):
        pass
    results.write_bytes(lines)


def keep(path: Path, folder: RunFolder, about: Mapping[str, object]) -> None:
    """Write them, the same bytes for the same answers."""
    head = json.dumps({name: about[name] for name in SAME})
    rows = (encode_row(result.to_row(), checksum=True) for result in folder.results())
    path.write_bytes(gzip.compress(f"{head}\n".encode() + b"".join(rows), mtime=0))
