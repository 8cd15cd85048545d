"""Tune a language model offline on lists that are carried to a machine with a GPU.

    python eval/train_on_gpu.py LISTS.npz --model FOLDER --out FOLDER [--minutes 8]
        [--objective next-title|list|both|pointwise|listwise] [--weights full|lora|qlora]
        [--template NAME] [--set NAME=VALUE]...

``ranking_lists.py`` makes LISTS.npz (`KEYS` there). The same command goes on where a call ended by
``--minutes`` or was killed. Test lists are never read. OUT/next-title and OUT/list hold an adapter
each: LoRA in fp16 (10 MB for SmolLM2-135M) or a plain model folder in bfloat16. Every line of
progress is JSON, on stdout and in OUT/log.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_sets import TRAINING, VALIDATION
from gated_lists import Lists, list_writer, user_before

from llmrec import TransformersModel
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Budget,
    Template,
    field_text,
    load_template,
)
from llmrec.training.packed_rows import Segment
from llmrec.training.train_reranker import tune_reranker
from llmrec.training.tuning_data import GrowingPrompt, TuningData, TuningList, windows_of
from llmrec.training.tuning_settings import TuningSettings

OBJECTIVES = ["next-title", "list", "both", "pointwise", "listwise"]
TOP = 20
"""Candidates of a validation list."""
WINDOW = 40
"""Titles of a window."""


class Log:
    """Prints metrics as JSON lines and keeps them."""

    def __init__(self, path: Path, **every: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every, self.began = path, every, time.monotonic()
        self.sum, self.steps = 0.0, 0

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Print every tenth step and every validation; the loss is the mean since the last."""
        given = dict(metrics)
        if "loss" in given:
            self.sum, self.steps = self.sum + given["loss"], self.steps + 1
        if step % 10 and "validation/ndcg@10" not in given:
            return
        if self.steps:
            given["loss"], self.sum, self.steps = self.sum / self.steps, 0.0, 0
        self.line(step=step, **given)

    def line(self, **values: Any) -> None:  # noqa: ANN401
        """Print and keep one line."""
        plain = {n: round(v, 5) if isinstance(v, float) else v for n, v in values.items()}
        seconds = round(time.monotonic() - self.began, 1)
        text = json.dumps({**self.every, **plain, "at": seconds}, default=str)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def close(self) -> None:
        """Nothing is open."""


def tuning_data(
    lists: Lists, model: TransformersModel, template: Template, options: argparse.Namespace
) -> TuningData:
    """Turn the lists into tokens: no test list is read."""
    drawn = np.random.default_rng(options.seed)
    windows: Iterable[Segment] = ()
    if options.objective in {"next-title", "both"}:
        most = Budget().title
        titles = [field_text(name, most, model) or "?" for name in lists["titles"]]
        sequences = [lists["train_items"][a:b] for a, b in pairwise(lists["train_starts"])]
        growing = GrowingPrompt.of(template, model, WINDOW)
        windows = windows_of(sequences, titles, model.reader, growing, size=WINDOW)

    def some(part: int, top: int, most: int | None) -> list[TuningList]:
        wanted = lists["part"] == part
        wanted &= (lists["candidates"][:, :top] == lists["target"][:, None]).any(axis=1)
        made = []
        for row in drawn.permutation(np.flatnonzero(wanted))[:most]:
            known = np.isfinite(lists["scores"][row])
            items = lists["candidates"][row][known].astype(np.int64)
            entry = TuningList(
                user_before(lists, row),
                items,
                lists["scores"][row][known].astype(np.float64),
                int(np.flatnonzero(items == lists["target"][row])[0]),
            )
            made.append(entry.top(top) if top < entry.items.size else entry)
        return [entry for entry in made if entry is not None]

    return TuningData(
        template.strategy,
        list_writer(lists, template, model),
        lists["popularity"].astype(np.int64),
        list(windows),
        some(TRAINING, lists["candidates"].shape[1], options.lists),
        some(VALIDATION, TOP, options.validation),
        sha256("\0".join(lists["titles"]).encode()).hexdigest(),
    )


def setting(text: str) -> tuple[str, Any]:
    """One NAME=VALUE, the value as JSON or text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune by one or both objectives; 3 if the time ran out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("--model", required=True, help="folder or reference of the base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="time limit of this call, in minutes"
    )
    parser.add_argument("--objective", choices=OBJECTIVES, default="both")
    parser.add_argument("--weights", choices=["full", "lora", "qlora"], default="full")
    parser.add_argument("--template", help="likelihood/list, or the strategy's default")
    parser.add_argument("--set", action="append", default=[], type=setting, metavar="NAME=VALUE")
    parser.add_argument("--next-epochs", type=int, default=4)
    parser.add_argument("--list-epochs", type=int, default=3)
    parser.add_argument("--lists", dest="most", type=int, help="training lists at most")
    parser.add_argument("--validation", type=int, default=1500, help="validation lists at most")
    parser.add_argument("--start", type=Path, help="adapter to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with np.load(options.lists, allow_pickle=False) as file:
        lists: Lists = {name: file[name] for name in file.files}
    lists["titles"] = json.loads(lists["titles"].tobytes())
    options.lists = options.most
    usual = DEFAULT_TEMPLATES.get(options.objective, "likelihood/list")
    template = load_template(options.template or usual)
    start = options.start
    stages = ["next-title", "list"] if options.objective == "both" else [options.objective]
    data = None
    for objective in stages:
        out = options.out / objective
        log = Log(options.out / "log.jsonl", objective=objective)
        model = TransformersModel.from_pretrained(
            options.model,
            device=options.device,
            dtype="float32",
            quantization="nf4" if options.weights == "qlora" else "none",
        )
        data = data or tuning_data(lists, model, template, options)
        epochs = options.next_epochs if objective == "next-title" else options.list_epochs
        named = {"objective": objective, "weights": options.weights, "epochs": epochs}
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in options.set}
        settings = TuningSettings(**{**named, "seed": options.seed, **given})
        log.line(
            model=f"{model.name}@{model.revision}",
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            windows=len(data.windows),
            window_tokens=sum(map(len, data.windows)),
            lists=len(data.lists),
            validation=len(data.validation),
            settings=asdict(settings),
        )
        left = options.minutes - (time.monotonic() - began) / 60
        tuned = tune_reranker(
            model, data, template, out, settings, start=start, minutes=left, tracker=log
        )
        log.line(**asdict(tuned))
        if not tuned.finished:
            return 3
        start = out
        del model
    return 0


if __name__ == "__main__":
    sys.exit(main())
