"""Seconds and memory of training a fusion, by number of items.

    python eval/benchmark_fusion.py [--items 10000 100000 1000000]

Made-up data: 2,000 users with 50 interactions each, items by a power law, texts of 384 numbers.
Each size trains one epoch in a process of its own; memory is the process's peak.
One user: encoding 200 interactions on one CPU thread. Above 32,768 items
the softmax is over 32,768 sampled ones. Writes results/benchmark_fusion.json and .md, on a
GPU benchmark_fusion_gpu.*.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from data_sets import SEED, write_results

from llmrec import Catalog
from llmrec.items import ModalityVectors
from llmrec.items.fusion import Fusion, FusionConfig
from llmrec.records import Interaction, Item, User
from llmrec.training import train_fusion
from llmrec.training.objective import SAMPLED_ABOVE

USERS, EACH, NUMBERS = 2_000, 50, 384


@dataclass(frozen=True)
class Cost:
    """What an epoch took."""

    items: int
    softmax: str
    seconds: float
    peak_mib: int
    gpu_mib: int
    user_ms: float
    """Median of encoding one user with 200 interactions, on one CPU thread."""


def user_ms(fusion: Fusion) -> float:
    """Encode a user with 200 interactions again and again, on one CPU thread."""
    torch.set_num_threads(1)
    history = np.random.default_rng(SEED).standard_normal((200, fusion.dimension), dtype=np.float32)
    rows = tuple(Interaction("user", str(row), None, 3_600 * row) for row in range(len(history)))
    taken = []
    for _ in range(100):
        started = time.perf_counter()
        fusion.user_vector(history, User("user", rows))
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken[10:]))


def cost_of(n: int) -> Cost:
    """Train one epoch on made-up data of n items."""
    rng = np.random.default_rng(SEED)
    items = {str(row): Item(str(row), f"item {row}") for row in range(n)}
    met = (n * rng.random((USERS, EACH)) ** 3).astype(int)
    rows = tuple(
        Interaction(str(user), str(item), None, 3_600 * place)
        for user, some in enumerate(met)
        for place, item in enumerate(some)
    )
    vectors = rng.standard_normal((n, NUMBERS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    text = ModalityVectors("text", "made-up@1", vectors, np.ones(n, dtype=bool))
    made = train_fusion(Catalog(items, rows), [text], {}, FusionConfig(epochs=1))
    columns = f"sampled, {SAMPLED_ABOVE:,}" if n > SAMPLED_ABOVE else "exact"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    gpu = torch.cuda.max_memory_allocated() // 2**20 if torch.cuda.is_available() else 0
    return Cost(n, columns, made.epochs[0].seconds, peak, gpu, user_ms(made.fusion))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--items", type=int, nargs="+", default=[10_000, 30_000, 100_000, 1_000_000]
    )
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    costs = []
    for n in options.items:
        started = time.perf_counter()
        with get_context("spawn").Pool(1) as pool:
            costs.append(pool.apply(cost_of, (n,)))
        print(f"{n} items: {time.perf_counter() - started:.0f} s", flush=True)
    lines = "".join(
        f"| {c.items:,} | {c.softmax} | {c.seconds:.1f} | {c.peak_mib:,} | {c.gpu_mib:,} "
        f"| {c.user_ms:.1f} |\n"
        for c in costs
    )
    command = "python eval/benchmark_fusion.py"
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} CPU threads"
    text = (
        f"# Cost of training a fusion\n\n`{command}`. {USERS * EACH:,} interactions, "
        f"{FusionConfig().dimension} dimensions, {device}.\n\n"
        "| items | softmax | seconds an epoch | peak memory (MiB) | of the GPU (MiB) "
        "| one user (ms) |\n| ---: | --- | ---: | ---: | ---: | ---: |\n"
        f"{lines}"
    )
    write_results(
        "benchmark_fusion_gpu" if on_gpu else "benchmark_fusion",
        text,
        {"command": command, "costs": [asdict(c) for c in costs]},
        options.out,
    )


if __name__ == "__main__":
    main()
