"""Tables of results: rows compared, corrected together, and written as markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError, nearest
from llmrec.evaluation.statistics import Comparison, Estimate, compare, estimate, holm

Metrics = Mapping[str, NDArray[np.float64]]
"""Values per user, float64 [n_users], by metric name (``ndcg@10``)."""

About = Mapping[str, str | int | float]
"""What is needed to run a row again: template, model, seed, fingerprint, faults, tokens..."""

_NOTHING: Mapping[str, About] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Contrast:
    """A row compared with the row ``against`` in one metric; ``p_corrected`` is Holm's."""

    against: str
    metric: str
    comparison: Comparison
    p_corrected: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of results."""

    name: str
    users: int
    values: Mapping[str, Estimate]
    contrasts: tuple[Contrast, ...]
    about: About


def compare_rows(
    rows: Mapping[str, Metrics],
    pairs: Sequence[tuple[str, str]],
    *,
    seed: int,
    about: Mapping[str, About] = _NOTHING,
    resamples: int = 10_000,
) -> tuple[Row, ...]:
    """Turn values per user into rows with intervals and paired comparisons.

    All comparisons of the call, every pair in every metric, are one family for Holm's correction.

    Args:
        rows: Metrics by row name; the same metrics in every row, the same users in the same order.
        pairs: (row, against): the difference is row minus against.
        seed: Seed of the bootstrap and of the tests.
        about: What is needed to run a row again, by row name.
        resamples: Draws of each bootstrap and each test.

    Raises:
        OptionError: A pair or ``about`` names no row, or rows have other metrics or users.
    """
    for name in (*(name for pair in pairs for name in pair), *about):
        if name not in rows:
            raise OptionError(f"{name!r} is not a row.", hint=nearest(name, rows))
    named = {name: list(metrics) for name, metrics in rows.items()}
    if any(not metrics or metrics != named[next(iter(named))] for metrics in named.values()):
        raise OptionError(f"metrics are {named}; allowed are the same in every row, at least one.")
    if len({np.shape(values) for metrics in rows.values() for values in metrics.values()}) > 1:
        raise OptionError("rows differ in users; allowed are the same users in the same order.")
    asked = [(name, against, metric) for name, against in pairs for metric in rows[name]]
    compared = [
        compare(rows[name][metric], rows[against][metric], seed=seed, resamples=resamples)
        for name, against, metric in asked
    ]
    corrected = holm([found.p_value for found in compared])
    contrasts = [
        (name, Contrast(against, metric, found, float(p)))
        for (name, against, metric), found, p in zip(asked, compared, corrected, strict=True)
    ]
    return tuple(
        Row(
            name=name,
            users=len(next(iter(metrics.values()))),
            values={
                metric: estimate(values, seed=seed, resamples=resamples)
                for metric, values in metrics.items()
            },
            contrasts=tuple(contrast for owner, contrast in contrasts if owner == name),
            about=dict(about.get(name, {})),
        )
        for name, metrics in rows.items()
    )


def markdown_table(rows: Sequence[Row]) -> str:
    """Write the rows as markdown: a table of values, then one of comparisons where there are any.

    Intervals are 95 %, left out where users are too few; p is given as found and corrected;
    "detectable" is the smallest true difference that so many users show four times out of five.
    """
    metrics = list(rows[0].values) if rows else []
    table = [_line("row", "users", *metrics), _line("---", *["---:"] * (1 + len(metrics)))]
    table += [
        _line(
            row.name,
            str(row.users),
            *(_interval(v.mean, v.low, v.high) for v in row.values.values()),
        )
        for row in rows
    ]
    contrasts = [
        _line(
            row.name,
            contrast.against,
            contrast.metric,
            _interval(
                contrast.comparison.difference,
                contrast.comparison.low,
                contrast.comparison.high,
                "+",
            ),
            f"{contrast.comparison.p_value:.2g}",
            f"{contrast.p_corrected:.2g}",
            f"{contrast.comparison.detectable:.3f}",
        )
        for row in rows
        for contrast in row.contrasts
    ]
    if contrasts:
        table += [
            "",
            _line("row", "against", "metric", "difference", "p", "p (Holm)", "detectable"),
            _line("---", "---", "---", "---:", "---:", "---:", "---:"),
            *contrasts,
        ]
    return "\n".join(table) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _interval(middle: float, low: float, high: float, sign: str = "") -> str:
    if math.isnan(low):
        return f"{middle:{sign}.3f} (too few users to tell)"
    return f"{middle:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
