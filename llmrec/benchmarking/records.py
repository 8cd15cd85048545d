"""The lines of a run folder: whom a benchmark asks about, and what each cell answered.

A line is one JSON object with a checksum, so that pandas, polars and DuckDB open the files as they
are and a line that was cut short or edited is noticed: the first 16 hex digits of the SHA-256 of
the line's own JSON, keys sorted, without the checksum.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrec.errors import StorageError

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UserList:
    """A user, and the items that every cell orders for them.

    ``candidates`` are in the order asked. ``retrieval`` is the retriever's own score of each, None
    where it has none; ``popularity`` counts the training rows of each. ``activity`` counts the
    interactions of the history, ``target_popularity`` the target's training rows. ``reached`` says
    whether the target is among the candidates: always in discrimination, not always end to end.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    user_id: str
    target: str
    candidates: tuple[str, ...]
    retrieval: tuple[float | None, ...]
    popularity: tuple[float, ...]
    activity: int
    target_popularity: int
    reached: bool

    def to_json(self) -> str:
        """Write the line, without its end."""
        return _line(asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> UserList:
        """Read a line.

        Raises:
            StorageError: It is cut short, its checksum does not fit, or a field is not as it must.
        """
        record = _read(line, _LISTS)
        lengths = {len(record.candidates), len(record.retrieval), len(record.popularity)}
        if len(lengths) > 1 or len(set(record.candidates)) != len(record.candidates):
            raise StorageError(
                f"The list of user {record.user_id!r} has {len(record.candidates)} candidates, "
                f"{len(record.retrieval)} retrieval scores and {len(record.popularity)} "
                "popularities; allowed is one of each a candidate, and no candidate twice."
            )
        if record.reached != (record.target in record.candidates):
            raise StorageError(
                f"The list of user {record.user_id!r} says reached: {record.reached}, and its "
                f"candidates say {not record.reached}."
            )
        return record


@dataclass(frozen=True, slots=True)
class Fault:
    """The error that took the place of an answer."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """What one cell answered about one user.

    ``place`` is None in the run proper; 1 to n where the target was planted at that place of the
    list to measure what order does, which no table of results ever counts. ``scores`` are in the
    order of the list's candidates wherever they stood in the prompt, higher is better, None: not
    judged; empty beside a ``fault``. ``tokens_given`` counts tokens of the prompts, of which
    ``tokens_forwarded`` went through the model. ``peak_mib`` is the most memory while asking, of
    the GPUs or else of the process with all it holds; None where that is not known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    cell: str
    user_id: str
    scores: tuple[float | None, ...] = ()
    place: int | None = None
    fault: Fault | None = None
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    prompts: int = 0
    tokens_given: int = 0
    tokens_forwarded: int = 0
    tokens_generated: int = 0
    forwards: int = 0
    seconds: float = 0.0
    peak_mib: float | None = None

    def to_json(self) -> str:
        """Write the line, without its end."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fault = None if self.fault is None else asdict(self.fault)
        return _line({**fields, "fault": fault, "fallbacks": dict(self.fallbacks)})

    @classmethod
    def from_json(cls, line: str | bytes) -> Result:
        """Read a line.

        Raises:
            StorageError: It is cut short, its checksum does not fit, or a field is not as it must.
        """
        return _read(line, _RESULTS)


_LISTS, _RESULTS = TypeAdapter(UserList), TypeAdapter(Result)


def stored_scores(scores: ArrayLike) -> tuple[float | None, ...]:
    """Scores as a line holds them: None for what is not finite, which JSON cannot hold."""
    values = np.asarray(scores, dtype=np.float64)
    return tuple(float(value) if math.isfinite(value) else None for value in values)


def checksum(fields: Mapping[str, object]) -> str:
    """The checksum of a line with these fields, whatever its own ``checksum`` says."""
    kept = {name: value for name, value in fields.items() if name != "checksum"}
    text = json.dumps(kept, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _line(fields: Mapping[str, object]) -> str:
    return json.dumps({**fields, "checksum": checksum(fields)}, allow_nan=False)


def _read(line: str | bytes, adapter: TypeAdapter[T]) -> T:
    """Check a line and make its record."""
    try:
        fields = json.loads(line, parse_constant=_refuse)
    except ValueError as error:  # a half-written line, or one that is no UTF-8
        raise StorageError(f"A line of a run is not JSON ({error}): {_shown(line)}") from error
    if not isinstance(fields, dict) or fields.get("checksum") != checksum(fields):
        raise StorageError(f"A line of a run does not have its checksum: {_shown(line)}")
    del fields["checksum"]
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StorageError(
            f"A line of a run is of another kind: {where}: {first['msg']}. {_shown(line)}"
        ) from error


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number of JSON")


def _shown(line: str | bytes) -> str:
    """The beginning of a line, for a message."""
    text = line if isinstance(line, str) else line.decode("utf-8", errors="replace")
    return repr(text[:80])
