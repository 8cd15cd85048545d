"""What a language model adds to the retriever under a gate, beside the same gate without it.

    python eval/gate_table.py PARTS.npz [TUNED.npz ...] [--name DATA] [--tops 20 100]

``gated_lists.py`` makes the files: the first by a model as it is, each other one by an adapter, on
the same lists. Gates are fitted on validation lists whose target is among the first TOP, and judged
on test lists. *Reached* are test lists that hold their target; the same candidates are ordered by
every row, ties broken by a draw. *End to end* are all test lists, those without the target
counting 0. Intervals are 95 %, paired by user: where a user has several lists, users are drawn.
By rarity: how often the target was met in training. Where times are known, everything is shown
once more without targets of the same day as the last item of the history. What `llmrec fit` would
serve is chosen by cross-validation on the validation lists. Writes results/gate_DATA.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import SEED, TEST, VALIDATION, write_results
from numpy.typing import NDArray

from llmrec.evaluation import Comparison, compare, ndcg_at, recall_at, target_ranks
from llmrec.reranking import Gate, GateLists, catalogue_scale
from llmrec.reranking.gate_fit import GateFit, by_rarity, fit_gate

Values = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
PARTS = {
    "conditional": "likelihood.conditional",
    "prior": "likelihood.prior",
    "length": "likelihood.length",
    "head": "likelihood.head",
    "odds": "pointwise",
}
"""Arrays of a file that a gate weighs, and their names in it."""
RETRIEVER, CONTROL, GATE = "retriever", "control", "gate"


def lists_of(parts: Arrays, top: int) -> tuple[GateLists, NDArray[np.int64]]:
    """Lists that hold their target among the first ``top``, and their rows."""
    candidates = parts["candidates"][:, :top]
    held = candidates == parts["target"][parts["rows"]][:, None]
    given = [name for name in PARTS if name in parts]
    scored = ~np.isnan(parts[given[0]]).all(axis=1)
    some = held.any(axis=1) & scored
    rows, candidates = parts["rows"][some], candidates[some]
    signals = {"retrieval": parts["retrieval"]}
    signals |= {PARTS[name]: parts[name] for name in given}
    there = candidates >= 0
    return GateLists(
        {n: np.where(there, v[some, :top], np.nan).astype(float) for n, v in signals.items()},
        np.where(there, parts["popularity"][candidates], np.nan).astype(float),
        parts["history"][rows].astype(float),
        there.sum(axis=1),
        np.argmax(held[some], axis=1),
    ), rows


def on_tests(
    lists: GateLists, part: NDArray[np.int8], popularity: NDArray[Any]
) -> tuple[GateFit, dict[str, Values]]:
    """Fit a gate on validation lists; nDCG@10 of each test list by gate and control.

    ``part`` is of the lists, ``popularity`` of all items.
    """
    fitted_on, tests = (lists.rows(np.flatnonzero(part == some)) for some in (VALIDATION, TEST))
    fitted = fit_gate(fitted_on, popularity=catalogue_scale(popularity), seed=SEED)
    assert tests.targets is not None
    found = {}
    for name, gate in ((GATE, fitted.gate), (CONTROL, fitted.control)):
        found[name] = ndcg_at(target_ranks(gate.scores(tests), tests.targets, seed=SEED), 10)
    return fitted, found


def per_user(values: Values, users: NDArray[Any], lists: int, everyone: int) -> Values:
    """Sums by user over ``lists`` lists of ``everyone`` users; their mean is the mean of lists."""
    _, owner = np.unique(users, return_inverse=True)
    sums = np.bincount(owner, weights=values) * everyone / lists
    return np.concatenate([sums, np.zeros(everyone - len(sums))])


def figures(
    ranks: Mapping[str, Values], chosen: NDArray[np.bool_], users: NDArray[Any], met: Values
) -> dict[str, Any]:
    """Metrics on reached lists by row, their differences, and nDCG@10 by rarity."""
    ndcg = {name: ndcg_at(some[chosen], 10) for name, some in ranks.items()}
    owners, n = users[chosen], len(np.unique(users[chosen]))
    by_user = {name: per_user(v, owners, len(v), n) for name, v in ndcg.items()}
    return {
        "lists": int(chosen.sum()),
        "users": n,
        "ndcg@10": {name: float(values.mean()) for name, values in ndcg.items()},
        "recall@10": {
            name: float(recall_at(some[chosen], 10).mean()) for name, some in ranks.items()
        },
        "differences": {
            f"{name} - {other}": compare(by_user[name], by_user[other], seed=SEED)
            for name in ranks
            for other in (CONTROL, RETRIEVER)
            if name not in (RETRIEVER, other)
        },
        "by_rarity": by_rarity(ndcg, met[chosen]),
    }


def end_to_end(
    ranks: Mapping[str, Values], tests: int, owners: NDArray[Any], n: int
) -> dict[str, Any]:
    """Metrics over all test lists, and differences to the control, by row."""
    found: dict[str, Any] = {"lists": tests}
    for metric, of in (("recall@10", recall_at), ("ndcg@10", ndcg_at)):
        by_user = {name: per_user(of(some, 10), owners, tests, n) for name, some in ranks.items()}
        found[metric] = {name: float(values.mean()) for name, values in by_user.items()}
        found[f"{metric} differences"] = {
            f"{name} - {CONTROL}": compare(values, by_user[CONTROL], seed=SEED)
            for name, values in by_user.items()
            if name != CONTROL
        }
    return found


def table(files: Mapping[str, Arrays], top: int) -> dict[str, Any]:
    """Fit all gates on validation lists of ``top``, and judge them on the test."""
    first = next(iter(files.values()))
    part, popularity = first["part"], first["popularity"]
    scale = catalogue_scale(popularity)
    gates: dict[str, Gate] = {RETRIEVER: Gate({"retrieval": 1.0})}
    p_values: dict[str, dict[str, float]] = {}
    served: dict[str, dict[str, Any]] = {}
    ranks: dict[str, Values] = {}
    rows = np.empty(0, dtype=np.int64)
    for name, parts in files.items():
        lists, rows = lists_of(parts, top)
        fitted_on = lists.rows(np.flatnonzero(part[rows] == VALIDATION))
        tests = lists.rows(np.flatnonzero(part[rows] == TEST))
        fitted = fit_gate(fitted_on, popularity=scale, seed=SEED)
        gates.setdefault(CONTROL, fitted.control)
        gates[name], p_values[name] = fitted.gate, dict(fitted.p_values)
        served[name] = {"row": fitted.best, "gain": fitted.gain}
        for row in gates.keys() - ranks.keys():
            assert tests.targets is not None
            ranks[row] = target_ranks(gates[row].scores(tests), tests.targets, seed=SEED)
    ranks = {name: ranks[name] for name in gates}
    rows = rows[part[rows] == TEST]
    users, met = first["users"], popularity[first["target"][rows]].astype(float)
    of_test = part == TEST
    subsets = {"all": np.ones(len(rows), dtype=bool)}
    if first.get("same_day", np.zeros(1)).any():
        subsets["without same-day targets"] = ~first["same_day"][rows]
    found: dict[str, Any] = {
        "top": top,
        "validation_lists": int((part[lists_of(first, top)[1]] == VALIDATION).sum()),
        "weights": {name: gate.weights for name, gate in gates.items()},
        "p_values": p_values,
        "served": served,
        "reached": {n: figures(ranks, chosen, users[rows], met) for n, chosen in subsets.items()},
    }
    for name, chosen in subsets.items():
        kept = of_test if name == "all" else of_test & ~first["same_day"]
        some = {row: values[chosen] for row, values in ranks.items()}
        n = len(np.unique(users[kept]))
        found.setdefault("end_to_end", {})[name] = end_to_end(
            some, int(kept.sum()), users[rows][chosen], n
        )
    return found


def interval(found: Comparison) -> str:
    """A difference with its interval and p-value."""
    return f"{found}, p {found.p_value:.2g}"


def text_of(found: Mapping[str, Any]) -> str:
    """The tables of one ``top`` as markdown."""
    lines = []
    for name, reached in found["reached"].items():
        whole = found["end_to_end"][name]
        names = list(reached["ndcg@10"])
        lists = (
            f"{reached['lists']:,} reached test lists of {reached['users']:,} users, of "
            f"{whole['lists']:,} test lists; {found['validation_lists']:,} validation lists."
        )
        heads = "row | nDCG@10 reached | to the control | to the retriever | recall@10, all"
        lines += [
            f"\n## Top {found['top']}, {name}\n",
            f"{lists}\n",
            f"| {heads} | nDCG@10, all |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in names:
            base = {other: reached["ndcg@10"][other] for other in (CONTROL, RETRIEVER)}
            cells = []
            for other in (CONTROL, RETRIEVER):
                difference = reached["differences"].get(f"{row} - {other}")
                share = (
                    f"{100 * difference.difference / base[other]:+.1f} %: " if difference else ""
                )
                cells.append(f"{share}{interval(difference)}" if difference else "")
            figures_ = f"{whole['recall@10'][row]:.4f} | {whole['ndcg@10'][row]:.4f}"
            lines.append(
                f"| {row} | {reached['ndcg@10'][row]:.4f} | {' | '.join(cells)} | {figures_} |"
            )
        rarities = reached["by_rarity"]
        lines += [
            "\nnDCG@10 on reached lists, by how often the target was met in training:\n",
            f"| row | {' | '.join(f'{r.name} ({r.lists:,} lists)' for r in rarities)} |",
            f"|---|{'---:|' * len(rarities)}",
            *(f"| {row} | {' | '.join(f'{r.ndcg[row]:.4f}' for r in rarities)} |" for row in names),
        ]
    lines.append("\nWeights (of standardised features):\n")
    for row, weights in found["weights"].items():
        if row != RETRIEVER:
            each = ", ".join(f"{name} {weight:+.2f}" for name, weight in weights.items())
            values = found["p_values"].get(row, {})
            tests = ", ".join(f"{name} {p:.2g}" for name, p in values.items())
            lines.append(f"- {row}: {each}{f'; p of leaving out: {tests}' if tests else ''}")
    lines.append("\nServed by `llmrec fit`, with the gate's gain over its control on validation:\n")
    for row, chosen in found["served"].items():
        lines.append(f"- {row}: the {chosen['row']} ({interval(chosen['gain'])})")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, judge and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", type=Path, nargs="+", help="files of gated_lists.py")
    parser.add_argument("--name", help="name of the data set (default: that of the first file)")
    parser.add_argument("--tops", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    files: dict[str, Arrays] = {}
    for path in options.parts:
        with np.load(path) as given:
            files[f"{GATE} {path.stem}" if files else GATE] = dict(given)
    first = files[GATE]
    if any(other["rows"].tolist() != first["rows"].tolist() for other in files.values()):
        raise SystemExit("The files are of other lists.")
    width = first["candidates"].shape[1]
    found = [table(files, top) for top in options.tops if top <= width]
    about = {name: parts["about"].item() for name, parts in files.items()}
    name = options.name or options.parts[0].stem.partition("_parts")[0]
    files_given = " ".join(path.name for path in options.parts)
    tops = " ".join(map(str, options.tops))
    command = f"python eval/gate_table.py {files_given} --name {name} --tops {tops}"
    text = f"# Gate on {name}\n\n`{command}`\n\n"
    text += "".join(f"- {row}: {model}\n" for row, model in about.items())
    text += "".join(text_of(each) for each in found)
    document = {"name": name, "command": command, "models": about, "tables": found}
    write_results(f"gate_{name}", text, document, options.out)


if __name__ == "__main__":
    main()
