"""Compare two runs row by row: has a change made anything worse?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.benchmarking.cells import Cell, Settings
from llmrec.benchmarking.plan import LABELLED
from llmrec.benchmarking.results import Results, RunFolder
from llmrec.benchmarking.rows import ndcg_values
from llmrec.benchmarking.users import UserList
from llmrec.errors import OptionError, StorageError
from llmrec.evaluation import compare, holm

_NAMES = frozenset({"fields", "variant_of", "seed"})
"""Settings ignored in matching rows: ``fields`` already names the token limits."""
_FREE = {"template_sha256": "template text", "revision": "model weights"}
"""Settings that may differ between two runs of one row; the difference is reported."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row of both runs, over the users that both have: nDCG@10 before and after.

    ``now_failing`` counts users with a scored candidate before and none after: the row failed, was
    refused, or was not asked (other than by a race). They are in no figure, or count with the given
    order where every request was refused, so a row may have become worse without losing nDCG@10.
    ``changed`` lists what differs: template text, model weights, settings.
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

    ``unpaired`` rows are in both but share fewer than two answered users: only the number of users
    that now fail is known. ``changed`` lists what differs in the items' texts.
    """

    rows: tuple[RowChange, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    unpaired: Mapping[str, int]
    changed: tuple[str, ...] = ()

    def worse(self, drop: float) -> dict[str, str]:
        """The rows that became worse, and why, by name.

        Args:
            drop: Allowed loss of nDCG@10 per row.
        """
        found = dict.fromkeys(self.gone, "is missing from the second run")
        for row in self.rows:
            if -row.difference > drop:
                found[row.name] = f"lost {-row.difference:.3f} nDCG@10, more than {drop}"
        failing = dict(self.unpaired) | {row.name: row.now_failing for row in self.rows}
        for name, users in failing.items():
            if users and name not in found:
                found[name] = f"fails for {users} users that the first run answered"
        return found


def compare_runs(before: RunFolder, after: RunFolder) -> RunChange:
    """Compare rows of the same settings, else of the same name, paired by user.

    p is corrected by Holm over them. A row has the name that it has in the first run.

    Raises:
        StorageError: A folder holds no run.
        OptionError: The runs differ in data, protocol, split or candidates, or share no row, or no
            row with two users that both answered.
    """
    one, other = _Run.read(before), _Run.read(after)
    for name in ("fingerprint", "protocol", "part", "candidates", "seed"):
        a, b = one.about[name], other.about[name]
        if a != b:
            raise OptionError(
                f"{before.path} has {name} {a!r}, {after.path} has {b!r}: they cannot be compared.",
                hint="Compare runs of the same data, protocol, candidates and seed.",
            )
    twins = _twins(one, other)
    if not twins:
        raise OptionError(
            f"{before.path} and {after.path} share no row.",
            hint=f"Rows: {', '.join(one.cells)}; and {', '.join(other.cells)}.",
        )
    lost, unpaired, found = {}, {}, []
    for name, twin in twins.items():
        was, now = one.values(name), other.values(twin)
        users = [user for user in was if user in now]
        lost[name] = len((one.judged(name) & other.asked(twin)) - other.judged(twin))
        if len(users) < 2:
            unpaired[name] = lost[name]
            continue
        a, b = (np.array([some[user] for user in users]) for some in (now, was))
        found.append((name, float(b.mean()), float(a.mean()), compare(a, b, seed=0)))
    if not found:
        raise OptionError(
            f"{before.path} and {after.path} share no row with two users that both answered.",
            hint="See users and faults in the leaderboard.md of each.",
        )
    corrected = holm([result.p_value for *_, result in found])
    return RunChange(
        tuple(
            RowChange(
                name,
                result.users,
                mean_before,
                mean_after,
                result.difference,
                result.low,
                result.high,
                result.p_value,
                float(p),
                lost[name],
                _changed(one.settings(name), other.settings(twins[name])),
            )
            for (name, mean_before, mean_after, result), p in zip(found, corrected, strict=True)
        ),
        tuple(name for name in one.cells if name not in twins),
        tuple(name for name in other.cells if name not in twins.values()),
        unpaired,
        () if one.about["insights"] == other.about["insights"] else (one.shown,),
    )


def _twins(one: _Run, other: _Run) -> dict[str, str]:
    """The other run's row for each row: of the same settings, else of the same name.

    Names depend on what else varies in a run, settings do not.
    """
    of_settings = {_fixed(other.settings(name)): name for name in other.cells}
    found = {}
    for name in one.cells:
        twin = of_settings.get(_fixed(one.settings(name)))
        if twin is not None:
            found[name] = twin
    left = [name for name in one.cells if name not in found and name in other.cells]
    found |= {name: name for name in left if name not in found.values()}
    return {name: found[name] for name in one.cells if name in found}


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
    """A run as its folder holds it; ``cells`` by name."""

    about: Mapping[str, Any]
    users: tuple[UserList, ...]
    cells: Mapping[str, Cell]
    results: Results

    @classmethod
    def read(cls, folder: RunFolder) -> _Run:
        about = folder.about()
        if not about:
            raise StorageError(
                f"{folder.path} holds no run.", hint="Name a folder that `llmrec bench` wrote."
            )
        cells = [Cell.from_row(row, folder.path) for row in about["cells"]]
        by_name = {cell.name: cell for cell in cells}
        return cls(about, folder.users(), by_name, folder.results())

    @property
    def shown(self) -> str:
        """What ``insights`` of run.json identifies."""
        if self.about["protocol"] == LABELLED:
            return "the index of the requests"
        return "captions, opinions or facts of the items"

    def settings(self, name: str) -> Settings:
        own = self.cells[name].settings
        return {key: value for key, value in own.items() if key not in _NAMES}

    def values(self, name: str) -> dict[str, float]:
        """nDCG@10 of each user that a row answered."""
        found = self.results.of(self.cells[name].key, self.users)
        values = ndcg_values(found, self.users, self.about["seed"])
        return {
            one.user_id: float(value)
            for one, value in zip(self.users, values, strict=True)
            if not np.isnan(value)
        }

    def asked(self, name: str) -> set[str]:
        """Users that a row had to answer; those that a race left out have not failed."""
        if self.about["benchmark"].get("race"):
            found = self.results.of(self.cells[name].key, self.users).asked
            return {result.user_id for result in found}
        return {one.user_id for one in self.users}

    def judged(self, name: str) -> set[str]:
        """Users with a scored candidate."""
        found = self.results.of(self.cells[name].key, self.users).asked
        return {one.user_id for one in found if any(score is not None for score in one.scores)}
