"""Runs a model on fewer inputs at once where memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from llmrec.errors import OutOfMemoryError

logger = logging.getLogger(__name__)

T = TypeVar("T")


def halve_until_it_fits(compute: Callable[[int], T], size: int, *, unit: str, name: str) -> T:
    """Return ``compute(size)``, with half the size as long as memory does not suffice.

    Args:
        compute: Runs a model with at most so many inputs at once.
        size: How many to begin with.
        unit: What one input is called: ``text``, ``picture``...
        name: The model's name.

    Raises:
        OutOfMemoryError: Not even one fits.
    """
    while True:
        try:
            return compute(size)
        except RuntimeError as error:
            from accelerate.utils.memory import should_reduce_batch_size  # noqa: PLC0415

            if not should_reduce_batch_size(error):
                raise
            if size == 1:
                raise OutOfMemoryError(
                    f"Not even one {unit} fits into memory for {name} ({error}).",
                    hint="Use a smaller encoder or another device.",
                ) from error
            size //= 2
            logger.warning("out of memory: trying again with %d %ss at once", size, unit)
