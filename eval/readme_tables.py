"""Tables of the README that come from committed results: written, or checked, by a command.

    python eval/readme_tables.py [--check]      # --check: 1 where the README says otherwise

A table stands between ``<!-- NAME: python eval/readme_tables.py -->`` and ``<!-- /NAME -->``;
``strategies`` is of ``rerank_strategies.py``, ``templates`` of ``benchmark_templates.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
DATA = {"movielens_mm": "films", "amazon_gift_cards": "cards"}
MODELS = {"smollm2-135m-instruct": "SmolLM2", "gemma-3-270m": "Gemma"}
BASELINES = ("random", "popularity", "retriever")
PARTS = ("asked_once", "asked_again")
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
MOST = 300

Row = dict[str, Any]


def strategies(results: Path) -> str:
    """Every way to rank: nDCG@10 without and with calibration, and what it costs on films."""
    names = {
        f"{shown}: {model}": results / f"rerank_strategies_{data}_{ref}.json"
        for data, shown in DATA.items()
        for ref, model in MODELS.items()
    }
    found = {name: json.loads(path.read_text()) for name, path in names.items() if path.exists()}
    rows = {name: _first(document["quality"]["rows"]) for name, document in found.items()}
    costs = {row["row"]: row for row in next(iter(found.values()))["costs"]}
    heads = ["nDCG@10, calibrated", *found, "tokens of whole prompts, forwarded", "seconds"]
    lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for way in WAYS:
        values = [_pair(known.get(way), known.get(f"{way}, calibrated")) for known in rows.values()]
        lines.append(_line([way, *values, *_cost(costs, way)]))
    return "\n".join(lines)


def templates(results: Path) -> str:
    """Templates by their nDCG@10 on films, those of one run on the same users."""
    parts = []
    for part in PARTS:
        files = {DATA[data]: results / f"benchmark_{data}_{part}.json" for data in DATA}
        found = {
            name: {row["name"]: row for row in json.loads(path.read_text())["rows"]}
            for name, path in files.items()
            if path.exists()
        }
        if found:
            parts.append(_templates(found))
    return "\n\n".join(parts)


TABLES: Mapping[str, Callable[[Path], str]] = {"strategies": strategies, "templates": templates}


def replaced(readme: str, results: Path = RESULTS) -> str:
    """The README with each table between its marks; one without marks is left out."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: python eval/readme_tables.py -->", f"<!-- /{name} -->"
        before, there, rest = readme.partition(begin)
        if there:
            _, closed, after = rest.partition(end)
            if not closed:
                raise SystemExit(f"The README lacks {end}.")
            readme = f"{before}{begin}\n\n{table(results)}\n\n{end}{after}"
    return readme


def _first(rows: list[Row]) -> dict[str, Row]:
    """Rows by name, of those asked of several numbers of users the most."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row["name"], row)
    return found


def _pair(plain: Row | None, calibrated: Row | None) -> str:
    if plain is None:
        return "–"
    values = ", ".join(_mean(row) for row in (plain, calibrated) if row)
    return values if plain["users"] == MOST else f"{values} ({plain['users']})"


def _mean(row: Row) -> str:
    text = f"{row['values']['ndcg@10']['mean']:.3f}".removeprefix("0")
    shown = any(
        contrast["against"] == "random"
        and contrast["metric"] == "ndcg@10"
        and contrast["p_corrected"] <= 0.05
        and contrast["comparison"]["difference"] > 0
        for contrast in row["contrasts"]
    )
    return f"**{text}**" if shown else text


def _cost(costs: Mapping[str, Row], way: str) -> list[str]:
    plain, calibrated = costs.get(way), costs.get(f"{way}, calibrated")
    if plain is None:
        return ["", ""]
    tokens = f"{plain['tokens of whole prompts']:,}, {plain['tokens forwarded']:,}"
    if plain["tokens generated"]:
        tokens += f" and {plain['tokens generated']:,} written"
    return [tokens, ", ".join(f"{row['seconds']:.1f}" for row in (plain, calibrated) if row)]


def _templates(found: Mapping[str, Mapping[str, Row]]) -> str:
    first = next(iter(found.values()))
    names = [n for n in first if first[n]["kind"] == "cell" or n in BASELINES]
    heads = ["template", *(f"{name}: nDCG@10, users" for name in found), "tokens, seconds"]
    lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for name in sorted(names, key=lambda name: -first[name]["ndcg@10"][0]):
        cost = first[name]["cost"]
        spent = f"{cost['tokens forwarded']:,.0f}, {cost['seconds p50']:.1f}" if cost else ""
        cells = [_interval(rows.get(name)) for rows in found.values()]
        lines.append(_line([f"`{name}`" if cost else name, *cells, spent]))
    return "\n".join(lines)


def _interval(row: Row | None) -> str:
    if row is None:
        return ""
    mean, low, high = (f"{value:.3f}".removeprefix("0") for value in row["ndcg@10"])
    users = f"{row['users']}{' (dropped)' if row['dropped'] else ''}"
    return mean if low == high else f"{mean} [{low}, {high}], {users}"  # chance needs no users


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write them, or look whether they are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = replaced(before)
    if options.check:
        sys.exit("README.md: run python eval/readme_tables.py." if before != after else 0)
    README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
