"""Charts as numbers in percent of their area; templates turn them into SVG of any width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llmrec.benchmarking.measures import ReliabilityBin, calibration_error
from llmrec.benchmarking.report.text import NOTHING, amount, interval, share, signed
from llmrec.evaluation import Estimate

Values: TypeAlias = Sequence[float | None]

BINS = 20
"""Bins of the histogram of differences, from -1 to 1; an even number, so that 0 is an edge."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of an axis: position in percent, and label."""

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
        """Position of the value, from 0 to 100, with two decimals."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)

    def up(self, value: float) -> float:
        """Position on a vertical axis; SVG counts from the top."""
        return round(100 - self.at(value), 2)


def linear(values: Iterable[float], label: Callable[[float], str], *, most: int = 6) -> Scale:
    """A linear scale over all values: at most ``most`` ticks at round steps, also at the ends."""
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
    if len(marks) < 2:  # one tick alone would show no scale
        marks = sorted({min(known), max(known)})
    ticks = tuple(Tick(plain.at(v), label(v)) for v in marks)
    return Scale(low, high, ticks, logarithmic=True)


@dataclass(frozen=True, slots=True)
class Bar:
    """An estimate on a shared axis; ``off``: beyond its end.

    ``line`` are the ends of its interval, None where there is none or it has no width.
    """

    middle: float
    line: tuple[float, float] | None
    off: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A row; ``efficient``: Pareto-optimal."""

    x: float
    y: float
    mark: str
    kind: str
    tip: str
    efficient: bool


@dataclass(frozen=True, slots=True)
class Frontier:
    """Quality against one cost, with the Pareto frontier.

    ``free`` is the height of the best row that costs nothing, ``free_name`` its name.
    """

    title: str
    free: float | None
    free_name: str
    points: tuple[Point, ...]
    line: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """One estimate of a curve, and its tooltip."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One row's curve, the band of its intervals, and its spread or error."""

    name: str
    spread: str
    dots: tuple[Dot, ...]
    line: str
    band: str


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves of the same axes."""

    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    ideal: str = ""


@dataclass(frozen=True, slots=True)
class Wins:
    """Two rows user by user; ``bins`` count the users that differ, by the difference."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    bins: tuple[int, ...]


def bar(scale: Scale, value: Estimate) -> Bar:
    """Place an estimate on the axis."""
    line = (scale.at(value.low), scale.at(value.high)) if value.low < value.high else None
    return Bar(scale.at(value.mean), line, value.mean > scale.high)


def frontier(
    title: str,
    rows: Sequence[tuple[str, str, str, float, float]],
    metric: str,
    unit: str,
) -> Frontier | None:
    """Quality against a cost on a logarithmic axis; None where fewer than two rows cost anything.

    The best baseline, which costs nothing, is a line across.

    Args:
        title: What the cost is.
        rows: (mark, kind, name, cost, quality), lower cost and higher quality are better.
        metric: What the quality is.
        unit: What the cost is counted in.
    """
    paid = sorted((row for row in rows if row[3] > 0), key=lambda row: (row[3], -row[4]))
    if len(paid) < 2:
        return None
    free = max((row for row in rows if row[1] == "baseline"), key=lambda row: row[4], default=None)
    across = logarithmic([row[3] for row in paid], amount)
    heights = [row[4] for row in (*paid, *([free] if free else []))]
    upwards = linear(heights, lambda value: share(value, 2))
    points: list[Point] = []
    corners: list[tuple[float, float]] = [(0.0, upwards.up(free[4]))] if free else []
    best = free[4] if free else -math.inf
    for mark, kind, name, cost, quality in paid:
        x, y = across.at(cost), upwards.up(quality)
        efficient = quality > best
        if efficient:
            corners += [(x, corners[-1][1])] if corners else []
            corners.append((x, y))
            best = quality
        tip = f"{mark} · {name}: {metric} {share(quality)}, {amount(cost)} {unit}"
        points.append(Point(x, y, mark, kind, tip, efficient))
    corners.append((100.0, corners[-1][1]))
    points.sort(key=lambda point: point.efficient)  # drawn last, on top
    return Frontier(
        title=title,
        free=upwards.up(free[4]) if free else None,
        free_name=free[2] if free else "",
        points=tuple(points),
        line=_path(corners),
        x_ticks=across.ticks,
        y_ticks=upwards.ticks,
    )


