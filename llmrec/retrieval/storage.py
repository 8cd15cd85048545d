"""An index on disk: a folder that is complete, or refused with the damaged file's name.

Every file has the beginning of its sha256 in its name. ``manifest.json`` lists the files with size
and sha256, holds everything small (fitted weights too), and carries the sha256 of its own content.
A save writes new files beside the old ones and then replaces the manifest: that one rename switches
to the new index. Files that no manifest names any more are removed afterwards. Files up to 64 MiB
are read and checked; larger ones are mapped into memory, their size checked, their content with
``verify``. Files outside the folder and links are refused. A lock file beside the folder makes
saves wait for each other: the last one stays.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrec.documents import parse_json
from llmrec.errors import DataError, StorageError, naming, shown
from llmrec.locks import locked
from llmrec.records import AttributeValue, Insight, Review

logger = logging.getLogger(__name__)

FORMAT = 3
MAPPED_FROM = 64 << 20
"""Bytes from which a file is mapped instead of read."""
_SAMPLED = 1 << 16
"""Rows of a mapped file whose numbers are checked on opening."""

_MANIFEST = "manifest.json"
_TABLE = re.compile(  # .f32 and .i64: of formats 1 and 2
    r"[a-z]+[0-9]*-[0-9a-f]{12}\.(json|parquet|safetensors|npy|arrow|faiss|f32|i64)(\.part)?"
)
NOT_FINITE = "Leave a missing value out; infinity and NaN are not saved."
_AGAIN = "Make the index again with `llmrec index`."
VERIFY = "Run `llmrec verify INDEX` to find the damaged file."


@dataclass(frozen=True)
class FileEntry:
    """One table: its file's name, size in bytes and sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """An index's metadata, and its files by table name.

    ``folder`` is the data set's, ``media_root`` another with pictures; ``folder_mark`` is that of
    both.
    """

    dimension: int
    encoder: str = ""
    modalities: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    folder: str | None = None
    media_root: str | None = None
    folder_mark: str = ""
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    neutral_rating: float | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Opened:
    """An index on disk: by table name the content of each file, as uint8, and its path.

    ``faults`` says by table name what is wrong with a file; ``verify`` whether every byte was read.
    """

    folder: Path
    manifest: Manifest
    tables: Mapping[str, np.ndarray]
    paths: Mapping[str, Path]
    faults: Mapping[str, str]
    verify: bool

    def array(self, table: str) -> np.ndarray:
        """Return the array of a .npy file, read-only and without a copy."""
        with self.reading(table) as content:
            stream = io.BytesIO(content[:4096].tobytes())
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            if dtype.kind not in "fiu":
                raise ValueError(f"its numbers are {dtype}")
            array: np.ndarray = content[stream.tell() :].view(dtype).reshape(shape)
            array.setflags(write=False)
            return array

    def arrow(self, table: str) -> pa.Table:
        """Return the table of an .arrow file, without a copy."""
        with self.reading(table) as content:
            read = pa.ipc.open_file(pa.py_buffer(content)).read_all()
            read.validate(full=self.verify or content.size < MAPPED_FROM)
            return read

    def sampled(self, table: str, numbers: np.ndarray) -> np.ndarray:
        """Return the rows that opening checks: all, or some of a file that is mapped."""
        mapped = self.tables[table].size >= MAPPED_FROM and not self.verify
        return numbers[:: -(-len(numbers) // _SAMPLED) or 1] if mapped else numbers

    @contextmanager
    def reading(self, table: str) -> Iterator[np.ndarray]:
        """Give a file's content; what fails while it is read becomes an error with its path.

        Raises:
            StorageError: The index has no such file, or the block failed.
        """
        if table not in self.tables:
            raise damaged(self.folder / _MANIFEST, f"it names no {table}")
        with naming(f"The index file {self.paths[table]} is damaged", StorageError, hint=_AGAIN):
            yield self.tables[table]


_MANIFESTS = TypeAdapter(Manifest)
_FINITE = ConfigDict(ser_json_inf_nan="constants", allow_inf_nan=False)
"""Written as they are instead of as null, and refused where they are read."""
REVIEWS = TypeAdapter(tuple[Review, ...], config=_FINITE)
USERS = TypeAdapter(dict[str, tuple[dict[str, AttributeValue], tuple[str, ...]]], config=_FINITE)
INSIGHTS = TypeAdapter(dict[str, Insight])

Content: TypeAlias = "bytes | memoryview | np.ndarray | pa.Table"
"""Content of a file: bytes, an array (.npy) or an Arrow table (.arrow)."""


def save_folder(folder: Path, manifest: Manifest, tables: Mapping[str, Content]) -> None:
    """Write an index, in place of the one that is there; interrupted, it leaves that one.

    Args:
        folder: Where to; it is made where it is missing.
        manifest: All but ``files``.
        tables: Content by table name with suffix, such as ``items.json``.

    Raises:
        StorageError: The folder holds something else, or cannot be written.
    """
    with naming(
        f"The index cannot be written to {folder}",
        StorageError,
        hint="Name a folder that can be written, on a disk with room.",
    ):
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign(folder)
        with locked(Path(f"{folder.resolve()}.lock")):
            entries = {name: _write_table(folder, name, tables[name]) for name in tables}
            _write(folder / _MANIFEST, _seal(replace(manifest, files=entries)))
            kept = {entry.name for entry in entries.values()}
            for path in folder.iterdir():
                if _TABLE.fullmatch(path.name) and path.name not in kept:
                    path.unlink()


def refuse_foreign(folder: Path) -> None:
    """Refuse to write an index where something else lies; a folder that is not there is free.

    Raises:
        StorageError: The folder holds files, and none of an index.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if names and not any(_TABLE.fullmatch(name) for name in names):
        raise StorageError(
            f"{folder} is neither empty nor an index: it is not written to.",
            hint="Name another folder.",
        )


