"""Seconds of commands on this machine: whole processes, and loading models.

    python eval/benchmark_commands.py DATA      # DATA: the folder movielens_mm

Indexes the catalogue from scratch (an empty vector cache) and again (a full one), recommends from
the saved index with and without the language model, reranks one user's 20 titles without an index,
beside a process that only loads the same model with transformers, and loads the model plainly and
quantized, first and second time. Single figures of one machine, for orientation. Writes
results/benchmark_commands.json and .md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from data_sets import read, write_results

from llmrec import Index, TextEncoder, TransformersModel
from llmrec.items import VectorCache
from llmrec.models import DEFAULT_LANGUAGE_MODEL, resolve_model


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 2)


def command(*arguments: str) -> float:
    """Wall seconds of an llmrec command, the process's start included."""
    program = [str(Path(sys.executable).with_name("llmrec")), *arguments]
    return seconds(lambda: subprocess.run(program, check=True, capture_output=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print and write all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--user", default="1")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "index"

        def index() -> None:
            catalog = read(options.data)
            cache = VectorCache(Path(folder) / "vectors.sqlite3")
            encoder = TextEncoder.from_pretrained(cache=cache)
            Index.build(catalog, encoder, modalities=(), insights={}, progress=True).save(saved)

        found["index, from scratch"] = seconds(index)
        found["index, nothing changed"] = seconds(index)
        found["open a saved index"] = seconds(lambda: Index.open(saved))
        ask = ("recommend", str(saved), "--user", options.user, "--json")
        found["recommend --no-llm"] = command(*ask, "--no-llm")
        for words in (
            "--n-candidates 20",
            "--n-candidates 100",
            "--n-candidates 100 --strategy pointwise",
        ):
            found[f"recommend {words}"] = command(*ask, "--model", options.model, *words.split())
        names = [item.name for item in Index.open(saved).items.values()][:25]
        requests = Path(folder) / "requests.jsonl"
        row = {"user_id": "u", "history": names[20:], "candidates": names[:20]}
        requests.write_text(json.dumps(row) + "\n", encoding="utf-8")
        out = ("--out", str(Path(folder) / "results.jsonl"), "--model", options.model)
        found["rerank, one user, 20 titles"] = command("rerank", "--requests", str(requests), *out)
        alone = "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; "
        alone += "AutoTokenizer.from_pretrained(sys.argv[1]); "
        alone += "AutoModelForCausalLM.from_pretrained(sys.argv[1])"
        program = [sys.executable, "-c", alone, str(resolve_model(options.model).path)]
        found["transformers alone: loads the same model and ends"] = seconds(
            lambda: subprocess.run(program, check=True, capture_output=True)
        )
    for quantization in ("none", "nf4", "int8"):
        for time_ in ("first", "second"):
            found[f"load, quantization {quantization}, {time_} in this run"] = seconds(
                partial(
                    TransformersModel.from_pretrained,
                    options.model,
                    device="cpu",
                    quantization=quantization,
                )
            )
    text = "# Seconds of commands\n\n`python eval/benchmark_commands.py DATA`\n\n"
    text += "| command | seconds |\n|---|---:|\n"
    text += "".join(f"| {name} | {value:.2f} |\n" for name, value in found.items())
    about = {
        "command": "python eval/benchmark_commands.py DATA",
        "items": len(read(options.data).items),
    }
    document = {**about, "threads": torch.get_num_threads(), "seconds": found}
    write_results("benchmark_commands", text, document, options.out)


if __name__ == "__main__":
    main()
