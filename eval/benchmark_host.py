"""What the host takes for a file of requests: all but the model's forward passes.

    python eval/benchmark_host.py [--users 436] [--rounds 3]

Users with 20 earlier items and 20 candidates are read from a file, their prompts written and
tokenized, the prefix tree and its attention planned as for a GPU, and the rankings written to a
file. The model answers with zeros. A GPU that forwards faster than this waits for the host. Titles
are made up and differ: none is tokenized before. Writes results/benchmark_host.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from data_sets import write_results
from gpu_check import requests

from llmrec import Reranker
from llmrec.models import DEFAULT_LANGUAGE_MODEL, LogProbs, ScoredSequence
from llmrec.models.prefix_tree import PrefixTree
from llmrec.models.transformers_model import TransformersModel
from llmrec.models.tree_attention import TreeAttention
from llmrec.records import Usage
from llmrec.reranking.driver import window_of
from llmrec.reranking.request_files import rank_file

STRATEGIES = ("likelihood", "pointwise", "listwise")


@dataclass(frozen=True)
class PlannedOnly(TransformersModel):
    """A model that plans its forward passes and makes none."""

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Zeros."""
        if not sequences:
            return LogProbs((), Usage())
        tree = PrefixTree.of(sequences)
        for chunk in tree.chunks(self.max_rows):
            TreeAttention.of(tree, chunk, "cuda")
        values = tuple(np.zeros(n) for n in tree.counts)
        return LogProbs(values, Usage(tree.given, len(tree), 0, 1))


def users_a_second(model: TransformersModel, strategy: str, users: int) -> float:
    """The rate of a file of requests, with nothing tokenized before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests.jsonl"
        asked = [json.dumps(one) + "\n" for one in requests(users)]
        file.write_text("".join(asked), encoding="utf-8")
        reranker = Reranker(replace(model), strategy=strategy)
        began = time.perf_counter()
        out = Path(folder) / "results.jsonl"
        rank_file(file, out, reranker.rank_many, window=window_of(model))
        return users / (time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--users", type=int, default=436)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    loaded = TransformersModel.from_pretrained(options.model, device="cpu")
    model = PlannedOnly(**{**vars(loaded), "max_rows": 32_768})
    found = {
        strategy: [users_a_second(model, strategy, options.users) for _ in range(options.rounds)]
        for strategy in STRATEGIES
    }
    text = "# Users a second without the forward passes\n\n`python eval/benchmark_host.py`: "
    text += f"20 candidates, {os.cpu_count()} cores, median of {options.rounds} rounds.\n\n"
    text += "| strategy | users a second |\n|---|---:|\n"
    for strategy, rates in found.items():
        text += f"| {strategy} | {statistics.median(rates):.0f} |\n"
    document = {"command": "python eval/benchmark_host.py", "users_a_second": found}
    write_results("benchmark_host", text, document, options.out)


if __name__ == "__main__":
    main()