def is_stored(folder: Path) -> bool:
    """Whether this module has written something into a folder."""
    return (folder / _MANIFEST).is_file() or (folder / _MANIFEST).is_symlink()


def open_folder(folder: Path, *, verify: bool = False, collect: bool = False) -> Opened:
    """Open an index.

    Args:
        folder: Where it is.
        verify: Check every byte of the large files too.
        collect: Return the faults of files instead of raising the first.

    Raises:
        StorageError: There is no index, a file is missing or damaged or of another index, or the
            format is another.
    """
    if not is_stored(folder):
        why = f"it has no {_MANIFEST}" if folder.exists() else "there is no such folder"
        raise StorageError(f"{folder} is not an index: {why}.", hint=_AGAIN)
    manifest = _unseal(folder / _MANIFEST)
    for entry in manifest.files.values():
        if not _TABLE.fullmatch(entry.name):
            raise damaged(folder / _MANIFEST, f"it names the file {shown(entry.name)}")
    paths = {name: folder / entry.name for name, entry in manifest.files.items()}
    tables: dict[str, np.ndarray] = {}
    faults: dict[str, str] = {}
    for name, entry in manifest.files.items():
        try:
            tables[name] = _checked(paths[name], entry, verify=verify)
        except StorageError as error:
            if not collect:
                raise
            faults[name] = error.message
    return Opened(folder, manifest, tables, paths, faults, verify)


def check_rows(rows: np.ndarray, below: int, part: str) -> np.ndarray:
    """Return row numbers of an index that was opened by memory map.

    Raises:
        StorageError: One is outside 0 to ``below``, because the file is damaged.
    """
    if len(rows) and (rows.min() < 0 or rows.max() >= below):
        what = f"The index is damaged: its {part} name rows that do not exist."
        raise StorageError(what, hint=VERIFY)
    return rows


def check_scores(scores: np.ndarray) -> np.ndarray:
    """Return scores that were computed from an index.

    Raises:
        StorageError: One is not finite, because a file is damaged.
    """
    if not np.isfinite(scores).all():
        raise StorageError("A score is not finite: the index is damaged.", hint=VERIFY)
    return scores


