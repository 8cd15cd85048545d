"""From the lines of a run to its summary: pure arithmetic, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llmrec.benchmarking.answers import CellSettings, by_cell, settings_of
from llmrec.benchmarking.beyond import ItemFacts, beyond_accuracy
from llmrec.benchmarking.entries import (
    METRIC,
    RETRIEVER,
    Entry,
    baseline_entries,
    cell_entry,
    oracle_entry,
)
from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.reliability import calibration_error, reliability
from llmrec.benchmarking.resampling import Resampler
from llmrec.benchmarking.sensitivity import Values, split_users, spread, wordings
from llmrec.benchmarking.summary import PairContrast, Summary, SummaryRow
from llmrec.errors import OptionError, nearest
from llmrec.evaluation import Estimate, holm

K = TypeVar("K")
PROTOCOLS = ("discrimination", "end-to-end")

_NOTHING: Mapping[str, str | int | float] = MappingProxyType({})
_NO_FACTS = ItemFacts()
_NO_COSTS: Mapping[str, Mapping[str, float]] = MappingProxyType({})
_NONE_DROPPED: Mapping[str, str] = MappingProxyType({})


def summarise(
    protocol: str,
    cells: Sequence[CellSettings],
    lists: Sequence[UserList],
    results: Iterable[Result],
    *,
    names: Mapping[str, str],
    seed: int,
    about: Mapping[str, str | int | float] = _NOTHING,
    facts: ItemFacts = _NO_FACTS,
    costs: Mapping[str, Mapping[str, float]] = _NO_COSTS,
    dropped: Mapping[str, str] = _NONE_DROPPED,
    resamples: int = 10_000,
) -> Summary:
    """Sum up a run.

    The rows are the baselines (what is to be expected of chance, popularity, and the retriever
    where it scored anything), every cell, and the oracle, which ranks the target first wherever the
    candidates hold it. A cell is compared with every other and with the baselines in nDCG@10 over
    the users that both have; all comparisons are one family for Holm. Results with a ``place`` make
    the position curve and nothing else.

    Args:
        protocol: ``discrimination`` or ``end-to-end``; a summary is of one alone.
        cells: The cells of run.json, in the order of the rows: ``key``, and what it was run with.
        lists: Every user's candidates.
        results: What the cells answered, in any order. A cell need not have been asked about
            everybody; who was not, or failed, is in none of its figures.
        names: What each cell's row is called, by its key.
        seed: Seed of ties, intervals and tests.
        about: What is needed to run it again; protocol, users, seed and the retriever's recall are
            added.
        facts: Titles, genres, vectors and users of the data set, for what is beyond accuracy.
        costs: More of a cell's cost, by its key (``peak MiB``, ``price``).
        dropped: Why a race left a cell behind, by its key.
        resamples: Draws of each interval, and the fewest of each test: where many rows are compared
            there are more, so that a corrected p-value can come below .05.

    Raises:
        OptionError: The protocol is unknown, there are no users, a discrimination list lacks its
            target, two rows have one name, a result is of no cell or user, or has not as many
            scores as candidates.
    """
    _check(protocol, lists)
    draws = Resampler(seed, resamples)
    answers = by_cell(cells, lists, tuple(results))
    entries = [
        *baseline_entries(lists, seed),
        *(
            cell_entry(names[key], settings_of(cell), answers[key], lists, seed)
            for cell in cells
            for key in [str(cell["key"])]
        ),
        oracle_entry(lists),
    ]
    values = {entry.name: entry.values for entry in entries}
    if len(values) < len(entries):
        raise OptionError(f"two rows have one name: {[entry.name for entry in entries]}.")
    families = wordings({entry.name: entry.settings for entry in entries if entry.kind == "cell"})
    spreads = {name: spread([values[row] for row in rows]) for name, rows in families.items()}
    orders = {e.name: spread(list(e.planted.values())) for e in entries if len(e.planted) > 1}
    bins = {
        entry.name: found
        for entry in entries
        if entry.kind == "cell" and (found := reliability(entry.settings, lists, entry.scores))
    }
    reached = np.array([entry.reached for entry in lists], dtype=bool)
    keys = {name: key for key, name in names.items()}
    rows = []
    for entry in entries:
        beyond = {} if entry.ranked is None else beyond_accuracy(lists, entry.ranked, facts)
        if entry.name in bins:
            beyond["calibration error"] = calibration_error(bins[entry.name])
        if entry.name in orders:
            beyond["order sensitivity"] = orders[entry.name].within_user
        for family, members in families.items():
            if members[0] == entry.name:
                beyond["paraphrase sensitivity"] = spreads[family].within_user
        metrics = dict(entry.metrics)
        if protocol == "end-to-end":
            metrics[f"{METRIC} reached"] = np.where(reached, entry.values, np.nan)
            beyond |= _gain(entry, values, reached)
        key = keys.get(entry.name, "")
        rows.append(
            SummaryRow(
                name=entry.name,
                kind=entry.kind,
                settings=entry.settings,
                users=int((~np.isnan(entry.values)).sum()),
                metrics=_estimates(metrics, draws),
                beyond=beyond,
                cost={**entry.answers.cost, **costs.get(key, {})} if entry.answers else {},
                faults=entry.answers.faults if entry.answers else {},
                fallbacks=entry.answers.fallbacks if entry.answers else {},
                dropped=dropped.get(key, ""),
            )
        )
    return Summary(
        about={
            **about,
            "protocol": protocol,
            "users": len(lists),
            "seed": seed,
            "retrieval recall": float(reached.mean()),
        },
        rows=tuple(rows),
        contrasts=_contrasts(entries, draws),
        position={
            entry.name: _estimates(entry.planted, draws) for entry in entries if entry.planted
        },
        splits={
            split: {
                group: _estimates({name: own[mask] for name, own in values.items()}, draws)
                for group, mask in groups.items()
            }
            for split, groups in split_users(lists).items()
        },
        per_user={name: tuple(own.tolist()) for name, own in values.items()},
        user_ids=tuple(entry.user_id for entry in lists),
        paraphrase={name: found.of_means for name, found in spreads.items()},
        order={name: found.of_means for name, found in orders.items()},
        reliability=bins,
    )


def _check(protocol: str, lists: Sequence[UserList]) -> None:
    if protocol not in PROTOCOLS:
        raise OptionError(
            f"protocol {protocol!r}; allowed are {' and '.join(map(repr, PROTOCOLS))}.",
            hint=nearest(protocol, PROTOCOLS),
        )
    if not lists:
        raise OptionError("a run without users has nothing to sum up.")
    missed = [entry.user_id for entry in lists if not entry.reached]
    if protocol == "discrimination" and missed:
        raise OptionError(
            f"the list of user {missed[0]!r} does not hold the target, as every list of the "
            "discrimination protocol does.",
            hint="Sum up end-to-end lists by themselves: the two protocols never share a table.",
        )


def _estimates(values: Mapping[K, Values], draws: Resampler) -> dict[K, Estimate]:
    return dict(zip(values, draws.estimates(list(values.values())), strict=True))


def _gain(
    entry: Entry, values: Mapping[str, Values], reached: NDArray[np.bool_]
) -> dict[str, float]:
    """What the row adds to the retriever's nDCG@10 where there was something to add to."""
    if RETRIEVER not in values or entry.name == RETRIEVER:
        return {}
    gain = (entry.values - values[RETRIEVER])[reached]
    known = gain[~np.isnan(gain)]
    return {"gain on reached": float(known.mean())} if known.size else {}


def _contrasts(entries: Sequence[Entry], draws: Resampler) -> tuple[PairContrast, ...]:
    """Compare each cell with those after it and with the baselines."""
    cells = [(entry.name, entry.values) for entry in entries if entry.kind == "cell"]
    baselines = [(entry.name, entry.values) for entry in entries if entry.kind == "baseline"]
    pairs = [
        (row, against, values - others)
        for (row, values), (against, others) in (
            *combinations(cells, 2),
            *product(cells, baselines),
        )
        if (~np.isnan(values - others)).sum() > 1
    ]
    compared = draws.comparisons([difference for *_, difference in pairs])
    corrected = holm([found.p_value for found in compared])
    return tuple(
        PairContrast(row, against, METRIC, found, float(p))
        for (row, against, _), found, p in zip(pairs, compared, corrected, strict=True)
    )
