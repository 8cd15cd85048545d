"""Writes the README's table of templates from what the shipped benchmark found.

    python eval/template_table.py [--check]      # --check: 1 where the README says otherwise

Reads results/benchmark_DATA_PART.json, which `benchmark_templates.py` writes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmark_templates import PARTS, RESULTS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- templates: python eval/template_table.py -->", "<!-- /templates -->"
DATA = {"movielens_mm": "films", "amazon_gift_cards": "gift cards"}
BASELINES = ("random", "popularity", "retriever")


def table(results: Path = RESULTS) -> str:
    """Rows by their nDCG@10 on films, templates of one run on the same users."""
    parts = []
    for part in PARTS:
        found = {data: _rows(results / f"benchmark_{data}_{part}.json") for data in DATA}
        known = {data: rows for data, rows in found.items() if rows}
        if known:
            parts.append(_table(known))
    return "\n\n".join(parts) + "\n"


def replaced(readme: str, new: str) -> str:
    """The README with the table between its marks."""
    before, found, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise SystemExit(f"The README lacks {BEGIN} or {END}.")
    return f"{before}{BEGIN}\n\n{new}\n{END}{after}"


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    rows = json.loads(path.read_text())["rows"]
    return {row["name"]: row for row in rows if row["kind"] == "cell" or row["name"] in BASELINES}


def _table(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    first = next(iter(found.values()))
    order = sorted(first, key=lambda name: -first[name]["ndcg@10"][0])
    heads = ["template", *(f"{DATA[data]}: nDCG@10, users" for data in found), "tokens, seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for name in order:
        cells = [_value(rows.get(name)) for rows in found.values()]
        cost = first[name]["cost"]
        spent = f"{cost['tokens forwarded']:,.0f}, {cost['seconds p50']:.1f}" if cost else ""
        shown = f"`{name}`" if cost else name
        lines.append("| " + " | ".join([shown, *cells, spent]) + " |")
    return "\n".join(lines)


def _value(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    mean, low, high = (f"{value:.3f}".removeprefix("0") for value in row["ndcg@10"])
    return f"{mean} [{low}, {high}], {row['users']}{' (dropped)' if row['dropped'] else ''}"


def main() -> None:
    """Write it, or look whether it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = replaced(before, table())
    if options.check:
        sys.exit(int(before != after))
    README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