def position_curves(
    position: Mapping[str, Mapping[int, Estimate]], spread: Mapping[str, float]
) -> Curves | None:
    """One curve per row over the positions of the planted target; None without planted targets.

    A row without a spread gets a dash.
    """
    known = {name: dict(sorted(places.items())) for name, places in position.items() if places}
    if not known:
        return None
    places = sorted({place for row in known.values() for place in row})
    ends = [
        end
        for row in known.values()
        for value in row.values()
        for end in (value.low, value.mean, value.high)
        if math.isfinite(end)
    ]
    across = Scale(min(places) - 0.5, max(places) + 0.5)
    upwards = linear(
        [min(1.0, max(0.0, end)) for end in ends], lambda value: share(value, 1), most=4
    )
    made = []
    for name, row in known.items():
        dots = tuple(
            Dot(across.at(place), upwards.up(v.mean), f"target at position {place}: {interval(v)}")
            for place, v in row.items()
        )
        around = {place: value for place, value in row.items() if value.low < value.high}
        above = [(across.at(place), upwards.up(value.high)) for place, value in around.items()]
        below = [(across.at(place), upwards.up(value.low)) for place, value in around.items()]
        made.append(
            Curve(
                name,
                share(spread[name]) if name in spread else NOTHING,
                dots,
                _path([(dot.x, dot.y) for dot in dots]),
                _path([*above, *below[::-1]]),
            )
        )
    shown = places if len(places) <= 6 else [places[0], places[len(places) // 2], places[-1]]
    ticks = tuple(Tick(across.at(place), str(place)) for place in shown)
    return Curves(tuple(made), ticks, upwards.ticks)


def wins(first: str, second: str, a: Values, b: Values) -> Wins:
    """Count the users for whom the first row is better, equal, worse; script.js does the same.

    A user without a value in one of the rows, None, is not counted.
    """
    bins = [0] * BINS
    won = tied = lost = 0
    for one, other in zip(a, b, strict=True):
        if one is None or other is None:
            continue
        apart = one - other
        if abs(apart) < 1e-9:
            tied += 1
            continue
        won, lost = won + (apart > 0), lost + (apart < 0)
        bins[min(BINS - 1, max(0, math.floor((apart + 1) * BINS / 2)))] += 1
    return Wins(first, second, won, tied, lost, tuple(bins))


def bin_labels() -> list[str]:
    """The range of differences that each bin holds."""
    lows = [at * 2 / BINS - 1 for at in range(BINS)]
    return [f"{signed(low, 1)} to {signed(low + 2 / BINS, 1)}" for low in lows]


def reliability_curves(rows: Mapping[str, Sequence[ReliabilityBin]]) -> Curves | None:
    """The share of targets by predicted probability; None where no row gives any."""
    known = {name: bins for name, bins in rows.items() if bins}
    if not known:
        return None
    every = [entry for bins in known.values() for entry in bins]
    across = linear([0.0, *(entry.predicted for entry in every)], share_of_one)
    upwards = linear([0.0, *(entry.observed for entry in every)], share_of_one, most=4)
    made = []
    for name, bins in known.items():
        dots = tuple(
            Dot(
                across.at(entry.predicted),
                upwards.up(entry.observed),
                f"predicted {share(entry.predicted)}, observed {share(entry.observed)} "
                f"of {entry.candidates:,} candidates",
            )
            for entry in bins
        )
        line = _path([(dot.x, dot.y) for dot in dots])
        made.append(Curve(name, share(calibration_error(bins)), dots, line, ""))
    end = min(across.high, upwards.high)
    ideal = _path([(0.0, 100.0), (across.at(end), upwards.up(end))])
    return Curves(tuple(made), across.ticks, upwards.ticks, ideal)


def share_of_one(value: float) -> str:
    """A tick between 0 and 1, as short as can be."""
    return "0" if abs(value) < 1e-9 else share(value, 2).rstrip("0").rstrip(".") or "0"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _step(about: float) -> float:
    """The round step (1, 2 or 5 times a power of ten) at or above ``about``."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= about * (1 - 1e-9))
