"""The vector store at 10 thousand, 100 thousand and a million vectors: speed, recall, memory.

    python eval/benchmark_search.py

Vectors of 384 numbers and length 1 come from a seed: 2,000 Gaussians around directions on the
sphere, of uneven size, the noise as long as the centre, so that two vectors of one cluster have a
cosine near one half. Queries are new draws from the same clusters. The best 100 are searched
exactly and through the inverted lists; with a filter that keeps 5 % and 20 % of the vectors at
random; and with one that keeps the clusters that the query is not of. Seconds and recall are of
single queries, one after the other; the exact search of the same run is what recall and ratios
refer to. Each size runs in a process of its own: building is timed, the store saved, opened by
memory map, and searched. The first searches of each are not timed: files are in the page cache.
Memory is resident memory (Linux). Writes results/benchmark_search.json, .md and .svg.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import psutil
from matplotlib.figure import Figure
from plot_results import BLUE, GREY
from tqdm import tqdm

from llmrec.retrieval.vectors import VectorStore

D, CLUSTERS, K = 384, 2_000, 100
SIZES = (10_000, 100_000, 1_000_000)
RESULTS = Path(__file__).parent / "results" / "benchmark_search.json"
MIB = 1 << 20


def clustered(
    n: int, n_queries: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors float32 [n, D], queries, and the cluster of each of both."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((CLUSTERS, D), dtype=np.float32))
    weights = rng.dirichlet(np.ones(CLUSTERS))
    clusters = rng.choice(CLUSTERS, n + n_queries, p=weights)
    vectors = np.empty((n + n_queries, D), dtype=np.float32)
    for start in range(0, n + n_queries, 1 << 16):
        some = clusters[start : start + (1 << 16)]
        noise = rng.standard_normal((len(some), D), dtype=np.float32) / np.float32(np.sqrt(D))
        vectors[start : start + len(some)] = unit(centres[some] + noise)
    return vectors[:n], vectors[n:], clusters[:n], clusters[n:]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1."""
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def resident() -> float:
    """Resident memory of this process in MiB."""
    return float(psutil.Process().memory_info().rss / MIB)


