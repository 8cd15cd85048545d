"""Retrieval from a large index against scoring every item: latency, overlap, memory, building.

    python eval/benchmark_search.py                   # 100 thousand and a million items
    python eval/benchmark_search.py --sizes 1000000

The data are made up from a seed. Vectors of 384 numbers and length 1: n / 500 Gaussians around
random directions, the noise as long as the centre, of uneven size. Ten interactions an item, fifty
a user: a user likes three clusters, and within a cluster a few items are popular. Item texts have a
word of their cluster and three common words. The filter ``bucket=3`` keeps 5 % of the items.

Each step runs in a process of its own, on one core: building and saving (embedding left out: the
vectors are given), opening and retrieving 100 candidates for each user, and the same with every
item scored. Timings are CPU time of single calls of ``Retriever.retrieve``, which other jobs on the
machine change little; the first three calls are left out. Memory is resident memory of the process
(psutil; Linux), which counts the pages of mapped files that were read. Overlap is the share of the
100 best of scoring everything that came back. Writes results/benchmark_search.json and .md; with
--folder, steps that are done are not repeated.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from llmrec import Catalog, Index, Item
from llmrec.retrieval import Equals, Filter, Interactions, Retriever
from llmrec.retrieval.item_table import Ids

D, K, A_CLUSTER, AN_ITEM, A_USER = 384, 100, 500, 10, 50
SIZES = (100_000, 1_000_000)
RESULTS = Path(__file__).parent / "results" / "benchmark_search"
MIB = 1 << 20
WEIGHTS: dict[str, dict[str, float] | None] = {
    "default": None,
    "content and popularity": {"content": 0.3, "popularity": 0.3},
    "with keywords": {"content": 0.3, "co_occurrence": 1.0, "popularity": 0.3, "keywords": 0.3},
}
FILTERS: dict[str, list[Filter]] = {"none": [], "5 % kept": [Equals("bucket", 3)]}


class Given:
    """Vectors that were made before, as an encoder."""

    name = "given@1"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:  # noqa: ARG002
        """Return them."""
        return self.vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1."""
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def made_up(n: int, seed: int) -> tuple[Catalog, np.ndarray]:
    """A catalogue, and the vectors of its items."""
    rng = np.random.default_rng(seed)
    n_clusters = n // A_CLUSTER
    centres = unit(rng.standard_normal((n_clusters, D), dtype=np.float32))
    clusters = rng.choice(n_clusters, n, p=rng.dirichlet(np.full(n_clusters, 3.0)))
    vectors = np.empty((n, D), dtype=np.float32)
    for start in range(0, n, 1 << 16):
        some = clusters[start : start + (1 << 16)]
        noise = rng.standard_normal((len(some), D), dtype=np.float32) / np.float32(np.sqrt(D))
        vectors[start : start + len(some)] = unit(centres[some] + noise)
    words = rng.integers(0, 5_000, (n, 3))
    buckets, years = rng.integers(0, 20, n).tolist(), rng.integers(1950, 2025, n).tolist()
    items = {
        f"item-{row}": Item(
            f"item-{row}",
            f"group{cluster} " + " ".join(f"word{word}" for word in line),
            attributes={"bucket": bucket, "year": year},
        )
        for row, (cluster, line, bucket, year) in enumerate(
            zip(clusters.tolist(), words.tolist(), buckets, years, strict=True)
        )
    }
    by_cluster = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[by_cluster], np.arange(n_clusters + 1))
    n_users = n * AN_ITEM // A_USER
    users = np.repeat(np.arange(n_users, dtype=np.int32), A_USER)
    liked = rng.integers(0, n_clusters, (n_users, 3))
    chosen = liked[users, rng.integers(0, 3, len(users))]
    sizes = np.maximum(starts[chosen + 1] - starts[chosen], 1)
    places = (rng.power(0.4, len(users)) * sizes).astype(np.int64)  # the first are popular
    met = by_cluster[np.minimum(starts[chosen] + places, n - 1)].astype(np.int32)
    interactions = Interactions(
        Ids.of(f"user-{user}" for user in range(n_users)),
        Ids.of(items),
        users,
        met,
        times=np.tile(np.arange(A_USER), n_users),
    )
    return Catalog(items, interactions), vectors  # columns take the place of a tuple


def resident() -> float:
    """Resident memory of this process in MiB."""
    return float(psutil.Process().memory_info().rss / MIB)


def build(n: int, seed: int, folder: Path) -> dict[str, float]:
    """Build and save an index."""
    catalog, vectors = made_up(n, seed)
    before = resident()
    started, started_cpu = time.perf_counter(), time.process_time()
    index = Index.build(catalog, Given(vectors), modalities=(), insights={})
    index.save(folder)
    return {
        "build_and_save_seconds": time.perf_counter() - started,
        "build_and_save_cpu_seconds": time.process_time() - started_cpu,
        "data_mib": before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "files_mib": sum(path.stat().st_size for path in folder.iterdir()) / MIB,
    }


