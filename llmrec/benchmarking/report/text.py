"""The report's texts: formatted numbers, row order, verdicts and findings.

The page, ``leaderboard.md`` and the terminal share them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from llmrec.benchmarking.cells import Settings
from llmrec.benchmarking.rows import GIVEN, METRIC, RANDOM, RETRIEVER
from llmrec.benchmarking.summary import (
    SHOWN_AT,
    PairContrast,
    Summary,
    SummaryRow,
    Verdict,
    partial_rows,
)
from llmrec.evaluation import Comparison, Estimate, smallest_difference

METRIC_NAME = "nDCG@10"
TOKENS, GIVEN_TOKENS, GENERATED = "tokens forwarded", "tokens given", "tokens generated"
MEDIAN, SLOW = "seconds p50", "seconds p95"
MINUS, NOTHING = "\u2212", "\u2013"
USUAL_DEVIATION = 0.35
"""Of the difference of two rows' nDCG@10 of a user, as seen between templates of small models."""
_NAMED = 4
"""Names in a sentence; the others are counted."""
_TEMPLATE = ("template", "template_sha256")
_MARKS = {"better": "▲", "worse": "▼", "not significant": "≈", "too few users": "?"}
_ONE = re.compile(r"\S+ \[[^\]]*\]|p <? ?[.\d]+|nDCG@10 \S+|rank \d+")
_BREAKS = re.compile(r"(?<=[/_@:,])")


def share(value: float, digits: int = 3) -> str:
    """A metric without the leading zero: ``.512``, ``1.000``, ``−.031``."""
    text = f"{abs(value):.{digits}f}"
    sign = MINUS if value < 0 and float(text) else ""
    return sign + (text[1:] if text.startswith("0.") else text)


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, ``+.031``; ``.000`` has none."""
    text = share(value, digits)
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


def interval(value: Estimate) -> str:
    """A mean with its 95 % interval: ``.512 [.480, .541]``."""
    return f"{share(value.mean)} {bounds(value)}".rstrip()


def bounds(value: Estimate) -> str:
    """The 95 % interval alone: ``[.480, .541]``; empty where users are too few."""
    if math.isnan(value.low):
        return ""
    return f"[{share(value.low)}, {share(value.high)}]"


def two_decimals(value: float) -> str:
    """A score of any size, or a dash."""
    return NOTHING if math.isnan(value) else share(value, 2)


def counted(counts: Mapping[str, int]) -> str:
    """Counts by name: ``order_conflict 34, no_answer 2``."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def amount(value: float) -> str:
    """A number in at most five characters: ``0``, ``8.4``, ``964``, ``12.3k``."""
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
    """Seconds with two significant digits: ``0.42 s``, ``3.1 s``, ``84 s``."""
    if math.isnan(value):
        return NOTHING
    if 0 < value < 0.01:
        return "< 0.01 s"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"


def together(text: str) -> str:
    """A sentence that does not break within an interval or after a name."""
    return _ONE.sub(lambda found: found.group().replace(" ", "\u00a0"), text)


def breakable(name: object) -> Markup:
    """A name as escaped HTML that may wrap after its slashes and underscores."""
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(str(name)))


