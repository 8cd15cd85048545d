"""What tests of commands call them with, and how they read what is said."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

Run = Callable[..., CompletedProcess[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]


def said(ended: CompletedProcess[str]) -> str:
    """Everything on stderr, on one line."""
    return " ".join(ended.stderr.split())
