"""Two runs, row by row: did what was changed make anything worse?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.benchmarking.entries import cell_values
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.errors import OptionError, StorageError
from llmrec.evaluation import compare, holm


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that both runs have, over the users that both have: nDCG@10 before and after."""

    name: str
    users: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float


@dataclass(frozen=True, slots=True)
class RunChange:
    """The rows of two runs; ``gone`` are in the first alone, ``new`` in the second."""

    rows: tuple[RowChange, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]


def compare_runs(before: RunFolder, after: RunFolder) -> RunChange:
    """Compare rows of the same name, paired by user; p corrected by Holm over them.

    Raises:
        StorageError: A folder holds no run.
        OptionError: The runs are of other data, protocols or lists, or share no row or too few
            users.
    """
    one, other = (_values(folder) for folder in (before, after))
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
    found = []
    for name in shared:
        users = [user for user in one[name] if user in other[name]]
        if len(users) < 2:
            raise OptionError(f"The row {name} has {len(users)} users in both runs.")
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
        )
        for (name, users, mean_before, mean_after, result), p in zip(found, corrected, strict=True)
    )
    return RunChange(
        rows,
        tuple(name for name in one if name not in other),
        tuple(name for name in other if name not in one),
    )


def _values(folder: RunFolder) -> dict[str, dict[str, float]]:
    """nDCG@10 by row and user; who failed is left out."""
    about, lists = folder.about(), folder.lists()
    if not about:
        raise StorageError(f"{folder.path} holds no run.", hint="Name a folder of `llmrec bench`.")
    found = cell_values(about["cells"], lists, folder.results(), about["seed"])
    return {
        cell["name"]: {
            one.user_id: float(value)
            for one, value in zip(lists, found[cell["key"]], strict=True)
            if not np.isnan(value)
        }
        for cell in about["cells"]
    }
