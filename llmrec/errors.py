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
    │   └── OutOfMemoryError       even the smallest batch does not fit
    └── OptionError            an argument has a value that is not allowed

Each message names the value, what is allowed and the way out. ``hint`` holds the way out alone; the
command line shows it on its own line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class OutOfMemoryError(ModelError):
    """Even the smallest batch does not fit into memory."""


class OptionError(LlmrecError):
    """An argument has a value that is not allowed."""


def nearest(value: str, allowed: Iterable[str], n: int = 3) -> str:
    """A hint that names the allowed values close to ``value``, or an empty text."""
    close = difflib.get_close_matches(value, list(allowed), n=n, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
