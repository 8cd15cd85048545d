"""Scales and their ticks: where a value stands on an axis, in percent of its length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis: where, in percent, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` as percent of an axis, linear or logarithmic."""

    low: float
    high: float
    ticks: tuple[Tick, ...] = ()
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where the value stands, within 0 and 100, with two decimals."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)

    def up(self, value: float) -> float:
        """The same on an axis that runs upwards, as SVG's do not."""
        return round(100 - self.at(value), 2)


def linear(values: Iterable[float], label: Callable[[float], str], *, most: int = 6) -> Scale:
    """A scale around all values whose ends are ticks, at round steps, at most ``most`` of them."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    step = _step((high - low) / (2 * most))
    while (ends := (math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9))) and (
        ends[1] - ends[0] >= most
    ):
        step = _step(step * 1.01)
    first, last = ends
    plain = Scale(first * step, last * step)
    marks = [at * step for at in range(first, last + 1)]
    return Scale(plain.low, plain.high, tuple(Tick(plain.at(v), label(v)) for v in marks))


def logarithmic(values: Iterable[float], label: Callable[[float], str]) -> Scale:
    """A logarithmic scale around all values above 0, with ticks at 1, 2, 5 or at powers of ten."""
    known = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = min(known) / 1.3, max(known) * 1.3
    plain = Scale(low, high, logarithmic=True)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2.5 else (1, 3) if high / low > 30 else (1, 2, 5)
    marks = [step * 10.0**decade for decade in decades for step in steps]
    marks = [value for value in marks if low <= value <= high]
    if len(marks) < 2:  # all costs are nearly alike: one tick alone would tell no scale
        marks = sorted({min(known), max(known)})
    ticks = tuple(Tick(plain.at(v), label(v)) for v in marks)
    return Scale(low, high, ticks, logarithmic=True)


def _step(about: float) -> float:
    """The round step (1, 2 or 5 times a power of ten) at or above ``about``."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= about * (1 - 1e-9))
