"""Ask some ways of rerank_strategies.py again, and put them into its committed results.

    python eval/ask_ways_again.py DATA --way pairwise --way listwise-generated [--model REF]

For ways whose scores have changed since. Whom to ask is read from the command that the results were
made with; ways that share a table, being asked about as many users, are asked again together.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from movielens import KeptScores, load, retriever_of
from pydantic import TypeAdapter
from remembering import Remembering
from rerank_strategies import (
    RESULTS,
    discrimination,
    drawn,
    end_to_end,
    measured_cost,
    options_of,
    quality,
    quality_text,
    thinned,
)
from ways import WAYS, cost_table, users_of

from llmrec import TransformersModel
from llmrec.evaluation import Row
from llmrec.models import DEFAULT_LANGUAGE_MODEL, cache_folder

ROWS = TypeAdapter(list[Row])


def refuse_half_a_table(lists: int, few: int, again: Sequence[str]) -> None:
    """Ways of as many users share a table and its correction: all are asked again, or none."""
    numbers = {way.name: min(lists, users_of(way, lists, few)) for way in WAYS}
    new = {numbers[name] for name in again}
    left = [name for name, n in numbers.items() if n in new and name not in again]
    if left:
        raise SystemExit(f"{', '.join(left)} stand in the same table: ask them again too.")


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Results with the tables of as many users as the new ones have in place of the old."""
    new = {row["users"] for row in now["rows"]}
    kept = [row for row in before["rows"] if row["users"] not in new]
    return {"rows": [*kept, *now["rows"]], "faults": {**before["faults"], **now["faults"]}}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--way", action="append", required=True, choices=[w.name for w in WAYS])
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    options = parser.parse_args()
    model = TransformersModel.from_pretrained(options.model, progress=True)
    out = f"rerank_strategies_{options.data.name}_{Path(model.name).name.lower()}"
    document = json.loads((RESULTS / f"{out}.json").read_text())
    first = options_of().parse_args(shlex.split(document["about"]["command"])[2:])
    data = load(options.data)
    kept = KeptScores(cache_folder() / "eval" / f"{out}_again.jsonl")
    without = [way.name for way in WAYS if way.name not in options.way]
    retriever = retriever_of(data)
    most, reached = discrimination(data), end_to_end(data, retriever)
    lists = {
        "quality": [most[row] for row in drawn(most, first.users)],
        "reached": [reached[row] for row in drawn(reached, first.reached)],
    }
    for asked in lists.values():  # before anything is asked
        refuse_half_a_table(len(asked), first.few, options.way)
    sections = (RESULTS / f"{out}.md").read_text().split("\n## ")
    titles = [section.partition("\n")[0] for section in sections]
    for part, place in (("quality", 1), ("reached", 3)):
        _, now = quality(
            data, Remembering(model), kept, lists[part], first.few, titles[place], without
        )
        document[part] = merged(document[part], cast("dict[str, Any]", now))
        rows = ROWS.validate_python(document[part]["rows"])
        text = quality_text(titles[place], rows, document[part]["faults"])
        sections[place] = text.removeprefix("## ")
    few = thinned(lists["quality"], first.cost_users)
    costs = {entry["row"]: entry for entry in document["costs"]}
    for way in (way for way in WAYS if way.name in options.way):
        costs[way.name] = cast("dict[str, Any]", measured_cost(data, model, way, few))
    document["costs"] = list(costs.values())
    sections[4] = cost_table(document["costs"]).removeprefix("## ")
    again = f"python eval/ask_ways_again.py {options.data.name} --model {model.name}" + "".join(
        f" --way '{name}'" for name in options.way
    )
    document["about"]["again"] = again
    head = sections[0].partition("\n\nAsked again since:")[0].rstrip("\n")
    sections[0] = f"{head}\n\nAsked again since: `{again}`.\n"
    text = "\n## ".join(sections)
    (RESULTS / f"{out}.md").write_text(text)
    (RESULTS / f"{out}.json").write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
