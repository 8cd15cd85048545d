"""Quality, seconds and memory of quantized weights and of fewer layers on a CPU.

    OMP_NUM_THREADS=1 python eval/quantization.py DATA      # DATA: movielens_mm

The likelihood strategy on discrimination lists (the target and 19 random unseen items), every way
on the same users: nDCG@10 paired with float32, how alike the two order each list, memory, and
seconds. Seconds are those of one core's work (process time), which others on the machine hardly
touch; ratios are of the same lists, the ways taking turns. Memory and loading are measured in fresh
processes, the first with an empty cache (Linux only). A killed run resumes. Writes
results/quantization.json and .md.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_engine import by_tree, encoded, prompts
from candidate_lists import Asked, discrimination, judgement, rank_metrics, score_key, thinned
from data_sets import KEPT, Kept, kept_in, load, read
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr
from tqdm import tqdm

from llmrec import Reranker, Retriever, TransformersModel
from llmrec.evaluation import compare_rows, estimate, markdown_table, target_ranks
from llmrec.models import DEFAULT_LANGUAGE_MODEL, resolve_model
from llmrec.models.hardware import peak_mib, reset_peak_memory

RESULTS = Path(__file__).parent / "results"
SEED = 0
MOST = 60
"""Lists there are to ask about, in a shuffled order: fewer are a random draw of them."""


@dataclass(frozen=True)
class Way:
    """How the model is loaded."""

    name: str
    quantization: str = "none"
    skip: int = 0

    def load(self, ref: str) -> TransformersModel:
        """Load it on the CPU."""
        return TransformersModel.from_pretrained(
            ref, device="cpu", quantization=self.quantization, skip_last_layers=self.skip
        )


FULL = Way("float32")
WAYS = (
    FULL,
    Way("NF4", "nf4"),
    Way("int8", "int8"),
    Way("without the last 2 layers", skip=2),
    Way("without the last 4 layers", skip=4),
)


def ask(kept: Kept, reranker: Reranker, retriever: Retriever, asked: Asked) -> Mapping[str, Any]:
    """Scores in the order of the list, and seconds of work; asked where not in the log."""

    def make() -> dict[str, Any]:
        started = time.process_time()
        scores = judgement(reranker, retriever, asked).scores.tolist()
        return {"scores": scores, "seconds": time.process_time() - started}

    return kept(score_key(reranker, asked), make)


def measure(name: str, ref: str) -> None:
    """In a process of its own: seconds of loading, MiB of weights, peak MiB while scoring."""
    way = next(way for way in WAYS if way.name == name)
    started = time.process_time()
    model = way.load(ref)
    seconds = time.process_time() - started
    tokens = [encoded(model, text) for text in prompts(model, 10)]
    gc.collect()
    reset_peak_memory()  # that of loading
    by_tree(model, tokens, 5, 6)
    found = {
        "load_seconds": seconds,
        "weights_mib": model.model.get_memory_footprint() / 2**20,
        "peak_mib": peak_mib() or math.nan,
    }
    sys.stdout.write(json.dumps(found) + "\n")


def machine_costs(ref: str) -> dict[str, dict[str, float]]:
    """`measure` of every way; of quantized ones again with what their first start kept."""
    found = {}
    folder = str(resolve_model(ref).path)
    with tempfile.TemporaryDirectory() as cache:
        for way in tqdm(WAYS, desc="memory and loading", disable=None):
            command = [sys.executable, __file__, folder, "--only-measure", way.name]
            runs = [
                json.loads(
                    subprocess.run(
                        command,
                        check=True,
                        stdout=subprocess.PIPE,
                        text=True,
                        env={**os.environ, "LLMREC_CACHE": cache},
                    ).stdout
                )
                for _ in range(1 if way.quantization == "none" else 2)
            ]
            found[way.name] = {**runs[-1], "first_load_seconds": runs[0]["load_seconds"]}
    return found


def ask_all(
    folder: Path, ref: str, users: int
) -> tuple[list[Asked], dict[str, list[Mapping[str, Any]]]]:
    """Every way's scores of the lists."""
    data = load(read(folder))
    retriever = Retriever(data.index, weights={"content": 1.0})
    lists = thinned(discrimination(data), MOST)
    lists = [lists[place] for place in np.random.default_rng(SEED).permutation(MOST)[:users]]
    rerankers = [Reranker(way.load(ref), data.index, strategy="likelihood") for way in WAYS]
    found: dict[str, list[Mapping[str, Any]]] = {way.name: [] for way in WAYS}
    with kept_in(KEPT / "quantization.jsonl") as kept:
        for entry in tqdm(lists, desc="lists", disable=None):
            for way, reranker in zip(WAYS, rerankers, strict=True):
                found[way.name].append(ask(kept, reranker, retriever, entry))
    return lists, found


