"""Ablate the training of a head on frozen states: one change a row.

    python eval/ablate_head.py STATES.npz LISTS.npz [--name DATA] [--out FOLDER]

``frozen_head.py states`` makes STATES.npz of LISTS.npz. Each row trains a head, fits a gate on
validation lists and judges it on test lists whose target is a candidate. Intervals are 95 %, paired
by list, against the first row. Writes ablate_head_DATA.md and .json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_sets import SEED, TEST, TRAINING, VALIDATION, command_of, write_results
from frozen_head import Settings, Tables, head_scores, trained
from gate_table import CONTROL, lists_of
from gated_lists import beside, read_lists
from numpy.typing import NDArray

from llmrec.evaluation import compare, ndcg_at, target_ranks
from llmrec.reranking import catalogue_scale, fit_gate


@dataclass(frozen=True)
class Row:
    """One training.

    ``share`` is the share of the training lists. Without ``offset``, the head learns to rank by
    itself and not beside the retriever and popularity.
    """

    settings: Settings = field(default_factory=Settings)
    share: float = 1.0
    offset: bool = True


ROWS: Mapping[str, Row] = {
    "as it is": Row(),
    "1/2 of the lists": Row(share=1 / 2),
    "1/4 of the lists": Row(share=1 / 4),
    "1/8 of the lists": Row(share=1 / 8),
    "no offset": Row(offset=False),
    "no dropout": Row(Settings(dropout=0.0)),
    "weight decay .01": Row(Settings(weight_decay=0.01)),
    "width 16": Row(Settings(width=16)),
    "width 256": Row(Settings(width=256)),
}


def judged(
    row: Row, states: Mapping[str, NDArray[Any]], parts: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Train a head and judge its gate: nDCG@10 of each test list."""
    tables, part = Tables.of(states), states["part"].copy()
    if not row.offset:
        tables = replace(tables, known=torch.zeros_like(tables.known))
    training = np.random.default_rng(SEED).permutation(np.flatnonzero(part == TRAINING))
    part[training[round(row.share * len(training)) :]] = -1
    began = time.perf_counter()
    head = trained(tables, part, row.settings)
    seconds = time.perf_counter() - began
    scores = head_scores(head, tables, np.flatnonzero(states["part"] < TRAINING))
    lists, rows = lists_of({**parts, "head": scores}, scores.shape[1])
    given = parts["part"][rows]
    fitted = fit_gate(
        lists.rows(np.flatnonzero(given == VALIDATION)),
        popularity=catalogue_scale(parts["popularity"]),
        seed=SEED,
    )
    tests = lists.rows(np.flatnonzero(given == TEST))
    assert tests.targets is not None
    found: dict[str, Any] = {"lists": int((part == TRAINING).sum()), "seconds": seconds}
    for name, gate in ((CONTROL, fitted.control), ("gate", fitted.gate)):
        found[name] = ndcg_at(target_ranks(gate.scores(tests), tests.targets, seed=SEED), 10)
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """nDCG@10 of test lists by row, and the difference to the first."""
    first = next(iter(found.values()))
    text = (
        "| row | training lists | seconds | nDCG@10 | to the first row | to the control |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        f"| {CONTROL} | | | {first[CONTROL].mean():.4f} | | |\n"
    )
    for name, row in found.items():
        cells = []
        for other in (first["gate"], first[CONTROL]):
            gain = compare(row["gate"], other, seed=SEED)
            same = row["gate"] is other
            cells.append(
                "" if same else f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
            )
        figures = f"{row['lists']:,} | {row['seconds']:.0f} | {row['gate'].mean():.4f}"
        text += f"| {name} | {figures} | {' | '.join(cells)} |\n"
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and judge every row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("states", type=Path, help="file of frozen_head.py")
    parser.add_argument("lists", type=Path, help="file of ranking_lists.py")
    parser.add_argument("--name", help="name of the data set (default: that of the lists)")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    with np.load(options.states) as read:
        states = dict(read)
    lists = read_lists(options.lists, states["candidates"].shape[1], None)
    parts = beside(lists, states["rows"][states["part"] < TRAINING])
    found = {name: judged(row, states, parts) for name, row in ROWS.items()}
    name = options.name or options.lists.stem.removeprefix("lists_")
    first = next(iter(found.values()))
    sizes = (
        f"{len(first['gate']):,} test lists, {(states['part'] == VALIDATION).sum():,} validation"
    )
    text = (
        f"# Training of a head on frozen states: {name}\n\n{sizes}; {states['about'].item()}.\n\n"
    )
    means = {
        row: {key: float(np.mean(value)) for key, value in each.items()}
        for row, each in found.items()
    }
    document = {"command": command_of("ablate_head", arguments), "rows": means}
    write_results(f"ablate_head_{name}", text + table(found), document, options.out)


if __name__ == "__main__":
    main()
