"""Write the tables of docs/results.md that come from committed results of plans, or check them.

    python eval/results_tables.py [--check] [PAGE]      # --check: ends with 1 where they differ

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` (a comment may follow the name):
``strategies`` is of the plans strategies*.yaml, ``templates`` of templates_once.yaml and
templates_again.yaml (``python eval/run_plans.py PLAN DATA``).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
DATA = {"movielens_mm": "films", "amazon_gift_cards": "cards"}
MODELS = {"smollm2-135m-instruct": "SmolLM2", "gemma-3-270m": "Gemma"}
BASELINES = ("random", "popularity", "retriever")
WAYS = (
    *BASELINES,
    "likelihood",
    "pointwise",
    "graded",
    "listwise",
    "listwise, 4 shuffles",
    "setwise",
    "pairwise",
    "listwise-generated",
)
USUAL = 300
Row = dict[str, Any]


def rows_in(pattern: str) -> dict[str, Row]:
    """Rows by name; of several with one name, that of the most users, then of the first file."""
    found: dict[str, Row] = {}
    for path in sorted(RESULTS.glob(pattern)):
        for row in json.loads(path.read_text())["rows"]:
            if row["users"] > found.get(row["name"], {"users": 0})["users"]:
                found[row["name"]] = row
    return found


def strategies() -> str:
    """Default templates: nDCG@10 without and with calibration, and the cost on films."""
    found = {}
    for data, shown in DATA.items():
        for ref, model in MODELS.items():
            rows = rows_in(f"strategies*_{data}_{ref}.json")
            # likelihood/numbered is likelihood: one template a strategy.
            found[f"{shown}: {model}"] = {
                re.sub(r"/[^,]*", "", name): row for name, row in rows.items()
            }
    costs = next(iter(found.values()))
    heads = ["nDCG@10, calibrated", *found, "tokens of whole prompts, forwarded", "seconds"]
    lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for way in WAYS:
        ours = [_pair(rows.get(way), rows.get(f"{way}, calibrated")) for rows in found.values()]
        lines.append(_line([way, *ours, *_cost(costs.get(way), costs.get(f"{way}, calibrated"))]))
    return "\n".join(lines)


def templates() -> str:
    """Templates by their nDCG@10 on films, one table a plan."""
    return "\n\n".join(_templates(plan) for plan in ("templates_once", "templates_again"))


TABLES: Mapping[str, Callable[[], str]] = {"strategies": strategies, "templates": templates}


def replaced(page: str) -> str:
    """The page with each table between its marks; without marks nothing is written."""
    for name, table in TABLES.items():
        marks = re.compile(rf"(<!-- {name}\b[^>]*-->).*?(<!-- /{name} -->)", re.DOTALL)
        page = marks.sub(lambda m, made=table: f"{m[1]}\n\n{made()}\n\n{m[2]}", page)  # type: ignore[misc]
    return page


def _templates(plan: str) -> str:
    ref = next(iter(MODELS))
    found = {shown: rows_in(f"{plan}_{data}_{ref}.json") for data, shown in DATA.items()}
    first = next(iter(found.values()))
    names = [n for n in first if first[n]["kind"] == "cell" or n in BASELINES]
    heads = ["template", *(f"{name}: nDCG@10, users" for name in found), "tokens, seconds"]
    lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for name in sorted(names, key=lambda name: -first[name]["ndcg@10"][0]):
        cost = first[name]["cost"]
        spent = f"{cost['tokens forwarded']:,.0f}, {cost['seconds p50']:.1f}" if cost else ""
        cells = [_interval(rows[name]) if name in rows else "" for rows in found.values()]
        lines.append(_line([f"`{name}`" if cost else name, *cells, spent]))
    return "\n".join(lines)


def _interval(row: Row) -> str:
    mean, low, high = map(_figure, row["ndcg@10"])
    users = f"{row['users']}{' (dropped)' if row['dropped'] else ''}"
    return mean if low == high else f"{mean} [{low}, {high}], {users}"  # random has no interval


def _pair(plain: Row | None, calibrated: Row | None) -> str:
    if plain is None:
        return "–"
    values = ", ".join(_mean(row) for row in (plain, calibrated) if row)
    return values if plain["users"] == USUAL else f"{values} ({plain['users']})"


def _mean(row: Row) -> str:
    difference, p_corrected = row["above chance"] or (0.0, 1.0)
    text = _figure(row["ndcg@10"][0])
    return f"**{text}**" if difference > 0 and p_corrected <= 0.05 else text


def _cost(plain: Row | None, calibrated: Row | None) -> list[str]:
    cost = plain["cost"] if plain else {}
    if not cost:
        return ["", ""]
    tokens = f"{cost['tokens given']:,.0f}, {cost['tokens forwarded']:,.0f}"
    if cost["tokens generated"]:
        tokens += f" and {cost['tokens generated']:,.0f} written"
    seconds = [row["cost"]["seconds p50"] for row in (plain, calibrated) if row]
    return [tokens, ", ".join(f"{value:.1f}" for value in seconds)]


def _figure(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    before = options.page.read_text(encoding="utf-8")
    after = replaced(before)
    if options.check and before != after:
        sys.exit(f"{options.page}: run python eval/results_tables.py.")
    options.page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
