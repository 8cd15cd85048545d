"""What tests of commands call them with, and how they read what is said."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess, Popen
from typing import Any

COLD = "u21"
"""The user of the sample who has a profile and no history."""
Run = Callable[..., CompletedProcess[str]]
Start = Callable[..., Popen[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]


def said(ended: CompletedProcess[str]) -> str:
    """Everything on stderr, on one line."""
    return " ".join(ended.stderr.split())
