"""How far words planted in one candidate move it, for every strategy and three defences.

    python eval/attack_table.py [--model REF] [--users 13] [--parts PART...]

Users and items are those of the packaged sample: 8 candidates, the last 5 history items. Each of 52
attacks (4 a list) stands in one candidate beside harmless words of the same length. Defences:
titles quoted as data (templates/), calibration, and likelihood. Writes results/attacks_MODEL.md and
.json after each part; a killed run resumes.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_sets import KEPT, RESULTS, write_results
from run_plans import make_index

from llmrec.benchmarking import BenchmarkPlan, bench
from llmrec.benchmarking.attacks import AttackRow
from llmrec.benchmarking.report.leaderboard import attack_markdown
from llmrec.catalog import sample_folder
from llmrec.evaluation import holm

TEMPLATES = Path(__file__).parent / "templates"
PER_LIST = 4
MODEL = "smollm2-135m-instruct"
PARTS: Mapping[str, Mapping[str, Any]] = {
    "pointwise": {"templates": "pointwise/plain-list"},
    "likelihood": {"templates": "likelihood/numbered"},
    "listwise": {"templates": "listwise/plain-list"},
    "graded": {"templates": "graded/plain-list"},
    "quoted": {"templates": str(TEMPLATES / "pointwise/quoted.jinja")},
    "calibrated": {"templates": "pointwise/plain-list", "calibrate": True},
    "setwise": {"templates": "setwise/plain-list"},
    "generated": {"templates": "listwise-generated/plain-list"},
    "descriptions": {"templates": "pointwise/details", "field": "description"},
    "reviews": {"templates": "pointwise/reviews", "field": "review"},
    "captions": {"templates": "pointwise/whole-item", "field": "caption"},
    "quoted list": {"templates": str(TEMPLATES / "listwise/quoted.jinja")},
    "calibrated list": {"templates": "listwise/plain-list", "calibrate": True},
    "pairwise": {"templates": "pairwise/plain-list"},
}
"""The rows, each with the field that carries the words (the title), the most telling first."""


def attacked(part: str, index: Path, model: str, users: int, runs: Path) -> tuple[AttackRow, ...]:
    """The rows of one part; its answers stay in ``runs``."""
    said = dict(PARTS[part])
    field = said.pop("field", "title")
    plan = BenchmarkPlan.of(
        {
            **said,
            "index": index,
            "models": model,
            "users": users,
            "n_candidates": 8,
            "history_items": 5,
            "fields": {"shown": {"attributes": 0} if field == "description" else {}},
            "attacks": {"users": users, "per_list": PER_LIST, "fields": field},
        },
        "The part",
    )
    return bench(plan, runs / Path(model).name, progress=True).attacks


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--users", type=int, default=13)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=Path, default=KEPT / "attacks", help="indexes and runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results folder")
    options = parser.parse_args(arguments)
    index = make_index(sample_folder(), options.runs / "sample")
    command = f"python eval/attack_table.py --model {options.model} --users {options.users}"
    name = f"attacks_{Path(options.model).name.lower()}"
    rows: list[AttackRow] = []
    for part in options.parts:
        found = attacked(part, index, options.model, options.users, options.runs)
        rows += [replace(row, row=shorter(row.row)) for row in found]
        corrected = holm([row.change.p_value for row in rows])
        rows = [replace(row, p_corrected=float(p)) for row, p in zip(rows, corrected, strict=True)]
        done = options.parts[: options.parts.index(part) + 1]
        chosen = shlex.join(["", "--parts", *done])[2:] if len(done) < len(PARTS) else ""
        said = f"{command}{chosen}"
        text = f"{attack_markdown(rows)}\n\n```\n{said}\n```\n"
        write_results(name, text, {"command": said, "rows": rows}, options.out)


def shorter(name: str) -> str:
    """The name of a row, without the folder of its template."""
    return name.replace(f"{TEMPLATES}/", "").replace(".jinja", "")


if __name__ == "__main__":
    main()
