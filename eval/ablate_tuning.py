"""Ablation of tuning choices: one change a row, judged on test lists under the gate.

    python eval/ablate_tuning.py DATA [--model REF] [--limit USERS] [--rows NAME...] [--events 3]
        [--set NAME=VALUE]... [--max-time M] [--minutes M] [--kept FOLDER] [--out FOLDER]

Lists are of each user's last event (test), the one before (validation) and those before that
(training), each by a retriever that does not know its row or a later one; at most LIMIT users of
each. Test lists are judged once, by the weights and the gate that validation chose. Intervals are
paired by list. The same command goes on where a call ended by ``--minutes`` or was killed.
Writes ablate_tuning_DATA.md and .json; ends with 3 if the time ran out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import KEPT, SEED, command_of, read, write_results
from numpy.typing import NDArray
from train_on_gpu import setting

from llmrec import Index, Retriever, TextEncoder, TransformersModel
from llmrec.content_cache import content_key
from llmrec.evaluation import compare, ndcg_at, target_ranks
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from llmrec.models.adapter import read_adapter
from llmrec.prompting import DEFAULT_TEMPLATES, Template, load_template
from llmrec.reranking.fitting import HeldOutLists
from llmrec.reranking.gate import GateLists
from llmrec.reranking.gate_fit import CONTROL
from llmrec.resumable import ResumableLog
from llmrec.training.gated_validation import (
    Limits,
    columns,
    fit,
    gate_features,
    gate_lists,
    judged,
    validate,
)  # fmt: skip
from llmrec.training.train_reranker import tune_reranker
from llmrec.training.tuning_data import TuningData, TuningList
from llmrec.training.tuning_lists import TOP, ListWriter, lists_of, out_of_fold_lists
from llmrec.training.tuning_settings import TuningSettings

ROWS: Mapping[str, Mapping[str, Any]] = {
    "list": {},
    "pointwise": {"objective": "pointwise"},
    "listwise": {"objective": "listwise"},
    "offset: retriever": {"offset": "retriever"},
    "offset: none": {"offset": "none"},
    "in-sample lists": {"in_sample": True},
    "1,000 lists": {"lists": 1_000},
    "3,000 lists": {"lists": 3_000},
    "10,000 lists": {"lists": 10_000},
    "rank 4": {"rank": 4},
    "rank 64": {"rank": 64},
    "all weights": {"weights": "full"},
    "weight decay .1": {"weight_decay": 0.1},
    "dropout .1": {"dropout": 0.1},
    "crop .3": {"crop": 0.3},
    "mask .2": {"mask": 0.2},
    "reorder .3": {"reorder": 0.3},
}


LABELS = {"name", "strategy"}
"""What a judged row holds beside figures."""


@dataclass(frozen=True)
class Lists:
    """Held-out events: test, validation, and training ones with their in-sample twins."""

    index: Index
    test: list[TuningList]
    validation: list[TuningList]
    training: list[TuningList]
    in_sample: list[TuningList]
    held: HeldOutLists

    @classmethod
    def of(cls, index: Index, events: int, users: int | None) -> Lists:
        """Retrieve the candidates of every event."""
        test, validation, *training = out_of_fold_lists(
            index, events=events + 2, users=users, seed=SEED
        )
        rows = {item_id: row for row, item_id in enumerate(index.item_ids)}
        knows = Retriever(validation.index)  # it knows the rows of training lists
        requests = [request for some in training for request in some.requests]
        easy = [replace(r, candidates=knows.retrieve(r.user, 100)) for r in requests]
        easy = [r for r in easy if r.relevant & {c.item_id for c in r.candidates}]
        return cls(
            index,
            reached(lists_of(test.requests, rows)),
            reached(lists_of(validation.requests, rows)),
            lists_of(requests, rows),
            lists_of(easy, rows),
            validation,
        )


def reached(lists: Sequence[TuningList]) -> list[TuningList]:
    """The first candidates of each list whose target is among them."""
    return [top for entry in lists if (top := entry.top(TOP)) is not None]


def data_of(
    lists: Lists, model: TransformersModel, strategy: str, row: Mapping[str, Any]
) -> tuple[TuningData, Template]:
    """A row's data, and the template that it is written by."""
    usual = DEFAULT_TEMPLATES[strategy]
    template = load_template("likelihood/list" if strategy == "likelihood" else usual)
    context = lists.held.requests[0].context
    some = lists.in_sample if row.get("in_sample") else lists.training
    order = np.random.default_rng(SEED).permutation(len(some))
    drawn = [some[i] for i in order[: row.get("lists")]]
    data = TuningData(
        strategy,
        ListWriter(strategy, template, model, context, lists.index.item_ids),
        np.asarray(lists.held.index.popularity, dtype=np.int64),
        lists=drawn,
        validation=lists.validation,
        content=lists.index.fingerprint,
    )
    return data, template


def on_test(
    model: TransformersModel,
    data: TuningData,
    test: Sequence[TuningList],
    gate: Mapping[str, float],
) -> list[float]:
    """nDCG@10 of each test list by a gate that validation fitted."""
    given, _ = judged(model.model.eval(), data, test, Limits.of(model.model))
    names = [name for part in gate_features(data.strategy) for name in part]
    return ndcg(given, columns(data, given, names) @ np.array([gate[name] for name in names]))


