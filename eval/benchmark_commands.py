"""What the commands take on this machine: seconds of whole processes, and of loading models.

    python eval/benchmark_commands.py DATA      # DATA: the folder movielens_mm

Indexes the catalogue from scratch (an empty vector cache) and again (a full one), then recommends
from the saved index with and without the language model, and loads the model plainly and quantized,
first and second time. Single figures of one machine, for orientation. Writes
results/benchmark_commands.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from data_sets import columns_of

from llmrec import Catalog, Index, TextEncoder, TransformersModel
from llmrec.items import VectorCache
from llmrec.models import DEFAULT_LANGUAGE_MODEL

RESULTS = Path(__file__).parent / "results" / "benchmark_commands.json"


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 2)


def command(*arguments: str) -> float:
    """Wall seconds of an llmrec command, the process's start included."""
    program = [str(Path(sys.executable).with_name("llmrec")), *arguments]
    return seconds(lambda: subprocess.run(program, check=True, capture_output=True))


def main() -> None:
    """Run, print and write all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--user", default="1")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: dict[str, object] = {
        "command": "python eval/benchmark_commands.py DATA",
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "index"

        def index() -> None:
            catalog = Catalog.from_folder(options.data, columns=columns_of(options.data))
            cache = VectorCache(Path(folder) / "vectors.sqlite3")
            encoder = TextEncoder.from_pretrained(cache=cache)
            Index.build(catalog, encoder, modalities=(), insights={}, progress=True).save(saved)

        found["index, from scratch"] = seconds(index)
        found["index, nothing changed"] = seconds(index)
        found["items"] = len(Index.open(saved).items)
        found["open a saved index"] = seconds(lambda: Index.open(saved))
        ask = ("recommend", str(saved), "--user", options.user, "--json")
        found["recommend --no-llm"] = command(*ask, "--no-llm")
        found["recommend --candidates 20"] = command(*ask, "--candidates", "20")
        found["recommend --candidates 100"] = command(*ask, "--candidates", "100")
        found["recommend --candidates 100 --strategy pointwise"] = command(
            *ask, "--candidates", "100", "--strategy", "pointwise"
        )
    for quantization in ("none", "nf4", "int8"):
        for time_ in ("first", "second"):
            found[f"load, quantization {quantization}, {time_} in this run"] = seconds(
                partial(
                    TransformersModel.from_pretrained,
                    DEFAULT_LANGUAGE_MODEL,
                    device="cpu",
                    quantization=quantization,
                )
            )
    text = json.dumps(found, indent=1) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
