"""The results of a run put in order: by cell, by place, in the order of the users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.benchmarking.ranking import Scores
from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.sensitivity import Settings
from llmrec.errors import OptionError

PEAK, PRICE = "peak MiB", "price"
NOTHING_JUDGED = "lists_without_a_judgement"
"""Users of whom no candidate was judged: the row's ranking of them is the order it was given."""
CellSettings = Mapping[str, object]
"""A cell of run.json: ``key`` and what it was run with."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a cell answered, [n_users] in the order of the users, None where it was not asked.

    ``planted`` holds the same for each place at which the target was planted.
    """

    proper: tuple[Result | None, ...]
    planted: Mapping[int, tuple[Result | None, ...]]

    @property
    def asked(self) -> list[Result]:
        """The results of the run proper, faults among them."""
        return [result for result in self.proper if result is not None]

    @property
    def answered(self) -> list[Result]:
        """The results of the run proper that are no faults."""
        return [result for result in self.asked if result.fault is None]

    @property
    def faults(self) -> dict[str, int]:
        """How many users failed, by the error's type."""
        return dict(Counter(result.fault.type for result in self.asked if result.fault))

    @property
    def fallbacks(self) -> dict[str, int]:
        """What did not go as asked, by name."""
        counts: Counter[str] = Counter()
        for result in self.asked:
            counts.update(result.fallbacks)
        nothing = sum(all(score is None for score in one.scores) for one in self.answered)
        return dict(counts) | ({NOTHING_JUDGED: nothing} if nothing else {})

    @property
    def cost(self) -> dict[str, float]:
        """Means a user that was answered, percentiles of the seconds, the highest peak of memory.

        Who failed is not among them: a fault costs nothing, and would make a row look cheap.
        """
        results = self.answered
        if not results:
            return {}
        seconds = [result.seconds for result in results]
        peaks = [result.peak_mib for result in results if result.peak_mib is not None]
        return {
            "tokens given": float(np.mean([result.tokens_given for result in results])),
            "tokens forwarded": float(np.mean([result.tokens_forwarded for result in results])),
            "tokens generated": float(np.mean([result.tokens_generated for result in results])),
            "prompts": float(np.mean([result.prompts for result in results])),
            "forwards": float(np.mean([result.forwards for result in results])),
            "seconds p50": float(np.percentile(seconds, 50)),
            "seconds p95": float(np.percentile(seconds, 95)),
            **({PEAK: max(peaks)} if peaks else {}),
        }


def scores_of(results: Sequence[Result | None]) -> list[Scores | None]:
    """The scores; None for who was not asked, and for who failed: an error is never a score."""
    return [None if result is None or result.fault else result.scores for result in results]


def results_of(
    cells: Sequence[CellSettings], lists: Sequence[UserList], results: Sequence[Result]
) -> list[Result]:
    """The results of these cells and users: a folder also keeps those of earlier plans."""
    keys, users = {cell["key"] for cell in cells}, {one.user_id for one in lists}
    return [result for result in results if result.cell in keys and result.user_id in users]


def by_cell(
    cells: Sequence[CellSettings], lists: Sequence[UserList], results: Sequence[Result]
) -> dict[str, Answers]:
    """Sort results by cell key; of two of one cell, user and place the later one counts.

    Raises:
        OptionError: A result is of no cell or no user of the run, or a key or user comes twice.
    """
    keys = [str(cell.get("key")) for cell in cells]
    rows = {entry.user_id: row for row, entry in enumerate(lists)}
    if len(rows) != len(lists) or len(set(keys)) != len(keys):
        raise OptionError("a cell or a user comes twice in the run; allowed is once.")
    table: dict[str, dict[int | None, dict[int, Result]]] = {key: {} for key in keys}
    for result in results:
        if result.cell not in table or result.user_id not in rows:
            raise OptionError(
                f"a result is of cell {result.cell!r} and user {result.user_id!r}; "
                f"the run has {len(keys)} cells and {len(lists)} users, and not these.",
                hint="Take the lists and the results of one run.",
            )
        table[result.cell].setdefault(result.place, {})[rows[result.user_id]] = result
    ordered = {
        key: {
            place: tuple(of_place.get(row) for row in range(len(lists)))
            for place, of_place in places.items()
        }
        for key, places in table.items()
    }
    nobody = (None,) * len(lists)
    return {
        key: Answers(
            places.get(None, nobody),
            {place: places[place] for place in sorted(p for p in places if p is not None)},
        )
        for key, places in ordered.items()
    }


def settings_of(cell: CellSettings) -> Settings:
    """What the cell was run with, its budget's tokens among it: not what it is called."""
    budget = cell.get("budget")
    tokens = {
        name if name == "history_items" else f"{name}_tokens": value
        for name, value in (budget.items() if isinstance(budget, Mapping) else ())
    }
    settings = {**cell, **tokens}
    return {
        name: value
        for name, value in settings.items()
        if name not in {"key", "name"} and isinstance(value, str | int | bool) and value != ""
    }
