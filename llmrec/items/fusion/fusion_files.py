"""Tensors with what they mean, on disk: one safetensors file that is whole or refused.

The file's own metadata holds a JSON document and the sha256 of document and tensors, so that
nothing of one save can be taken for a part of another. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from llmrec.documents import parse_json
from llmrec.errors import StorageError, naming


def content_digest(about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """The sha256, in hex, of a document and tensors."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        rows = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{rows.dtype.str}\0{rows.shape}\0".encode())
        digest.update(rows.tobytes())
    return digest.hexdigest()


def pack_tensors(about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """Write a document and tensors as the bytes of one safetensors file."""
    document = json.dumps(
        {"sha256": content_digest(about, tensors), "about": about}, sort_keys=True
    )
    whole = {name: np.ascontiguousarray(rows) for name, rows in tensors.items()}
    return save(whole, metadata={"llmrec": document})


def write_tensors(path: Path, about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a file in one move: a reader sees the old one or the new one.

    Raises:
        StorageError: The folder cannot be written.
    """
    content = pack_tensors(about, tensors)
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error}.",
            hint="Name a folder that can be written, on a disk with room.",
        ) from error


def read_tensors(
    path: Path, kind: str, way_out: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file that :func:`write_tensors` wrote.

    Args:
        path: The file.
        kind: Required value of the document's ``kind``.
        way_out: The hint of the error if the file is unusable.

    Raises:
        StorageError: It is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise StorageError(f"{path.parent} holds no {kind}: {path.name} is missing.", hint=way_out)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}.", hint=way_out) from error
    return unpack_tensors(content, path, kind, way_out)


def unpack_tensors(
    content: bytes, path: Path, kind: str, way_out: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`pack_tensors` wrote; ``path`` is where it came from.

    Raises:
        StorageError: It is damaged or of another kind.
    """
    with naming(f"{path} is damaged", StorageError, hint=way_out):
        size = int.from_bytes(content[:8], "little")
        header = parse_json(content[8 : 8 + size])
        document = parse_json(header["__metadata__"]["llmrec"])
        about, tensors = dict(document["about"]), load(content)
        whole = document["sha256"] == content_digest(about, tensors)
        for name, rows in tensors.items():
            if rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
                raise ValueError(f"{name} holds something else than finite numbers")
    if not whole:
        raise StorageError(
            f"{path} is damaged: its content does not match its checksum.", hint=way_out
        )
    if about.get("kind") != kind:
        raise StorageError(f"{path} is of the kind {about.get('kind')!r}, no {kind}.", hint=way_out)
    return about, tensors
