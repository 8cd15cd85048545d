"""The shipped benchmark: every template that ships, on films or on gift cards.

    python eval/benchmark_templates.py DATA      # DATA: movielens_mm, amazon_gift_cards

`llmrec bench` through its Python functions, discrimination protocol, two runs: ways that ask once a
list or a candidate, raced over ``--users``; ways that ask and ask again, of ``--few`` users. What
prompts say of reviewers is learned from training rows alone. The committed reports show no user's
prompts: those hold the data sets' own sentences, and a run of one's own shows them. Writes
results/benchmark_DATA_PART.md, .html and .json, and the answers themselves, which another machine
takes up; a killed run goes on where it stopped, and a finished one is only read: run twice, the
second says what that takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from data_sets import columns_of
from kept_answers import keep, take_up

from llmrec import Catalog, Index, TextEncoder
from llmrec.benchmarking import BenchmarkModels, BenchmarkPlan, RunFolder, Summary
from llmrec.benchmarking.report import leaderboard_markdown, write_report
from llmrec.benchmarking.rows import RANDOM
from llmrec.benchmarking.run import Benchmark, run_benchmark
from llmrec.benchmarking.summary import PLAN
from llmrec.catalog import leave_one_out
from llmrec.evaluation import training_catalog
from llmrec.items import understand_items
from llmrec.models import DEFAULT_LANGUAGE_MODEL, cache_folder

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "asked_once": ("likelihood/*", "pointwise/*", "graded/*", "listwise/*"),
    "asked_again": ("setwise/*", "pairwise/*", "listwise-generated/*"),
}
METRICS = ("ndcg@10", "mrr")


def make_index(data: Path, folder: Path) -> Path:
    """An index with all interactions, whose insights know the training rows' reviews alone."""
    if folder.exists():
        return folder
    catalog = Catalog.from_folder(data, columns=columns_of(data))
    known = training_catalog(catalog, leave_one_out(catalog, min_train=2))
    encoder = TextEncoder.from_pretrained()
    insights = understand_items(known, encoder, progress=True)
    index = Index.build(known, encoder, modalities=(), insights=insights, progress=True)
    # The benchmark holds the last interactions out itself.
    replace(index, interactions=catalog.interactions, reviews=catalog.reviews).save(folder)
    return folder


def lines_of(summary: Summary) -> list[dict[str, object]]:
    """The rows as the README reads them; ``above chance`` is the difference and Holm's p."""
    chance = {
        found.row: [found.comparison.difference, found.p_corrected]
        for found in summary.contrasts
        if found.against == RANDOM
    }
    return [
        {
            "name": row.name,
            "kind": row.kind,
            "users": row.users,
            **{
                name: [row.metrics[name].mean, row.metrics[name].low, row.metrics[name].high]
                for name in METRICS
                if name in row.metrics
            },
            "cost": dict(row.cost),
            "faults": dict(row.faults),
            "fallbacks": dict(row.fallbacks),
            "dropped": row.dropped,
            "above chance": chance.get(row.name),
        }
        for row in summary.rows
    ]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", choices=tuple(PARTS), help="one of the two runs alone")
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument(
        "--few", type=int, default=30, help="users of what is asked again and again"
    )
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--kept", type=Path, help="where the index and the runs are kept")
    options = parser.parse_args()
    name = options.data.name
    kept = options.kept or cache_folder() / "eval" / f"benchmark_{name}"
    kept.mkdir(parents=True, exist_ok=True)
    index = make_index(options.data, kept / name)
    models = BenchmarkModels(progress=True)
    for part in [options.part] if options.part else PARTS:
        once = part == "asked_once"
        plan = BenchmarkPlan(
            index=index,
            templates=PARTS[part],
            users=options.users if once else options.few,
            models=(options.model,),
            race=once,
        )
        benchmark = Benchmark.of(plan, models.revision, progress=True)
        command = f"python eval/benchmark_templates.py {name} --part {part} " + (
            f"--users {options.users}" if once else f"--few {options.few}"
        )
        folder, started = RunFolder(kept / part), time.perf_counter()
        answers = RESULTS / f"benchmark_{name}_{part}.answers.gz"
        take_up(answers, folder, benchmark.about(command), benchmark.data.users)
        answered = len(list(folder.results())) if folder.path.exists() else 0
        summary, _ = run_benchmark(benchmark, folder, models.load, command=command, progress=True)
        seconds = time.perf_counter() - started
        # Where the index lies is this machine's own affair.
        plan_text = str(summary.about[PLAN]).replace(str(index), "INDEX")
        summary = replace(summary, about={**summary.about, PLAN: plan_text})
        out = RESULTS / f"benchmark_{name}_{part}"
        out.with_suffix(".md").write_text(leaderboard_markdown(summary), encoding="utf-8")
        write_report(summary, (), out.with_suffix(".html"))
        keep(answers, folder, benchmark.about(command))
        results = list(folder.results())
        document = {
            "command": command,
            "answers": len(results),
            "answers of this run": len(results) - answered,
            "seconds of this run": round(seconds, 1),
            "seconds of all answers": round(sum(result.seconds for result in results), 1),
            "rows": lines_of(summary),
        }
        out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
        sys.stdout.write(leaderboard_markdown(summary))


if __name__ == "__main__":
    main()
