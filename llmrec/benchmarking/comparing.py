"""Two runs, row by row: did what was changed make anything worse?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.benchmarking.answers import Answers, by_cell, results_of, settings_of
from llmrec.benchmarking.entries import answer_values
from llmrec.benchmarking.records import UserList
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.benchmarking.sensitivity import Settings
from llmrec.errors import OptionError, StorageError
from llmrec.evaluation import compare, holm

_NAMES = frozenset({"fields", "variant_of", "seed"})
"""What a row does not hang on: the budget's own tokens stand beside ``fields``, its name."""
_FREE = {"template_sha256": "template's text", "revision": "model's weights"}
"""What may differ between two runs of one row, and is then told."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that both runs have, over the users that both have: nDCG@10 before and after.

    ``now_failing`` counts users of whom the row judged a candidate before and none after: it
    failed, was refused, or (where it is not a race that left them out) was not asked. Such users
    need not cost any nDCG@10, so a row may have become worse without losing any. ``changed`` says
    in what the rows differ: the template's text, the model's weights, settings.
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
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunChange:
    """The rows of two runs; ``gone`` are in the first alone, ``new`` in the second.

    ``unpaired`` are in both, without two users whom both answered: nothing can be said of them but
    how many of the second run's users the first answered.
    """

    rows: tuple[RowChange, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    unpaired: Mapping[str, int]

    def worse(self, drop: float) -> dict[str, str]:
        """The rows of which a check should not be content, and why, by name.

        Args:
            drop: How much nDCG@10 a row may lose.
        """
        found = dict.fromkeys(self.gone, "is gone")
        for row in self.rows:
            if -row.difference > drop:
                found[row.name] = f"lost {-row.difference:.3f}, more than {drop}"
        failing = dict(self.unpaired) | {row.name: row.now_failing for row in self.rows}
        for name, users in failing.items():
            if users and name not in found:
                found[name] = f"answers no more for {users} users whom it answered before"
        return found


def compare_runs(before: RunFolder, after: RunFolder) -> RunChange:
    """Compare rows of the same settings, else of the same name, paired by user.

    p is corrected by Holm over them. A row is called what the first run called it.

    Raises:
        StorageError: A folder holds no run.
        OptionError: The runs are of other data, protocols, parts or lists, or share no row, or no
            row with two users whom both answered.
    """
    one, other = _Run.read(before), _Run.read(after)
    for name in ("fingerprint", "protocol", "part", "candidates", "seed"):
        a, b = one.about[name], other.about[name]
        if a != b:
            raise OptionError(
                f"{before.path} has {name} {a!r} and {after.path} {b!r}: they cannot be compared.",
                hint="Compare runs of the same data, protocol, candidates and seed.",
            )
    twins = _twins(one, other)
    shared = list(twins)
    if not shared:
        raise OptionError(
            f"{before.path} and {after.path} share no row.",
            hint=f"One has {', '.join(one.rows)}; the other {', '.join(other.rows)}.",
        )
    was = {name: one.values(name) for name in shared}
    now = {name: other.values(twins[name]) for name in shared}
    common = {name: [user for user in was[name] if user in now[name]] for name in shared}
    lost = {
        name: len((one.judged(name) & other.asked(twin)) - other.judged(twin))
        for name, twin in twins.items()
    }
    unpaired = {name: lost[name] for name, users in common.items() if len(users) < 2}
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
        a, b = (np.array([some[name][user] for user in users]) for some in (now, was))
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
            lost[name],
            _changed(one.settings[name], other.settings[twins[name]]),
        )
        for (name, users, mean_before, mean_after, result), p in zip(found, corrected, strict=True)
    )
    return RunChange(
        rows,
        tuple(name for name in one.rows if name not in twins),
        tuple(name for name in other.rows if name not in twins.values()),
        unpaired,
    )


def _twins(one: _Run, other: _Run) -> dict[str, str]:
    """The other run's row for each row of the one: of the same settings, else of the same name.

    What a row is called hangs on what else varies in its run, what it was run with does not.
    """
    of_settings = {_fixed(own): name for name, own in other.settings.items()}
    found = {
        name: of_settings[_fixed(own)]
        for name, own in one.settings.items()
        if _fixed(own) in of_settings
    }
    left = [name for name in one.rows if name not in found and name in other.rows]
    found |= {name: name for name in left if name not in found.values()}
    return {name: found[name] for name in one.rows if name in found}


def _fixed(own: Settings) -> frozenset[tuple[str, object]]:
    return frozenset((name, value) for name, value in own.items() if name not in _FREE)


def _changed(before: Settings, after: Settings) -> tuple[str, ...]:
    found = []
    for name in dict.fromkeys([*before, *after]):
        was, is_now = (str(own.get(name, "none")) for own in (before, after))
        if was != is_now:
            if name == "template_sha256":  # enough of it to tell texts apart
                was, is_now = was[:12], is_now[:12]
            found.append(f"{_FREE.get(name, name.replace('_', ' '))} {was} -> {is_now}")
    return tuple(found)


@dataclass(frozen=True)
class _Run:
    """A run as it was kept: its rows' answers, by name, to the lists, and what made the rows."""

    about: Mapping[str, Any]
    lists: tuple[UserList, ...]
    rows: Mapping[str, Answers]
    settings: Mapping[str, Settings]

    @classmethod
    def read(cls, folder: RunFolder) -> _Run:
        about, lists = folder.about(), folder.lists()
        if not about:
            raise StorageError(
                f"{folder.path} holds no run.", hint="Name a folder of `llmrec bench`."
            )
        cells = about["cells"]
        answers = by_cell(cells, lists, results_of(cells, lists, folder.results()))
        return cls(
            about,
            lists,
            {cell["name"]: answers[cell["key"]] for cell in cells},
            {
                cell["name"]: {
                    name: value for name, value in settings_of(cell).items() if name not in _NAMES
                }
                for cell in cells
            },
        )

    def values(self, name: str) -> dict[str, float]:
        """nDCG@10 of each user whom a row answered."""
        of_row = answer_values(self.rows[name], self.lists, self.about["seed"])
        return {
            one.user_id: float(value)
            for one, value in zip(self.lists, of_row, strict=True)
            if not np.isnan(value)
        }

    def asked(self, name: str) -> set[str]:
        """Users whom a row had to answer: who is left out of a race has not failed."""
        if self.about["benchmark"].get("race"):
            return {result.user_id for result in self.rows[name].asked}
        return {one.user_id for one in self.lists}

    def judged(self, name: str) -> set[str]:
        """Users of whom a row judged a candidate."""
        return {
            result.user_id
            for result in self.rows[name].asked
            if any(score is not None for score in result.scores)
        }
