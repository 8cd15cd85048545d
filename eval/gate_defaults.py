"""One gate learned across data sets, and whether it carries over to a set that it has not seen.

    python eval/gate_defaults.py PARTS.npz PARTS.npz ... [--top 20] [--lists 1000] [--served]

``gated_lists.py`` makes the files, one of each data set; the same number of validation lists is
drawn of each. A gate learned on all sets but one is judged on that one's validation lists, against
the retriever's order and against the weights used before (1 for the retriever, 0.2 for the
likelihood minus half of the prior); then one is learned on all of them: the default gate of
``likelihood`` (`llmrec.reranking.DEFAULT_GATES`). Weights of popularity alone and of the retriever
times popularity are left out of what carries over: they belong to a retriever, not to the model.
Test lists are not read. Writes results/gate_defaults.json and .md. With --served nothing is
learned: the default gate is judged on sets that it was not learned from, and gate_served written.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import SEED, VALIDATION, write_results
from gate_table import RETRIEVER, interval, lists_of
from numpy.typing import NDArray

from llmrec.evaluation import compare, ndcg_at, target_ranks
from llmrec.reranking import DEFAULT_GATES, Gate, GateLists, catalogue_scale, choose_gate
from llmrec.reranking.gate_fit import CONTROL

COMMON = (0.0, 1.0)
"""The scale of popularity after each set's own is taken off."""
BEFORE, DEFAULT = "before", "default"
Values = NDArray[np.float64]


def validation_lists(path: Path, top: int, most: int) -> tuple[GateLists, str]:
    """Some validation lists of a file, popularity on the common scale, and the model."""
    with np.load(path) as given:
        parts = dict(given)
    lists, rows = lists_of(parts, top)
    chosen = np.flatnonzero(parts["part"][rows] == VALIDATION)
    chosen = np.random.default_rng(SEED).permutation(chosen)[:most]
    mean, spread = catalogue_scale(parts["popularity"])
    some = lists.rows(np.sort(chosen))
    standard = (np.log1p(some.popularity) - mean) / spread
    # log(1 + popularity) of the result is what was standardised.
    return replace(some, popularity=np.expm1(standard)), parts["about"].item()


def learned(sets: Sequence[GateLists]) -> tuple[Gate, dict[str, float]]:
    """A gate of all these sets, without what belongs to a retriever."""
    gate, p_values = choose_gate(GateLists.joined(sets), popularity=COMMON, seed=SEED)
    kept = {n: w for n, w in gate.weights.items() if n == "retrieval" or n not in CONTROL}
    return replace(gate, weights=kept), p_values


def ndcg(lists: GateLists, scores: Values) -> Values:
    """nDCG@10 of each list."""
    assert lists.targets is not None
    return ndcg_at(target_ranks(scores, lists.targets, seed=SEED), 10)


def rows_of(lists: GateLists, gate: Gate) -> dict[str, Values]:
    """nDCG@10 by row."""
    score = lists.signals["likelihood.conditional"] - lists.signals["likelihood.prior"] / 2
    before = replace(lists, signals={**lists.signals, "likelihood": score})
    return {
        RETRIEVER: ndcg(lists, Gate({"retrieval": 1.0}).scores(lists)),
        BEFORE: ndcg(lists, Gate({"retrieval": 1.0, "likelihood": 0.2}).scores(before)),
        DEFAULT: ndcg(lists, gate.scores(lists, COMMON)),
    }


def text_of(sets: Mapping[str, dict[str, Any]], gate: str) -> str:
    """The table; ``gate`` says which one was judged."""
    heads = f"set left out | lists | retriever | weights before | {gate}"
    lines = [
        f"| {heads} | to the retriever | to the weights before |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in sets.items():
        figures = " | ".join(f"{value:.4f}" for value in found["ndcg@10"].values())
        both = " | ".join(interval(found[other]) for other in (RETRIEVER, BEFORE))
        lines.append(f"| {name} | {found['lists']} | {figures} | {both} |")
    return "\n".join(lines) + "\n"


def weights_of(every: Gate, p_values: Mapping[str, float]) -> str:
    """The weights of the gate of all sets."""
    lines = ["The gate of all sets, and p-values of leaving a part out:\n"]
    lines += [f"- {name}: {weight:+.3f}" for name, weight in every.weights.items()]
    lines += [f"- p of {name}: {p:.2g}" for name, p in p_values.items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn, judge and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", type=Path, nargs="+", help="two or more files of gated_lists.py")
    parser.add_argument("--top", type=int, default=20, help="candidates of a list")
    parser.add_argument("--lists", type=int, default=1000, help="lists of a set, at most")
    parser.add_argument("--served", action="store_true", help="judge the default gate as it is")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    read = {
        path.stem.partition("_parts")[0]: validation_lists(path, options.top, options.lists)
        for path in options.parts
    }
    lists = {name: some for name, (some, _) in read.items()}
    sets: dict[str, dict[str, Any]] = {}
    for name, held in lists.items():
        others = [some for other, some in lists.items() if other != name]
        gate = DEFAULT_GATES["likelihood"] if options.served else learned(others)[0]
        rows = rows_of(held, gate)
        sets[name] = {
            "lists": len(held.sizes),
            "ndcg@10": {row: float(values.mean()) for row, values in rows.items()},
            **{row: compare(rows[DEFAULT], rows[row], seed=SEED) for row in (RETRIEVER, BEFORE)},
            "weights": gate.weights,
        }
    models = sorted({model for _, model in read.values()})
    names = " ".join(path.name for path in options.parts)
    settings = f"--top {options.top} --lists {options.lists}{' --served' * options.served}"
    command = f"python eval/gate_defaults.py {names} {settings}"
    document: dict[str, Any] = {"command": command, "sets": sets, "models": models}
    title = "# A default gate across data sets"
    text = f"{title}\n\n`{command}`, {', '.join(models)}\n\n"
    if options.served:
        text += text_of(sets, "default gate")
    else:
        every, p_values = learned(list(lists.values()))
        text += text_of(sets, "gate of the other sets") + "\n" + weights_of(every, p_values)
        document |= {"weights": every.weights, "p_values": p_values}
    name = "gate_served" if options.served else "gate_defaults"
    write_results(name, text, document, options.out)


if __name__ == "__main__":
    main()
