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
from data_sets import SEED, TRAINING, VALIDATION, command_of, write_results
from frozen_head import Settings, Tables, head_scores, trained
from gate_table import CONTROL, GATE, lists_of, on_tests
from gated_lists import beside, read_lists
from numpy.typing import NDArray

from llmrec.evaluation import compare


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
    row: Row, tables: Tables, part: NDArray[np.int8], parts: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Train a head and judge its gate: nDCG@10 of each test list.

    ``part`` is of the lists of ``tables``; ``parts`` are validation and test lists.
    """
    held, part = np.flatnonzero(part < TRAINING), part.copy()
    if not row.offset:
        tables = replace(tables, known=torch.zeros_like(tables.known))
    training = np.random.default_rng(SEED).permutation(np.flatnonzero(part == TRAINING))
    part[training[round(row.share * len(training)) :]] = -1
    began = time.perf_counter()
    head = trained(tables, part, row.settings)
    seconds = time.perf_counter() - began
    scores = head_scores(head, tables, held)
    lists, rows = lists_of({**parts, "head": scores}, scores.shape[1])
    _, found = on_tests(lists, parts["part"][rows], parts["popularity"])
    return {"lists": int((part == TRAINING).sum()), "seconds": seconds, **found}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """nDCG@10 of test lists by row, and the difference to the first."""
    first = next(iter(found.values()))
    text = (
        "| row | training lists | seconds | nDCG@10 | to the first row | to the control |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        f"| {CONTROL} | | | {first[CONTROL].mean():.4f} | | |\n"
    )
    for name, row in found.items():
        gains = {other: compare(row[GATE], first[other], seed=SEED) for other in (GATE, CONTROL)}
        cells = ["" if row is first else str(gains[GATE]), str(gains[CONTROL])]
        figures = f"{row['lists']:,} | {row['seconds']:.0f} | {row[GATE].mean():.4f}"
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
    tables = Tables.of(states)
    found = {name: judged(row, tables, states["part"], parts) for name, row in ROWS.items()}
    name = options.name or options.lists.stem.removeprefix("lists_")
    first = next(iter(found.values()))
    sizes = f"{len(first[GATE]):,} test lists, {(states['part'] == VALIDATION).sum():,} validation"
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
