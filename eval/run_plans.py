"""Run a benchmark plan of eval/plans on a data set, and write its results.

    python eval/run_plans.py PLAN DATA [--users N] [--model REF]     # strategies movielens_mm

A plan is a benchmark file without its index. The index of DATA has all interactions, of which the
benchmark holds the last one of each user out; opinions in prompts are learned from training rows
alone. Writes results/PLAN_DATA_MODEL.md and .json. The run stays in --runs, with its report.html; a
killed one resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from data_sets import KEPT, RESULTS, read, write_results

from llmrec import Index, TextEncoder
from llmrec.benchmarking import BenchmarkPlan, Summary, bench
from llmrec.catalog import leave_one_out
from llmrec.evaluation import training_catalog
from llmrec.items import understand_items
from llmrec.models import DEFAULT_LANGUAGE_MODEL

PLANS = Path(__file__).parent / "plans"
METRICS = ("ndcg@10", "mrr")


def make_index(data: Path, folder: Path) -> Path:
    """An index of the data set's texts, made where it is missing."""
    if not folder.exists():
        catalog = read(data)
        known = training_catalog(catalog, leave_one_out(catalog, min_train=2))
        encoder = TextEncoder.from_pretrained()
        insights = understand_items(known, encoder, progress=True)
        index = Index.build(catalog, encoder, modalities=(), insights=insights, progress=True)
        index.save(folder)
    return folder


def rows_of(summary: Summary) -> list[dict[str, Any]]:
    """The rows for tables; ``above chance`` is the difference and Holm's p."""
    chance = {
        found.row: [found.comparison.difference, found.p_corrected]
        for found in summary.contrasts
        if found.against == "random"
    }
    return [
        {
            "name": row.name,
            "kind": row.kind,
            "users": row.users,
            **{
                name: [row.metrics[name].mean, row.metrics[name].low, row.metrics[name].high]
                for name in METRICS
            },
            "cost": row.cost,
            "faults": row.faults,
            "fallbacks": row.fallbacks,
            "dropped": row.dropped,
            "above chance": chance.get(row.name),
            "order bias": summary.order.get(row.name),
        }
        for row in summary.rows
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plan", choices=sorted(path.stem for path in PLANS.glob("*.yaml")))
    parser.add_argument("data", type=Path)
    parser.add_argument("--users", type=int, help="number of users (default: the plan's)")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--runs", type=Path, default=KEPT / "runs", help="indexes and runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results folder")
    options = parser.parse_args(arguments)
    data = options.data.name
    said: Mapping[str, Any] = yaml.safe_load((PLANS / f"{options.plan}.yaml").read_text())
    users = options.users or said["users"]
    index = make_index(options.data, options.runs / data)
    document = {**said, "index": index, "models": [options.model], "users": users}
    if "places" in document:
        document["place_users"] = users
    plan = BenchmarkPlan.of(document, f"The plan {options.plan}")
    name = f"{options.plan}_{data}_{Path(options.model).name.lower()}"
    run = options.runs / name
    command = f"python eval/run_plans.py {options.plan} {data} --users {users}"
    if options.model != DEFAULT_LANGUAGE_MODEL:
        command += f" --model {options.model}"
    summary = bench(plan, run, command=command, progress=True)
    text = (run / "leaderboard.md").read_text(encoding="utf-8")
    found = {"command": command, "rows": rows_of(summary), "position": summary.position}
    write_results(name, text, found, options.out)


if __name__ == "__main__":
    main()
