"""Encoders of a few numbers, in the form that sentence-transformers models have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class SmallEncoder:
    """Encodes each input by ``row`` and remembers the inputs.

    ``before`` may fail as a model does: it is called with the encoder and the batch size.
    """

    def __init__(
        self,
        row: Callable[[Any], Sequence[float] | np.ndarray],
        before: Callable[[SmallEncoder, int], None] = lambda _encoder, _batch_size: None,
    ) -> None:
        self.row, self.before = row, before
        self.asked: list[Any] = []

    def encode(
        self, inputs: Sequence[Any], *, batch_size: int, show_progress_bar: bool | None
    ) -> np.ndarray:
        self.before(self, batch_size)
        self.asked += inputs
        return np.array([self.row(one) for one in inputs])


def letter_counts(before: Callable[[SmallEncoder, int], None] = lambda *_: None) -> SmallEncoder:
    """How often a to h occur in a text."""
    return SmallEncoder(lambda text: [text.count(letter) for letter in "abcdefgh"], before)


def mean_colour(before: Callable[[SmallEncoder, int], None] = lambda *_: None) -> SmallEncoder:
    """The mean of each channel of a picture."""
    return SmallEncoder(lambda picture: np.asarray(picture).mean(axis=(0, 1)), before)


def interrupted_after(inputs: int) -> Callable[[SmallEncoder, int], None]:
    """Stop as Ctrl-C does once so many inputs were encoded."""

    def before(encoder: SmallEncoder, _: int) -> None:
        if len(encoder.asked) >= inputs:
            raise KeyboardInterrupt

    return before


def fits(largest: int, error: RuntimeError) -> Callable[[SmallEncoder, int], None]:
    """Fail where a batch has more than so many inputs."""

    def before(_: SmallEncoder, batch_size: int) -> None:
        if batch_size > largest:
            raise error

    return before