@dataclass(frozen=True, slots=True)
class Versus:
    """The verdict on a row against another one."""

    word: Verdict
    against: str
    comparison: Comparison
    p_corrected: float

    @property
    def mark(self) -> str:
        """The verdict as one character."""
        return _MARKS[self.word]

    @property
    def text(self) -> str:
        """``better than NAME``, ``not significantly different from NAME``."""
        if self.word == "too few users":
            return f"too few users to compare with {self.against}"
        if self.word == "not significant":
            return f"not significantly different from {self.against}"
        return f"{self.word} than {self.against}"

    @property
    def detail(self) -> str:
        """The difference with its interval, and the corrected p-value."""
        seen, p = self.comparison, self.p_corrected
        if self.word == "too few users":
            return signed(seen.difference)
        said = "p < .001" if p < 0.001 else f"p {share(p)}"
        return f"{signed(seen.difference)} [{signed(seen.low)}, {signed(seen.high)}], {said} (Holm)"


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row at its place; the oracle has none.

    ``missing`` gives the number of users where some are missing.
    """

    place: int | None
    row: SummaryRow
    score: Estimate
    best: Versus | None
    reference: Versus | None
    missing: str = ""

    @property
    def mark(self) -> str:
        """The place as text; a dash for the oracle."""
        return NOTHING if self.place is None else str(self.place)


def ranked_rows(summary: Summary) -> tuple[RankedRow, ...]:
    """All rows, best nDCG@10 first: the oracle above them, those of too few users behind them."""
    partial = partial_rows(summary.rows)
    rows = sorted(
        summary.rows,
        key=lambda row: (row.kind != "oracle", row.name in partial, -quality(row)),
    )
    best, known = best_row(summary.rows), verdicts(summary.contrasts)
    users, base, place = len(summary.user_ids), reference_name(summary), 0
    shown: list[RankedRow] = []
    for row in rows:
        place += row.kind != "oracle"
        shown.append(
            RankedRow(
                place=None if row.kind == "oracle" else place,
                row=row,
                score=row.metrics[METRIC],
                best=known.get((row.name, best.name)) if best else None,
                reference=known.get((row.name, base)),
                missing="" if row.users >= users else f"{row.users:,} of {users:,} users",
            )
        )
    return tuple(shown)


def reference_name(summary: Summary) -> str:
    """The baseline that rows are compared with: the retriever where there is one."""
    names = {row.name for row in summary.rows}
    return next((name for name in (RETRIEVER, GIVEN, RANDOM) if name in names), RETRIEVER)


def quality(row: SummaryRow) -> float:
    """The mean nDCG@10; below everything without users."""
    mean = row.metrics[METRIC].mean
    return -math.inf if math.isnan(mean) else mean


def best_row(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    """The prompt with the highest nDCG@10 among complete ones, if there is one."""
    partial = partial_rows(rows)
    cells = [row for row in rows if row.kind == "cell" and row.users]
    complete = [row for row in cells if row.name not in partial] or cells
    return max(complete, key=quality, default=None)


def verdicts(contrasts: Sequence[PairContrast]) -> Mapping[tuple[str, str], Versus]:
    """The verdict on each row against each other one in nDCG@10, by (row, against)."""
    found = {}
    for one in contrasts:
        if one.metric == METRIC:
            seen = one.comparison
            turned = replace(seen, difference=-seen.difference, low=-seen.high, high=-seen.low)
            back = replace(one, row=one.against, against=one.row, comparison=turned)
            for own in (one, back):
                known = Versus(own.verdict, own.against, own.comparison, own.p_corrected)
                found[own.row, own.against] = known
    return found


def common_settings(rows: Sequence[SummaryRow]) -> Settings:
    """The settings of more than half of the cells: shown once, not in every row."""
    cells = [row.settings for row in rows if row.kind == "cell"]
    keys = dict.fromkeys(key for own in cells for key in own if key not in _TEMPLATE)
    usual = {key: Counter(own[key] for own in cells if key in own).most_common(1) for key in keys}
    return {key: found[0][0] for key, found in usual.items() if 2 * found[0][1] > len(cells)}


def own_settings(row: SummaryRow, common: Settings) -> Settings:
    """The settings that are neither common nor part of the row's name."""
    return {
        key: value
        for key, value in row.settings.items()
        if common.get(key) != value
        and key not in (*_TEMPLATE, "revision", "strategy")
        and (isinstance(value, bool | int) or str(value) not in row.name)
        and f"{key.removesuffix('_items').replace('_', ' ')} {value}" not in row.name
    }


def finding(summary: Summary, lines: Sequence[RankedRow]) -> str:
    """The result in one sentence."""
    best, base = _best(summary, lines), reference_name(summary)
    if best is None:
        return "No prompt has a result yet."
    if summary.about.get("retrieval recall") == 0:
        return "No candidate list has its target: prompts cannot be compared."
    head = f"{best.row.name} ranks first with {METRIC_NAME} {share(best.score.mean)}"
    if best.reference is not None and best.reference.word == "worse":
        head = f"No prompt reaches the {base}: {head}"
    elif best.reference is not None and best.reference.word == "better":
        head = f"{head}, significantly better than the {base}"
    elif best.reference is None or best.reference.word == "too few users":
        users = f"{best.row.users} users are" if best.row.users > 1 else "one user is"
        head = f"{head}; {users} too few to compare rows"
    else:
        own = next(share(line.score.mean) for line in lines if line.row.name == base)
        head = f"{head}, not significantly different from the {base} ({own})"
    rivals, dropped = len(_rivals(lines)), sum(bool(line.row.dropped) for line in lines)
    rest = []
    if rivals:
        rest.append(f"{rivals} other prompt{'s' * (rivals > 1)} not significantly different")
    if dropped:
        rest.append(f"{dropped} dropped by the race")
    return f"{head}; {', '.join(rest)}." if rest else f"{head}."


