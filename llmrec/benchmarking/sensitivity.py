"""Values of several runs of one thing, user by user: places, wordings, groups of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.benchmarking.records import UserList

Values = NDArray[np.float64]
"""One value a user, float64 [n_users], NaN where there is none."""

Settings = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the members' means lie apart, and how far apart a user's own values lie.

    The second is what the first hides: a wording that helps half of the users and harms the others
    has the same mean. Both are over the users that every member has, 0 where there is none.
    """

    of_means: float
    within_user: float
    users: int


def spread(members: Sequence[Values]) -> Spread:
    """Compare two members or more over their common users."""
    table = np.stack(members)
    table = table[:, ~np.isnan(table).any(axis=0)]
    if table.size == 0:
        return Spread(0.0, 0.0, 0)
    return Spread(
        float(np.ptp(table.mean(axis=1))), float(np.ptp(table, axis=0).mean()), table.shape[1]
    )


def wordings(settings: Mapping[str, Settings]) -> dict[str, tuple[str, ...]]:
    """The rows that differ in nothing but the wording, by what to call them.

    Args:
        settings: Each row's settings; ``variant_of`` names the template that ``template`` rewords.

    Returns:
        Rows by the template they reword, or by its row where several settings have been run of it.
        The template's own row is among them where it was run.
    """
    families: dict[tuple[object, ...], list[str]] = {}
    for name, own in settings.items():
        rest = {k: v for k, v in own.items() if not k.startswith("template") and k != "variant_of"}
        original = str(own.get("variant_of", own.get("template", "")))
        families.setdefault((original, *sorted(rest.items())), []).append(name)
    several = {key: rows for key, rows in families.items() if len(rows) > 1}
    originals = [str(key[0]) for key in several]
    return {
        str(key[0]) if originals.count(str(key[0])) == 1 else rows[0]: tuple(rows)
        for key, rows in several.items()
    }


def split_users(lists: Sequence[UserList]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Group the users into thirds by activity and by the target's popularity.

    Returns:
        For each split the groups from low to high, bool [n_users]; equal values stay together, so a
        group can be larger than a third, and one without users is left out.
    """
    return {
        "activity": _thirds([entry.activity for entry in lists]),
        "target popularity": _thirds([entry.target_popularity for entry in lists]),
    }


def _thirds(values: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
    table = np.asarray(values)
    if table.size == 0:
        return {}
    first, second = np.quantile(table, [1 / 3, 2 / 3], method="lower")
    masks = {
        "low": table <= first,
        "middle": (table > first) & (table <= second),
        "high": table > second,
    }
    return {f"{name} ({_between(table[mask])})": mask for name, mask in masks.items() if mask.any()}


def _between(values: NDArray[np.int_]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