def peak() -> float:
    """Highest resident memory of this process so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(
    store: VectorStore, queries: np.ndarray, masks: list[np.ndarray | None]
) -> tuple[list[set[int]], list[float]]:
    """Rows found for each query alone, and seconds of each."""
    found, seconds = [], []
    for query, mask in zip(tqdm(queries, "queries", disable=None), masks, strict=True):
        started = time.perf_counter()
        rows, _ = store.search(query[None], K, allowed=mask)
        seconds.append(time.perf_counter() - started)
        found.append(set(rows[0].tolist()) - {-1})
    return found, seconds


def compare(
    name: str,
    exact: VectorStore,
    lists: VectorStore,
    queries: np.ndarray,
    masks: list[np.ndarray | None],
) -> dict[str, float | str]:
    """Recall and times of the lists against exact search under the same masks."""
    right, exact_seconds = timed(exact, queries, masks)
    found, seconds = timed(lists, queries, masks)
    shares = [len(a & b) / max(len(a), 1) for a, b in zip(right, found, strict=True)]
    return {
        "filter": name,
        "recall": float(np.mean(shares)),
        "exact_p50_ms": 1000 * float(np.median(exact_seconds)),
        "exact_p95_ms": 1000 * float(np.percentile(exact_seconds, 95)),
        "lists_p50_ms": 1000 * float(np.median(seconds)),
        "lists_p95_ms": 1000 * float(np.percentile(seconds, 95)),
        "p50_ratio": float(np.median(exact_seconds) / np.median(seconds)),
    }


def measure(n: int, n_queries: int, seed: int) -> dict[str, object]:
    """All figures of one size."""
    vectors, queries, clusters, query_clusters = clustered(n, n_queries, seed)
    ids = [f"item-{number}" for number in range(n)]
    rng = np.random.default_rng(seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        before = resident()
        started = time.perf_counter()
        built = VectorStore.of(ids, vectors, exact_below=0).prepare(progress=True)
        build_seconds = time.perf_counter() - started
        built_mib, peak_mib = resident() - before, peak()
        started = time.perf_counter()
        built.save(folder)
        save_seconds = time.perf_counter() - started
        del built, vectors
        before = resident()
        started = time.perf_counter()
        lists = VectorStore.open(folder, exact_below=0)
        open_seconds = time.perf_counter() - started
        opened_mib = resident() - before
        exact = VectorStore.open(folder, exact_below=n)
        for store in (exact, lists):
            store.search(queries[:2], K)
        # Exactly the share: under one that keeps a little less than 5 %, lists are not used.
        order = rng.permutation(n)
        random = {share: order < share * n for share in (0.2, 0.05)}
        others: list[np.ndarray | None] = [clusters != own for own in query_clusters]
        rows = [
            compare("none", exact, lists, queries, [None] * len(queries)),
            *(
                compare(f"{share:.0%} kept", exact, lists, queries, [mask] * len(queries))
                for share, mask in random.items()
            ),
            compare("the query's own cluster left out", exact, lists, queries, others),
        ]
        started = time.perf_counter()
        changed = lists.put(["new", *ids[:999]], queries[rng.choice(len(queries), 1000)])
        changed = changed.delete(ids[-1000:])
        change_seconds = time.perf_counter() - started
        names = {path.name for path in Path(folder).iterdir()}
        started = time.perf_counter()
        changed.save(folder)
        change_save_seconds = time.perf_counter() - started
        written = sum(p.stat().st_size for p in Path(folder).iterdir() if p.name not in names)
        files = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "n": n,
        "build_seconds": build_seconds,
        "build_mib_beside_the_vectors": built_mib,
        "build_peak_mib": peak_mib,
        "save_seconds": save_seconds,
        "files_mib": files / MIB,
        "open_seconds": open_seconds,
        "open_mib": opened_mib,
        "change_2000_seconds": change_seconds,
        "change_2000_save_seconds": change_save_seconds,
        "change_2000_written_mib": written / MIB,
        "searches": rows,
    }


def table(sizes: list[dict[str, Any]]) -> str:
    """The figures as markdown."""
    lines = [
        "Clustered vectors x 384, the best 100, single queries: `python eval/benchmark_search.py`",
        "",
        "| vectors | filter | recall@100 | exact p50, p95 ms | lists p50, p95 ms | exact / lists |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {size['n']:,} | {row['filter']} | {row['recall']:.3f} "
        f"| {row['exact_p50_ms']:.2f}, {row['exact_p95_ms']:.2f} "
        f"| {row['lists_p50_ms']:.2f}, {row['lists_p95_ms']:.2f} | {row['p50_ratio']:.1f} |"
        for size in sizes
        for row in size["searches"]
    ]
    lines += [
        "",
        (
            "| vectors | build s | beside the vectors MiB | peak MiB | files MiB | open s, MiB "
            "| change 2,000 s, save s, MiB written |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {size['n']:,} | {size['build_seconds']:.1f} "
        f"| {size['build_mib_beside_the_vectors']:.0f} | {size['build_peak_mib']:.0f} "
        f"| {size['files_mib']:.0f} | {size['open_seconds']:.2f}, {size['open_mib']:.0f} "
        f"| {size['change_2000_seconds']:.2f}, {size['change_2000_save_seconds']:.2f}, "
        f"{size['change_2000_written_mib']:.1f} |"
        for size in sizes
    ]
    return "\n".join(lines) + "\n"


def plot(sizes: list[dict[str, Any]]) -> Figure:
    """Milliseconds and recall over the number of vectors."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    times, recalls = figure.subplots(1, 2)
    n = [size["n"] for size in sizes]
    for place, (name, style) in enumerate(
        {"none": "-", "5% kept": "--", "the query's own cluster left out": ":"}.items()
    ):
        rows = [next(r for r in size["searches"] if r["filter"] == name) for size in sizes]
        if not place:
            times.plot(n, [r["exact_p50_ms"] for r in rows], "o-", color=GREY)
        label = f"lists, filter: {name}"
        times.plot(n, [r["lists_p50_ms"] for r in rows], f"o{style}", color=BLUE, label=label)
        recalls.plot(n, [r["recall"] for r in rows], f"o{style}", color=BLUE, label=label)
    times.set_yscale("log")
    times.set_ylabel("median milliseconds a query")
    recalls.set_ylabel(f"recall@{K}")
    recalls.set_ylim(0.9, 1.005)
    recalls.plot([], [], "o-", color=GREY, label="exact search")
    recalls.legend(frameon=False, fontsize=7, loc="lower left")
    for axes in (times, recalls):
        axes.set_xscale("log")
        axes.set_xlabel("vectors")
        axes.grid(color="#e3e5e8")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Measure each size in a process of its own; print and write all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, help="measure one size and print it as JSON")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.size:
        print(json.dumps(measure(options.size, options.queries, options.seed)))
        return
    sizes = []
    for size in options.sizes:
        command = [sys.executable, __file__, "--size", str(size)]
        command += ["--queries", str(options.queries), "--seed", str(options.seed)]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        sizes.append(json.loads(ended.stdout))
        document = {
            "command": "python eval/benchmark_search.py",
            "queries": options.queries,
            "seed": options.seed,
            "versions": {name: version(name) for name in ("faiss-cpu", "numpy")},
            "sizes": sizes,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2) + "\n")
        options.out.with_suffix(".md").write_text(table(sizes))
    mpl.rcParams["svg.hashsalt"] = "llmrec"
    plot(sizes).savefig(options.out.with_suffix(".svg"), metadata={"Date": None})
    print(table(sizes))


if __name__ == "__main__":
    main()