def question(summary: Summary) -> str:
    """What was compared on how many users, and the smallest difference that they can show."""
    about = summary.about
    prompts = sum(row.kind == "cell" for row in summary.rows)
    compared = f"{prompts} prompts compared" if prompts > 1 else "One prompt evaluated"
    of = f" of {about['dataset']}" if about.get("dataset") else ""
    number = f"{about['candidates']} " if about.get("candidates") else ""
    among = {
        "discrimination": f"the target among {number}sampled candidates",
        "end-to-end": f"the retriever's top {number}candidates",
        "labelled": "the candidates of each request",
    }.get(str(about.get("protocol")), f"{number}candidates")
    asked = f"{compared} on {about.get('users', len(summary.user_ids))} users{of}, ranking {among}."
    smallest = detectable(summary)
    if smallest is None:
        return asked
    one, all_of_them = smallest
    tests = len(summary.contrasts)
    corrected = f", corrected for {tests} comparisons" if tests > 1 else ""
    if all_of_them >= 1:  # no difference can be larger
        return f"{asked} Too few users to show any difference{corrected}."
    alone = f" ({share(one)} for one alone)" if tests > 1 else ""
    return (
        f"{asked} The smallest detectable difference in {METRIC_NAME} (80 % power) is "
        f"{share(all_of_them)}{corrected}{alone}."
    )


def detectable(summary: Summary) -> tuple[float, float] | None:
    """The smallest differences in nDCG@10 that the users show.

    The median over the contrasts that have the most users.

    Returns:
        For one comparison alone, and for one in Holm's strictest step; None where nothing was
        compared, or no two rows ever differed.
    """
    compared = [c.comparison for c in summary.contrasts if c.metric == METRIC]
    most = max((found.users for found in compared), default=0)
    found = [one.detectable for one in compared if one.users == most and one.detectable > 0]
    if not found:
        return None
    one = statistics.median(found)
    harder = smallest_difference(1, 1, alpha=SHOWN_AT / len(summary.contrasts))
    return one, one * harder / smallest_difference(1, 1, alpha=SHOWN_AT)


def comparisons_of(cells: int, baselines: int) -> int:
    """How many comparisons a run makes: each cell with each, and with each baseline."""
    return cells * (cells - 1) // 2 + cells * baselines


def smallest_shown(users: int, comparisons: int = 1) -> float:
    """The smallest detectable difference in nDCG@10 (80 % power), before a run.

    Args:
        users: How many both rows have.
        comparisons: How many Holm corrects together: this is the strictest step.
    """
    return smallest_difference(USUAL_DEVIATION, users, alpha=SHOWN_AT / comparisons)


def shown_in_words(users: int, comparisons: int) -> str:
    """The same as a sentence."""
    return (
        f"The smallest detectable difference in nDCG@10 with {users} users is about "
        f"{smallest_shown(users, comparisons):.3f}, corrected for {comparisons} comparisons "
        f"({smallest_shown(users):.3f} for one alone), at the usual variance"
    )


def leaderboard_note(summary: Summary, lines: Sequence[RankedRow]) -> str:
    """The best row with its numbers, and the rows not significantly different from it."""
    best = _best(summary, lines)
    if best is None:
        return ""
    said = [f"{best.row.name}: {interval(best.score)} over {best.row.users} users."]
    if best.reference is not None:
        few = ": too few users to tell" * (best.reference.word == "too few users")
        said.append(f"Against the {best.reference.against}: {best.reference.detail}{few}.")
    rivals = _rivals(lines)
    if rivals:
        said.append(f"It is not significantly different from {_names(rivals)}.")
    return " ".join(said)


def cost_note(unit: str, efficient: int, number: int) -> str:
    """How many rows are Pareto-optimal."""
    if not efficient:
        return f"None of {number} prompts ranks better than the best baseline, which costs nothing."
    are = "is" if efficient == 1 else "are"
    return (
        f"{efficient} of {number} prompts {are} Pareto-optimal: nothing ranks as well in fewer "
        f"{unit}."
    )


def position_note(spreads: Mapping[str, float]) -> str:
    """Which row the target's position affects least, and which most."""
    if not spreads:
        return ""
    low, high = min(spreads, key=spreads.__getitem__), max(spreads, key=spreads.__getitem__)
    if share(spreads[low]) == share(spreads[high]):
        return f"The target's position changes every row by {share(spreads[low])}."
    return (
        f"The target's position changes {low} least ({share(spreads[low])}) "
        f"and {high} most ({share(spreads[high])})."
    )


def ranks_sentence(names: Sequence[str], ranks: Sequence[int | None]) -> str:
    """Where two rows rank the target."""
    said = [
        f"not ranked by {name}" if rank is None else f"at rank {rank} with {name}"
        for name, rank in zip(names, ranks, strict=True)
    ]
    return f"The target is {' and '.join(said)}."


def _best(summary: Summary, lines: Sequence[RankedRow]) -> RankedRow | None:
    row = best_row(summary.rows)
    return next((line for line in lines if row is not None and line.row.name == row.name), None)


def _rivals(lines: Sequence[RankedRow]) -> list[str]:
    """Complete prompts that do not differ significantly from the best."""
    partial = partial_rows([line.row for line in lines])
    return [
        line.row.name
        for line in lines
        if line.row.kind == "cell"
        and line.best
        and line.best.word == "not significant"
        and line.row.name not in partial
    ]


def _names(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
