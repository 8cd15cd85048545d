"""What each field of a prompt adds to titles alone, under the gate.

    python eval/fields_under_gate.py DATA [--model REF] [--lists 400] [--fields NAME...]

Every user's last item is held out; lists are the retriever's best 20 that hold it. The prompt is
that of pointwise/whole-item with titles alone, and once more with one field of the candidate:
attributes, description, opinion (of the reviews before the last items), caption, or met_together,
which says how many of those who chose the nearest item of the history chose the candidate. Gates
are judged on folds that they were not fitted on (`fit_gate`); intervals are paired by list.
Writes fields_under_gate_DATA.md and .json; a killed run resumes after the last whole row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import KEPT, SEED, command_of, kept_in, read, write_results

from llmrec import Index, Reranker, TextEncoder
from llmrec.catalog import leave_one_out
from llmrec.evaluation import compare, training_catalog
from llmrec.items import understand_items
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from llmrec.prompting import Budget, Context
from llmrec.records import Insight, Item
from llmrec.reranking import fit_gate
from llmrec.reranking.fitting import hold_out_last, judged_lists
from llmrec.reranking.requests import Request

FIELDS = ("attributes", "description", "opinion", "caption", "met_together")
TITLES, CONTROL = "titles", "no model"
TEMPLATE = "pointwise/whole-item"
TOP = 20


def met_together(context: Context, past: Sequence[str], item_id: str) -> str:
    """How many users of the nearest item of a history met a candidate too."""
    own = context.met_by(item_id)
    both = {other: len(own & context.met_by(other)) for other in past}
    nearest = max(both, key=lambda other: both[other] / (1 + len(context.met_by(other))))
    n, title = len(context.met_by(nearest)), context.items[nearest].title
    return f"Of {n} people who chose {title}, {both[nearest]} chose this too."


def shown(request: Request, field: str) -> Request:
    """The request, of whose items prompts show titles and one field of the candidates."""
    context = request.context
    candidates = {each.item_id for each in request.candidates}
    past = [row.item_id for row in request.user.history[-Budget().history_items :]]

    def item(item_id: str) -> Item:
        whole = context.items[item_id]
        kept = {field: getattr(whole, field)} if field in {"attributes", "description"} else {}
        return Item(item_id, whole.title, **(kept if item_id in candidates else {}))

    def insight(item_id: str) -> Insight:
        whole = context.insight(item_id)
        if field == "opinion":
            return Insight(opinion=whole.opinion)
        if field == "caption":
            return Insight(picture=whole.picture, clip=whole.clip)
        if field == "met_together":
            return Insight(facts=(met_together(context, past, item_id),))
        return Insight()

    items = {item_id: item(item_id) for item_id in {*candidates, *past}}
    user = replace(request.user, profile={})
    return replace(request, user=user, context=replace(context, items=items, insight=insight))


def table(rows: dict[str, Any], first: str) -> str:
    """nDCG@10 by row, with the differences to no model and to the ``first`` way of asking it."""
    text = f"| row | nDCG@10 | to {CONTROL} | to {first} |\n|---|---:|---:|---:|\n"
    for name, values in rows.items():
        cells = [
            str(compare(np.array(values), np.array(rows[other]), seed=SEED))
            for other in (CONTROL, first)
        ]
        text += f"| {name} | {np.mean(values):.4f} | {' | '.join(cells)} |\n"
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge the lists, a field after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--lists", type=int, default=400)
    parser.add_argument("--fields", nargs="+", choices=FIELDS, default=list(FIELDS))
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    catalog, encoder = read(options.data), TextEncoder.from_pretrained()
    before = training_catalog(catalog, leave_one_out(catalog, min_train=2))
    insights = understand_items(before, encoder, progress=True)
    index = Index.build(catalog, encoder, modalities=(), insights=insights, progress=True)
    held = hold_out_last(index, n_candidates=TOP, users=options.lists, seed=SEED)
    reranker: list[Reranker] = []

    def judged(field: str) -> dict[str, list[float]]:
        if not reranker:
            settings: dict[str, Any] = {"strategy": "pointwise", "template": TEMPLATE}
            reranker.append(Reranker(options.model, held.index, device=options.device, **settings))
        some = [shown(request, field) for request in held.requests]
        lists, _ = judged_lists(reranker[0], some, progress=True)
        fitted = fit_gate(lists, popularity=reranker[0].catalogue_scale, seed=SEED)
        return {field: fitted.values["gate"].tolist(), CONTROL: fitted.values["control"].tolist()}

    about = f"{options.model} {options.lists} {index.fingerprint}"
    with kept_in(KEPT / "fields_under_gate" / f"{options.data.name}.jsonl") as kept:
        names = (TITLES, *options.fields)
        found = {name: kept(f"{about} {name}", partial(judged, name)) for name in names}
    rows = {CONTROL: found[TITLES][CONTROL], **{name: found[name][name] for name in names}}
    text = f"# Fields under the gate: {options.data.name}\n\n{len(held.requests)} lists, "
    text += f"{options.model}, {TEMPLATE}.\n\n{table(rows, TITLES)}"
    command = command_of("fields_under_gate", arguments)
    means = {name: float(np.mean(some)) for name, some in rows.items()}
    write_results(
        f"fields_under_gate_{options.data.name}",
        text,
        {"command": command, "ndcg@10": means},
        options.out,
    )


if __name__ == "__main__":
    main()