def damaged(path: Path, what: str) -> StorageError:
    """The error for a damaged file of an index, with the way out."""
    return StorageError(f"The index file {path} is damaged: {what}.", hint=_AGAIN)


class _Hashed:
    """A file that is hashed while it is written."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes | memoryview) -> int:
        self.sha256.update(content)
        written = self._file.write(content)
        self.size += written
        return written

    def flush(self) -> None:
        self._file.flush()


def _write_table(folder: Path, table: str, content: Content) -> FileEntry:
    stem, _, suffix = table.partition(".")
    path = folder / f"{stem}-{'0' * 12}.{suffix}.part"
    path.unlink(missing_ok=True)  # a link would be written through
    with path.open("xb") as opened:
        file = _Hashed(opened)
        if isinstance(content, pa.Table):
            with pa.ipc.new_file(pa.PythonFile(file, mode="w"), content.schema) as writer:
                writer.write_table(content)
        elif isinstance(content, np.ndarray):
            np.lib.format.write_array_header_1_0(
                file, np.lib.format.header_data_from_array_1_0(content)
            )
            file.write(content.reshape(-1).view(np.uint8).data)
        else:
            file.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    digest = file.sha256.hexdigest()
    path.replace(folder / f"{stem}-{digest[:12]}.{suffix}")
    return FileEntry(f"{stem}-{digest[:12]}.{suffix}", file.size, digest)


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _checked(path: Path, entry: FileEntry, *, verify: bool) -> np.ndarray:
    """Return a file's content, uint8 [size]."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise damaged(path, "it is no regular file of this folder")
        size = found.st_size
        if size != entry.size:
            raise damaged(path, f"it has {size} bytes instead of {entry.size}")
        mapped = size >= MAPPED_FROM
        content = (
            np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
            if mapped
            else np.frombuffer(path.read_bytes(), dtype=np.uint8)
        )
    except OSError as error:
        what = error.strerror or error
        raise StorageError(f"The index file {path} cannot be read: {what}.", hint=_AGAIN) from error
    if (verify or not mapped) and hashlib.sha256(content.data).hexdigest() != entry.sha256:
        raise damaged(path, "its content does not match its checksum")
    return content


def _seal(manifest: Manifest) -> bytes:
    content = _MANIFESTS.dump_python(manifest, mode="json", fallback=dict, warnings=False)
    return json.dumps({"sha256": _digest(content), "content": content}, indent=1).encode()


def _unseal(path: Path) -> Manifest:
    with naming(f"The index file {path} is damaged: it cannot be read", StorageError, hint=_AGAIN):
        if path.is_symlink():
            raise ValueError("it is a link")
        document = parse_json(path.read_bytes())
        content, digest = document["content"], document["sha256"]
    if _digest(content) != digest:
        raise damaged(path, "its content does not match its checksum")
    if not isinstance(content, dict):
        raise damaged(path, "it holds no manifest")
    if content.get("format") != FORMAT:
        raise StorageError(
            f"The index {path.parent} has format {content.get('format')}; "
            f"this llmrec reads format {FORMAT}.",
            hint=f"Use the llmrec that wrote it. Or: {_AGAIN}",
        )
    try:
        return _MANIFESTS.validate_python(content)
    except ValidationError as error:
        raise damaged(path, f"it lacks something ({error.error_count()} faults)") from error


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def to_json(adapter: TypeAdapter[Any], records: object) -> bytes:
    """Write records as JSON.

    Raises:
        DataError: One holds NaN or infinity, which could not be read again.
    """
    # Read-only mappings are unknown to pydantic: they are written as dicts, without a warning each.
    content = adapter.dump_json(records, fallback=dict, warnings=False)
    if b"Infinity" in content or b"NaN" in content:  # in a text, or as a number
        with naming("The records cannot be saved", DataError, hint=NOT_FINITE):
            adapter.validate_json(content)
    return content
