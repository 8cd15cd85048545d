"""Every error that llmrec raises on purpose, under one root.

    LlmrecError
    ├── DataError              a dataset folder, file, row or id is not what it must be
    │   ├── UnknownItemError       an item id that the catalogue does not hold
    │   └── UnknownUserError       a user id that the catalogue does not hold
    ├── StorageError           an index, cache or results file is damaged or of another kind
    ├── PromptError            a template or what it renders is not usable
    │   └── PromptTooLongError     a rendered prompt does not fit the model
    ├── ModelError             a language model or encoder cannot be found, loaded or run
    │   ├── ModelNotFoundError     the reference names nothing that can be had
    │   ├── HardwareError          a device or precision was asked for that is not there
    │   ├── ServerError            a server that runs a model does not answer
    │   └── OutOfMemoryError       not even the smallest batch fits
    └── OptionError            an argument has a value that is not allowed

Each message names the value, what is allowed and the way out. ``hint`` holds the way out by itself,
so that the command line can show it on a line of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LlmrecError(Exception):
    """Root of the tree: catch this to catch everything that llmrec raises on purpose.

    Args:
        message: What is wrong, naming the value and what is allowed.
        hint: What the reader can do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message = message
        self.hint = hint


class DataError(LlmrecError):
    """A dataset folder, file, row or id is not what it must be."""


class UnknownItemError(DataError):
    """An item id that the catalogue does not hold."""


class UnknownUserError(DataError):
    """A user id that the catalogue does not hold."""


class StorageError(LlmrecError):
    """An index, cache or results file is damaged or of another kind."""


class PromptError(LlmrecError):
    """A template, or what it renders, is not usable."""


class PromptTooLongError(PromptError):
    """A rendered prompt does not fit the model even with the shortest history."""


class ModelError(LlmrecError):
    """A language model or encoder cannot be found, loaded or run."""


class ModelNotFoundError(ModelError):
    """A model reference names nothing that can be had."""


class HardwareError(ModelError):
    """A device or precision was asked for that this machine does not have."""


class ServerError(ModelError):
    """A server that runs a model does not answer; later it may."""


class OutOfMemoryError(ModelError):
    """Not even the smallest batch fits into memory."""


class OptionError(LlmrecError):
    """An argument has a value that is not allowed."""


def nearest(value: str, allowed: Iterable[str], n: int = 3) -> str:
    """Say which allowed values are close to ``value``: text for a hint, empty where none is."""
    close = difflib.get_close_matches(value, list(allowed), n=n, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
