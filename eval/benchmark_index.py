"""What indexing every modality costs, by stage: seconds and peak memory, first and again.

    python eval/benchmark_index.py DATA         # DATA: the folder movielens_mm

Two processes, one after the other: the first finds empty caches, the second nothing changed. A
stage's seconds hold the loading of its model; its memory is the process's peak while it ran. The
fusion is one that was trained for an epoch beforehand: training is no part of indexing. Writes
results/benchmark_index.json and .md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data_sets import read

from llmrec import Index, TextEncoder
from llmrec.content_cache import ContentCache
from llmrec.items import (
    ModalityVectors,
    PictureEncoder,
    VectorCache,
    caption_pictures,
    embed_pictures,
    embed_reviews,
    item_text,
    load_captioner,
    understand_reviews,
)
from llmrec.items.fusion import Fusion, FusionConfig
from llmrec.models.hardware import peak_mib, reset_peak_memory
from llmrec.training import train_fusion

RESULTS = Path(__file__).parent / "results" / "benchmark_index"


class Stages:
    """Seconds and peak MiB by stage."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the stage makes
        """Run a stage and return what it makes."""
        reset_peak_memory()  # each stage has its own
        started = time.perf_counter()
        made = work()
        seconds = time.perf_counter() - started
        peak = peak_mib()
        self.found[name] = {
            "seconds": round(seconds, 2),
            "peak_mib": math.nan if peak is None else round(peak),
        }
        return made


def index(data: Path, scratch: Path) -> dict[str, dict[str, float]]:
    """Index once, stage by stage."""
    stages = Stages()
    catalog = stages.run("reading", lambda: read(data))
    items, item_ids = list(catalog.items.values()), list(catalog.items)
    vectors = VectorCache(scratch / "vectors.sqlite3")
    insights = ContentCache(scratch / "insights.sqlite3")
    encoder = stages.run("text encoder", lambda: TextEncoder.from_pretrained(cache=vectors))
    texts = [item_text(item) for item in items]
    rows = stages.run("text", lambda: encoder.encode(texts))
    text = ModalityVectors("text", encoder.name, rows, rows.any(axis=1))
    stages.run(
        "opinions of reviews",
        lambda: understand_reviews(catalog.reviews, catalog.items, encoder, cache=insights),
    )
    reviews = stages.run("reviews", lambda: embed_reviews(catalog.reviews, item_ids, encoder))
    paths = [data / item.image if item.image else None for item in items]
    pictures = stages.run(
        "pictures", lambda: embed_pictures(PictureEncoder.from_pretrained(cache=vectors), paths)
    )
    stages.run("captions", lambda: caption_pictures(load_captioner(), items, data, cache=insights))
    modalities = [text, reviews, pictures]
    fused = scratch / "fusion"
    if not fused.exists():
        train_fusion(catalog, modalities, {}, FusionConfig(epochs=1)).fusion.save(fused)
    stages.run("fusion", lambda: Fusion.open(fused).item_vectors(modalities, item_ids))
    made = Index.build(
        catalog, encoder, modalities=modalities, insights={}, fusion=Fusion.open(fused)
    )
    stages.run("saving", lambda: made.save(scratch / "index"))
    return stages.found


def main() -> None:
    """Run both processes, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, help="index once into this folder and print JSON")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.scratch:
        sys.stdout.write(json.dumps(index(options.data, options.scratch)))
        return
    runs = {}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, str(options.data), "--scratch", scratch]
        for name in ("first", "again"):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            stages = json.loads(done.stdout)
            total = {
                "seconds": round(sum(stage["seconds"] for stage in stages.values()), 2),
                "peak_mib": max(stage["peak_mib"] for stage in stages.values()),
            }
            process = round(time.perf_counter() - started, 2)
            runs[name] = {"stages": stages, "total": total, "process_seconds": process}
    share = runs["again"]["total"]["seconds"] / runs["first"]["total"]["seconds"]
    document = {
        "command": "python eval/benchmark_index.py DATA",
        "dataset": options.data.name,
        "threads": torch.get_num_threads(),
        "share": round(share, 4),
        **runs,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    text = table(runs, share)
    options.out.with_suffix(".md").write_text(text)
    sys.stdout.write(text)


def table(runs: dict[str, Any], share: float) -> str:
    """The stages as markdown."""
    lines = ["# Indexing every modality of MovieLens", "", "`python eval/benchmark_index.py DATA`"]
    lines += ["", "| stage | first, s | peak MiB | again, s | peak MiB |"]
    lines += ["|---|---:|---:|---:|---:|"]
    first, again = ({**run["stages"], "together": run["total"]} for run in runs.values())
    lines += [
        f"| {name} | {stage['seconds']} | {stage['peak_mib']} "
        f"| {again[name]['seconds']} | {again[name]['peak_mib']} |"
        for name, stage in first.items()
    ]
    lines += ["", f"The second run takes {share:.1%} of the first."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
