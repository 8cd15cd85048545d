"""Two runs, row by row: did what was changed make anything worse?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.benchmarking.answers import by_cell, results_of
from llmrec.benchmarking.entries import answer_values
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.errors import OptionError, StorageError
from llmrec.evaluation import compare, holm


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that both runs have, over the users that both have: nDCG@10 before and after.

    ``now_failing`` counts users whom the row answered before and failed after: they are in no other
    figure here, so a row may have become worse without losing any nDCG@10.
    """

    name: str
    users: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float
    now_failing: int


@dataclass(frozen=True, slots=True)
class RunChange:
    """The rows of two runs; ``gone`` are in the first alone, ``new`` in the second.

    ``unpaired`` are in both, without two users whom both answered: nothing can be said of them.
    """

    rows: tuple[RowChange, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    unpaired: tuple[str, ...]

    def worse(self, drop: float) -> dict[str, str]:
        """The rows of which a check should not be content, and why, by name.

        Args:
            drop: How much nDCG@10 a row may lose.
        """
        found = dict.fromkeys(self.gone, "is gone")
        found |= dict.fromkeys(self.unpaired, "has no two users whom both runs answered")
        for row in self.rows:
            if -row.difference > drop:
                found[row.name] = f"lost {-row.difference:.3f}, more than {drop}"
            elif row.now_failing:
                found[row.name] = f"fails for {row.now_failing} users whom it answered before"
        return found


def compare_runs(before: RunFolder, after: RunFolder) -> RunChange:
    """Compare rows of the same name, paired by user; p corrected by Holm over them.

    Raises:
        StorageError: A folder holds no run.
        OptionError: The runs are of other data, protocols or lists, or share no row, or no row
            with two users whom both answered.
    """
    (one, _), (other, failed) = (_answered(folder) for folder in (before, after))
    for name in ("fingerprint", "protocol", "candidates", "seed"):
        a, b = before.about()[name], after.about()[name]
        if a != b:
            raise OptionError(
                f"{before.path} has {name} {a!r} and {after.path} {b!r}: they cannot be compared.",
                hint="Compare runs of the same data, protocol, candidates and seed.",
            )
    shared = [name for name in one if name in other]
    if not shared:
        raise OptionError(
            f"{before.path} and {after.path} share no row.",
            hint=f"One has {', '.join(one)}; the other {', '.join(other)}.",
        )
    common = {name: [user for user in one[name] if user in other[name]] for name in shared}
    unpaired = tuple(name for name, users in common.items() if len(users) < 2)
    if len(unpaired) == len(shared):
        raise OptionError(
            f"{before.path} and {after.path} have no row with two users whom both answered: "
            f"{', '.join(f'{name} has {len(common[name])}' for name in unpaired)}.",
            hint="leaderboard.md of each tells its users and faults.",
        )
    found = []
    for name, users in common.items():
        if name in unpaired:
            continue
        a, b = (np.array([some[name][user] for user in users]) for some in (other, one))
        found.append((name, len(users), b.mean(), a.mean(), compare(a, b, seed=0)))
    corrected = holm([entry[4].p_value for entry in found])
    rows = tuple(
        RowChange(
            name,
            users,
            float(mean_before),
            float(mean_after),
            result.difference,
            result.low,
            result.high,
            result.p_value,
            float(p),
            len(failed[name] & one[name].keys()),
        )
        for (name, users, mean_before, mean_after, result), p in zip(found, corrected, strict=True)
    )
    return RunChange(
        rows,
        tuple(name for name in one if name not in other),
        tuple(name for name in other if name not in one),
        unpaired,
    )


def _answered(folder: RunFolder) -> tuple[dict[str, dict[str, float]], dict[str, set[str]]]:
    """By row: nDCG@10 of each user who was answered, and who failed."""
    about, lists = folder.about(), folder.lists()
    if not about:
        raise StorageError(f"{folder.path} holds no run.", hint="Name a folder of `llmrec bench`.")
    cells = about["cells"]
    by_key = by_cell(cells, lists, results_of(cells, lists, folder.results()))
    answers = {cell["name"]: by_key[cell["key"]] for cell in cells}
    values = {
        name: {
            one.user_id: float(value)
            for one, value in zip(lists, answer_values(some, lists, about["seed"]), strict=True)
            if not np.isnan(value)
        }
        for name, some in answers.items()
    }
    failed = {
        name: {one.user_id for one in some.asked if one.fault} for name, some in answers.items()
    }
    return values, failed