def alike(ours: NDArray[np.float64], full: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """How alike two ways order each list, means over users with 95 % intervals."""
    pairs = list(zip(ours, full, strict=True))
    values = {
        "spearman": [float(spearmanr(a, b).statistic) for a, b in pairs],
        "kendall": [float(kendalltau(a, b).statistic) for a, b in pairs],
        "same first": [float(a.argmax() == b.argmax()) for a, b in pairs],
    }
    return {name: asdict(estimate(some, seed=SEED)) for name, some in values.items()}


def report(
    lists: Sequence[Asked],
    found: dict[str, list[Mapping[str, Any]]],
    costs: dict[str, dict[str, float]],
) -> tuple[str, dict[str, object]]:
    """Tables, and what they were made of."""
    scores = {name: np.array([entry["scores"] for entry in some]) for name, some in found.items()}
    targets = np.array([entry.target for entry in lists])
    metrics = {
        name: rank_metrics(target_ranks(some, targets, seed=SEED)) for name, some in scores.items()
    }
    rows = compare_rows(metrics, [(way.name, FULL.name) for way in WAYS[1:]], seed=SEED)
    heads = "| way | Spearman | Kendall | same first | time | weights MiB | peak MiB "
    lines = [heads + "| load s: first | again |", "|---|" + "---:|" * 8]
    document: dict[str, object] = {}
    for name, some in scores.items():
        order = alike(some, scores[FULL.name])
        seconds, full = (
            np.array([entry["seconds"] for entry in found[which]]) for which in (name, FULL.name)
        )
        ratio = float(np.median(seconds / full))
        document[name] = {"alike": order, "time": ratio, **costs[name]}
        means = " | ".join(f"{order[key]['mean']:.3f}" for key in order)
        cost = costs[name]
        lines.append(
            f"| {name} | {means} | {ratio:.2f} | {cost['weights_mib']:.0f} "
            f"| {cost['peak_mib']:.0f} | {cost['first_load_seconds']:.1f} "
            f"| {cost['load_seconds']:.1f} |"
        )
    text = markdown_table(rows) + "\n" + "\n".join(lines) + "\n"
    return text, {"rows": [asdict(row) for row in rows], "ways": document}


def main() -> None:
    """Run, print and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="the data; with --only-measure, the model")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--users", type=int, default=MOST, help=f"{MOST} at most")
    parser.add_argument("--only-measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_measure:
        measure(options.only_measure, str(options.data))
        return
    lists, found = ask_all(options.data, options.model, options.users)
    costs = machine_costs(options.model)
    text, document = report(lists, found, costs)
    command = (
        f"OMP_NUM_THREADS=1 python eval/quantization.py {options.data.name} --users {options.users}"
    )
    heading = (
        f"# Fewer bits, fewer layers\n\n`{command}`, {options.model}, likelihood, "
        f"{torch.get_num_threads()} thread. nDCG@10 and MRR with 95 % intervals, differences "
        "paired by user; p as found and corrected by Holm over a table. The last table: order of "
        "each list beside float32's, median ratio of seconds on the same lists, memory (peak: of "
        "the whole process while it scores 10 prompts of 360 tokens), and seconds of one core's "
        "work to load with an empty cache and again.\n\n"
    )
    about = {"command": command, "model": options.model, "threads": torch.get_num_threads()}
    (RESULTS / "quantization.md").write_text(heading + text)
    (RESULTS / "quantization.json").write_text(
        json.dumps({"about": about, **document}, indent=1) + "\n"
    )
    sys.stdout.write(heading + text)


if __name__ == "__main__":
    main()