def control(data: TuningData, test: Sequence[TuningList]) -> list[float]:
    """The same by the gate without a language model."""
    without = replace(data, strategy="none")
    known, given = (gate_lists(without, some, (), np.empty(0)) for some in (data.validation, test))
    weights = fit(columns(data, known, CONTROL), known.there, given_targets(known))
    return ndcg(given, columns(data, given, CONTROL) @ weights)


def ndcg(lists: GateLists, scores: NDArray[np.float64]) -> list[float]:
    """nDCG@10 of each list."""
    there = np.where(lists.there, scores, np.nan)
    found: list[float] = ndcg_at(target_ranks(there, given_targets(lists), seed=SEED), 10).tolist()
    return found


def given_targets(lists: GateLists) -> NDArray[np.int64]:
    """The places of the targets."""
    assert lists.targets is not None
    return lists.targets


def row_of(
    name: str,
    lists: Lists,
    options: argparse.Namespace,
    began: float,
    judged_before: Mapping[str, Sequence[float]],
) -> dict[str, Any] | None:
    """Tune by one row's choices and judge; None where the time ran out.

    ``judged_before`` holds the untuned model's test lists by strategy.
    """
    row = {**ROWS[name], **dict(options.set)}
    chosen = {n: value for n, value in row.items() if n not in {"lists", "in_sample"}}
    settings = TuningSettings(**{"seed": SEED, **chosen})

    model = TransformersModel.from_pretrained(options.model, device=options.device, dtype="float32")
    data, template = data_of(lists, model, settings.strategy, row)
    before = judged_before.get(settings.strategy)
    if before is None:
        untuned = validate(model.model, data, Limits.of(model.model), seed=SEED)
        before = on_test(model, data, lists.test, untuned.weights)
    out = options.kept / name.replace(":", "").replace(" ", "_").replace(",", "")
    left = options.minutes - (time.monotonic() - began) / 60
    tuned = tune_reranker(
        model,
        data,
        template,
        out,
        settings,
        minutes=max(0.0, min(left, options.max_time)),
        fit_time=options.max_time < float("inf"),
        progress=True,
    )
    if not tuned.finished:
        return None
    return {
        "strategy": settings.strategy,
        "lists": len(data.lists),
        "steps": tuned.step,
        "best": tuned.best,
        "seconds": tuned.seconds,
        "validation": tuned.ndcg[tuned.best],
        "control": control(data, lists.test),
        "untuned": before,
        "tuned": on_test(model, data, lists.test, read_adapter(out).gate),
    }


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """nDCG@10 of test lists by row."""
    text = (
        "| row | training lists | control | untuned | tuned | tuned over untuned |\n"
        "|---|---:|---:|---:|---:|---:|\n"
    )
    for name, row in rows.items():
        gain = compare(np.array(row["tuned"]), np.array(row["untuned"]), seed=SEED)
        means = " | ".join(f"{np.mean(row[n]):.4f}" for n in ("control", "untuned", "tuned"))
        text += f"| {name} | {row['lists']:,} | {means} | {gain} |\n"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune and judge the rows; 3 if the time ran out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--limit", type=int, help="maximum users of each event")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--events", type=int, default=3, help="training events of a user")
    parser.add_argument("--set", action="append", default=[], type=setting, metavar="NAME=VALUE")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="time limit of this call, in minutes"
    )
    parser.add_argument(
        "--max-time", type=float, default=float("inf"), help="time limit of a tuning, in minutes"
    )
    parser.add_argument("--device")
    parser.add_argument("--kept", type=Path, help="folder of adapters and judged rows")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    options.kept = options.kept or KEPT / "ablate_tuning" / options.data.name
    began = time.monotonic()
    index = Index.build(
        read(options.data), TextEncoder.from_pretrained(), modalities=(), insights={}
    )
    lists = Lists.of(index, options.events, options.limit)
    about = repr(
        (
            options.model,
            options.limit,
            options.events,
            options.set,
            options.max_time,
            index.fingerprint,
        )
    )
    options.kept /= content_key(about)[:12]
    options.kept.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with ResumableLog(options.kept / "rows.jsonl") as log:
        known = {row["name"]: row for row in log.rows}
        for name in options.rows:
            before = {
                each["strategy"]: each["untuned"] for each in [*known.values(), *found.values()]
            }
            row = known.get(name) or row_of(name, lists, options, began, before)
            if row is None:
                return 3
            if name not in known:
                log.append({"name": name, **row})
            found[name] = row
    size = f"{len(lists.test)} test lists, {len(lists.validation)} validation lists"
    text = f"# Choices of a tuning: {options.data.name}\n\n{size}, {options.model}.\n\n"
    means = {
        n: {k: np.mean(v) for k, v in row.items() if k not in LABELS} for n, row in found.items()
    }
    document = {"command": command_of("ablate_tuning", arguments), "rows": means}
    write_results(f"ablate_tuning_{options.data.name}", text + table(found), document, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
