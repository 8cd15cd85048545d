"""All errors that llmrec raises on purpose, under one root class.

    LlmrecError
    ├── DataError              a dataset folder, file, row or id is invalid
    │   ├── UnknownItemError       an item id is not in the catalogue
    │   └── UnknownUserError       a user id is not in the catalogue
    ├── StorageError           an index, cache or results file is damaged or of another kind
    ├── PromptError            a template or its rendered prompt is invalid
    │   └── PromptTooLongError     a rendered prompt does not fit the model
    ├── ModelError             a language model or encoder cannot be found, loaded or run
    │   ├── ModelNotFoundError     a model reference cannot be resolved
    │   ├── HardwareError          the requested device or precision is not available
    │   ├── ServerError            a model server does not answer
    │   ├── DivergedError          a training's loss or gradient is not finite
    │   └── OutOfMemoryError       even the smallest batch does not fit
    └── OptionError            an argument has a value that is not allowed

Each message names the value, what is allowed and the way out. ``hint`` holds the way out alone; the
command line shows it on its own line.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

_Name = TypeVar("_Name", bound=str)
_Kind = TypeVar("_Kind")
_LONGEST_SHOWN = 60
_LONGEST_REASON = 300


class LlmrecError(Exception):
    """Base class of all errors of llmrec.

    Args:
        message: What is wrong: the value, and what is allowed.
        hint: How to fix it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message = message
        self.hint = hint


class DataError(LlmrecError):
    """A dataset folder, file, row or id is invalid."""


class UnknownItemError(DataError):
    """An item id is not in the catalogue."""


class UnknownUserError(DataError):
    """A user id is not in the catalogue."""


class StorageError(LlmrecError):
    """An index, cache or results file is damaged or of another kind."""


class PromptError(LlmrecError):
    """A template or its rendered prompt is invalid."""


class PromptTooLongError(PromptError):
    """A rendered prompt does not fit the model even with the shortest history."""


class ModelError(LlmrecError):
    """A language model or encoder cannot be found, loaded or run."""


class ModelNotFoundError(ModelError):
    """A model reference cannot be resolved."""


class HardwareError(ModelError):
    """The requested device or precision is not available on this machine."""


class ServerError(ModelError):
    """A model server does not answer; a later try may succeed."""


class DivergedError(ModelError):
    """A training's loss or gradient is not finite."""


class OutOfMemoryError(ModelError):
    """Even the smallest batch does not fit into memory."""


class OptionError(LlmrecError):
    """An argument has a value that is not allowed."""


@contextmanager
def naming(fault: str, kind: type[LlmrecError], *, hint: str = "") -> Iterator[None]:
    """Turn whatever a library raises on somebody's file into an error that names the file.

    Args:
        fault: The message up to its reason: ``prices.toml cannot be read``.
        kind: The error to raise; errors of llmrec pass unchanged.
        hint: The way out.
    """
    try:
        yield
    except LlmrecError:
        raise
    except BaseException as error:
        # The panics of Rust libraries (tokenizers, safetensors) are no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = (isinstance(error, OSError) and error.strerror) or str(error)
        reason = (said.strip() or type(error).__name__)[:_LONGEST_REASON]
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise kind(f"{fault}: {reason.rstrip('.: ')}.", hint=hint) from error


def nearest(value: object, allowed: Iterable[str]) -> str:
    """A hint that names up to three allowed values close to ``value``, or an empty text."""
    close = difflib.get_close_matches(str(value), list(allowed), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""


def shown(value: object) -> str:
    """A value in a message: on one line, at most 60 characters, with its type."""
    blank = isinstance(value, str) and not value.strip()
    text = "blank text" if blank else " ".join(repr(value).split())
    short = text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
    return f"{short} ({type(value).__name__})"


def not_allowed(name: str, value: object, allowed: str, hint: str) -> OptionError:
    """The error for an argument of another kind."""
    return OptionError(f"{name} is {shown(value)}; allowed is {allowed}.", hint=hint)


def check_kind(
    name: str, value: object, kind: type[_Kind] | tuple[type[_Kind], ...], allowed: str, hint: str
) -> _Kind:
    """Return an argument of an allowed type.

    Raises:
        OptionError: It has another type.
    """
    if not isinstance(value, kind):
        raise not_allowed(name, value, allowed, hint)
    return value


def is_number(value: object) -> bool:
    """Whether a value is a number of Python or NumPy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_count(name: str, value: object, least: int = 1) -> int:
    """Return a whole number of Python or NumPy as int.

    Raises:
        OptionError: It is no whole number, or less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        allowed = f"a whole number from {least} on"
        raise not_allowed(name, value, allowed, f"Give {least} or more.")
    return int(value)


def check_flag(name: str, value: object) -> None:
    """Refuse anything but True and False: the text "no" would count as true.

    Raises:
        OptionError: It is neither.
    """
    if type(value).__name__ not in {"bool", "bool_"}:
        raise not_allowed(name, value, "True or False", "Give one of them.")


def check_path(name: str, value: object) -> Path:
    """Return the path that an argument gives as text or `os.PathLike`.

    Raises:
        OptionError: It gives none.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise not_allowed(name, value, "a path", "Give it as text or pathlib.Path.")
    return Path(value)


def one_of(kind: str, asked: object, allowed: tuple[_Name, ...]) -> _Name:
    """Return the allowed value that equals ``asked``.

    Raises:
        OptionError: There is none.
    """
    for known in allowed:
        if isinstance(asked, str) and asked == known:
            return known
    raise OptionError(
        f"The {kind} {asked!r:.60} is not one of {', '.join(allowed)}.",
        hint=nearest(asked, allowed) or f"Give {allowed[0]!r}.",
    )
