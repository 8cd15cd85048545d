"""How the report writes numbers and names: one way each, so that columns can be read down."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from markupsafe import Markup, escape

from llmrec.evaluation.significance import Comparison, Estimate

MINUS = "\u2212"
NOTHING = "\u2013"

_ONE = re.compile(r"\S+ \[[^\]]*\]|p <? ?[.\d]+|nDCG@10 \S+|place \d+")
_BREAKS = re.compile(r"(?<=[/_@:,])")


def share(value: float, digits: int = 3) -> str:
    """A value of a metric without the zero that says nothing: ``.512``, ``1.000``, ``−.031``."""
    text = f"{abs(value):.{digits}f}"
    sign = MINUS if value < 0 and float(text) else ""
    return sign + (text[1:] if text.startswith("0.") else text)


def signed(value: float, digits: int = 3) -> str:
    """A difference: always with its sign, ``+.031``; ``.000`` has none."""
    text = share(value, digits)
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


def interval(value: Estimate) -> str:
    """A mean with its 95 % interval: ``.512 [.480, .541]``."""
    return f"{share(value.mean)} {bounds(value)}"


def bounds(value: Estimate) -> str:
    """The 95 % interval alone: ``[.480, .541]``."""
    return f"[{share(value.low)}, {share(value.high)}]"


def difference(value: Comparison) -> str:
    """A difference with its 95 % interval: ``+.031 [+.002, +.060]``."""
    return f"{signed(value.difference)} [{signed(value.low)}, {signed(value.high)}]"


def whole(value: float) -> str:
    """A score of any size with two decimals, or a dash."""
    return NOTHING if math.isnan(value) else share(value, 2)


def probability(value: float) -> str:
    """A p-value: ``p .004``, ``p < .001``."""
    return "p < .001" if value < 0.001 else f"p {share(value)}"


def counted(counts: Mapping[str, int]) -> str:
    """What was counted, by name: ``order_conflict 34, no_answer 2``."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def amount(value: float) -> str:
    """A number of things in at most five characters: ``0``, ``8.4``, ``964``, ``12.3k``."""
    if math.isnan(value):
        return NOTHING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / min(size, 1e3 if unit == "k" else size)
            text = f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:.1f}".removesuffix(".0")
            return text + unit
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def seconds(value: float) -> str:
    """Seconds with two figures that count: ``0.42 s``, ``3.1 s``, ``84 s``."""
    if math.isnan(value):
        return NOTHING
    if 0 < value < 0.01:
        return "< 0.01 s"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"


def together(text: str) -> str:
    """A sentence whose numbers stay on one line: no break within an interval or behind a name."""
    return _ONE.sub(lambda found: found.group().replace(" ", "\u00a0"), text)


def breakable(name: object) -> Markup:
    """A name as HTML, escaped, that may wrap behind its slashes and underscores."""
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(str(name)))