def search(folder: Path, n_users: int, seed: int, *, everything: bool) -> dict[str, Any]:
    """Open an index and retrieve for some users."""
    found: dict[str, Any] = {"imported_mib": resident()}
    started = time.perf_counter()
    index = Index.open(folder)
    found |= {"open_seconds": time.perf_counter() - started, "open_mib": resident()}
    n = len(index.items)
    drawn = np.random.default_rng(seed).permutation(n * AN_ITEM // A_USER)[: n_users + 3]
    users = [index.user(f"user-{user}") for user in drawn]
    rows = []
    for name, weights in WEIGHTS.items():
        started = time.perf_counter()
        retriever = Retriever(index, weights=weights, exact_up_to=n if everything else 0)
        made = time.perf_counter() - started
        for kept, filters in FILTERS.items():
            lists, seconds = [], []
            for user in users:
                started = time.process_time()
                best = retriever.retrieve(user, K, filters=filters)
                seconds.append(time.process_time() - started)
                lists.append({candidate.item_id: candidate.score for candidate in best})
            rows.append(
                {
                    "weights": name,
                    "filter": kept,
                    "retriever_seconds": made,
                    "first_ms": 1000 * seconds[0],
                    "p50_ms": 1000 * float(np.median(seconds[3:])),
                    "p95_ms": 1000 * float(np.percentile(seconds[3:], 95)),
                    "lists": lists[3:],
                }
            )
        found.setdefault("default_mib", resident())
    return {**found, "searched_mib": resident(), "rows": rows}


def compare(fast: dict[str, Any], every: dict[str, Any]) -> list[dict[str, Any]]:
    """Overlap and ratio of each setting."""
    rows = []
    for one, other in zip(fast["rows"], every["rows"], strict=True):
        pairs = list(zip(one.pop("lists"), other.pop("lists"), strict=False))
        shares = [len(a.keys() & b.keys()) / len(b) for a, b in pairs]
        differences = [abs(a[i] - b[i]) for a, b in pairs for i in a.keys() & b.keys()]
        rows.append(
            {
                **one,
                "everything_p50_ms": other["p50_ms"],
                "everything_p95_ms": other["p95_ms"],
                "ratio": other["p50_ms"] / one["p50_ms"],
                "overlap": float(np.mean(shares)),
                "overlap_worst_user": float(np.min(shares)),
                "largest_score_difference": float(np.max(differences)),
                "users_compared": len(pairs),
            }
        )
    return rows


def table(sizes: list[dict[str, Any]], command: str) -> str:
    """The figures as markdown."""
    lines = [
        "# Retrieval from a large index",
        "",
        "CPU time for 100 candidates a user, one core; made-up data, vectors of 384 numbers, ten",
        f"interactions an item: `{command}`",
        "",
        (
            "| items | signals | filter | p50, p95 ms | scoring everything p50, p95 ms "
            "| ratio of p50 | overlap of the 100 best, mean, worst user "
            "| largest difference of a score |"
        ),
        "|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {size['n']:,} | {row['weights']} | {row['filter']} "
        f"| {row['p50_ms']:.1f}, {row['p95_ms']:.1f} "
        f"| {row['everything_p50_ms']:.0f}, {row['everything_p95_ms']:.0f} | {row['ratio']:.1f} "
        f"| {row['overlap']:.3f}, {row['overlap_worst_user']:.2f} "
        f"| {row['largest_score_difference']:.0e} |"
        for size in sizes
        for row in size["rows"]
    ]
    lines += [
        "",
        (
            "| items | build and save s, CPU s | peak MiB | files MiB | open s "
            "| resident MiB after imports, opening, default signals, all searches "
            "| scoring everything, resident MiB |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        fast, built = size["search"], size["build"]
        memory = ("imported_mib", "open_mib", "default_mib", "searched_mib")
        lines.append(
            f"| {size['n']:,} | {built['build_and_save_seconds']:.0f}, "
            f"{built['build_and_save_cpu_seconds']:.0f} | {built['peak_mib']:.0f} "
            f"| {built['files_mib']:.0f} | {fast['open_seconds']:.2f} "
            f"| {', '.join(f'{fast[name]:.0f}' for name in memory)} "
            f"| {size['everything']['searched_mib']:.0f} |"
        )
    lines += ["", "Peak memory of building holds the made-up data, which take "]
    lines[-1] += ", ".join(f"{size['build']['data_mib']:.0f}" for size in sizes) + " MiB."
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run each step of each size in a process of its own; print and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--everything-users", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="where indexes are written, and stay")
    parser.add_argument("--step", choices=("build", "search", "everything"))
    options = parser.parse_args()
    if options.step:
        (n,) = options.sizes
        if options.step == "build":
            made: dict[str, Any] = build(n, options.seed, options.folder)
        else:
            everything = options.step == "everything"
            users = options.everything_users if everything else options.users
            made = search(options.folder, users, options.seed, everything=everything)
        print(json.dumps(made))
        return
    sizes = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in options.sizes:
            folder = (options.folder or Path(scratch)) / str(n)
            steps: dict[str, Any] = {}
            for step in ("build", "search", "everything"):
                command = [sys.executable, __file__, "--step", step, "--sizes", str(n)]
                command += ["--seed", str(options.seed), "--users", str(options.users)]
                command += ["--everything-users", str(options.everything_users)]
                command += ["--folder", str(folder)]
                kept = folder.parent / f"{n}-{step}.json"
                if not kept.exists():
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                    kept.write_bytes(done.stdout)
                steps[step] = json.loads(kept.read_bytes())
            rows = compare(steps["search"], steps["everything"])
            for step in ("search", "everything"):
                steps[step].pop("rows")
            sizes.append({"n": n, "rows": rows, **steps})
            document = {
                "command": command_of(options),
                "users": options.users,
                "seed": options.seed,
                "versions": {name: version(name) for name in ("faiss-cpu", "numpy", "pyarrow")},
                "sizes": sizes,
            }
            options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
            options.out.with_suffix(".md").write_text(table(sizes, command_of(options)))
    print(table(sizes, command_of(options)))


def command_of(options: argparse.Namespace) -> str:
    """What makes the same figures."""
    sizes = " ".join(map(str, options.sizes))
    users = f"--users {options.users} --everything-users {options.everything_users}"
    return f"python eval/benchmark_search.py --sizes {sizes} {users} --seed {options.seed}"


if __name__ == "__main__":
    main()
