"""Whether transformers shows its own progress bars while it loads and saves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def transformers_bars(*, shown: bool) -> Iterator[None]:
    """Show transformers' bars inside the block where asked for and stderr is a terminal."""
    before = transformers_logging.is_progress_bar_enabled()
    _switch(on=shown and sys.stderr.isatty())
    try:
        yield
    finally:
        _switch(on=before)


def _switch(*, on: bool) -> None:
    if on:
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()
