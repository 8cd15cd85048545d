"""Check a machine with a GPU against the estimates of docs/cost-on-gpu.md.

    python eval/gpu_check.py                                        # Qwen3-4B-Instruct in NF4
    python eval/gpu_check.py --model SmolLM2-135M-Instruct --quantization none   # small, on a CPU

Prompts of 300 shared and 60 own tokens, 20 and 100 of them, go through the prefix tree: tokens a
second, and the share of this machine's own matrix rate that is (measured here, in products of the
model's sizes); the peak of memory beside the paper's; and log-odds beside those of whole prompts.
Prints PASS or FAIL for each against the tolerances below and ends with 1 where one failed. Writes
results/gpu_check_DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from benchmark_engine import OWN, SHARED, by_tree, prompts
from gpu_paper import GPUS, Shape, seconds, shared_and_own

from llmrec import TransformersModel

RESULTS = Path(__file__).parent / "results"
MODEL = "Qwen/Qwen3-4B-Instruct-2507"
SHARE = {"cpu": 0.5, "cuda": 0.3, "mps": 0.2}
"""Least share of the matrix rate at 100 candidates; at 20, launches weigh more: half of it."""
SLOWER = 1.25
"""Times the paper's slow figure that a GPU it names may take."""
MEMORY = 1.3
"""Times the paper's memory that the peak on a GPU may be."""
APART = {"float32": 1e-3, "bfloat16": 0.3, "float16": 0.1}
"""Largest difference of log-odds to whole prompts: half precision rounds by shape."""


def synchronized(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, with all that it started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def matrix_rate(shape: Shape, rows: int, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP a second of dense products as wide as the model's largest."""
    a = torch.randn(rows, shape.hidden_size, device=device, dtype=dtype)
    b = torch.randn(shape.hidden_size, shape.intermediate_size, device=device, dtype=dtype)
    times = 200 if device.type == "cuda" else 10

    def work() -> None:
        for _ in range(times):
            torch.matmul(a, b)

    work()
    taken = statistics.median(synchronized(work, device) for _ in range(3))
    return 2 * rows * shape.hidden_size * shape.intermediate_size * times / taken


def peak_bytes(device: torch.device) -> int:
    """The highest use of memory so far: of the GPU, or now of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def whole(model: TransformersModel, tokens: list[list[int]], yes: int, no: int) -> np.ndarray:
    """Log-odds of prompts forwarded one by one."""
    found = []
    with torch.inference_mode():
        for row in tokens:
            ids = torch.tensor([row], device=model.model.device)
            logits = model.model(input_ids=ids, logits_to_keep=1, use_cache=False).logits[0, -1]
            found.append(float(logits[yes].double() - logits[no].double()))
    return np.array(found)


def check(model: TransformersModel, n: int, rounds: int) -> dict[str, float | str]:
    """Everything for one number of candidates."""
    shape, device = Shape.of(model.model.config), model.model.device
    held, computed = model.placement.quantization, model.placement.dtype
    tokens = [model.encode(text) for text in prompts(model, n)]
    yes, no = model.encode("Yes")[0], model.encode("No")[0]
    paper = shared_and_own(SHARED, OWN, n)
    odds: list[np.ndarray] = []

    def work() -> None:
        odds.append(by_tree(model, tokens, yes, no))

    if device.type != "cpu":  # the first call loads kernels
        work()
    taken = statistics.median(synchronized(work, device) for _ in range(rounds))
    rows = int(min(model.max_rows, paper.tokens))
    rate = matrix_rate(shape, rows, device, getattr(torch, computed))
    some = slice(0, 5)
    apart = np.abs(odds[-1][some] - whole(model, tokens[some], yes, no))
    weights = computed if held == "none" else held
    return {
        "candidates": n,
        "tokens": paper.tokens,
        "seconds": taken,
        "tokens_a_second": paper.tokens / taken,
        "flop_a_second": shape.flops(paper) / taken,
        "matrix_flop_a_second": rate,
        "share": shape.flops(paper) / taken / rate,
        "peak_gb": peak_bytes(device) / 1e9,
        # Weights, keys and values, and what a layer and the projection hold of the rows at once.
        "paper_gb": (
            shape.weight_bytes(weights, computed)
            + shape.cache_bytes(computed) * (SHARED + OWN + rows)
            + rows * 4 * shape.intermediate_size * 4
            + n * shape.vocab_size * 8
        )
        / 1e9,
        "largest_difference_to_whole_prompts": float(apart.max()),
    }


def verdicts(found: dict[str, float | str], model: TransformersModel) -> dict[str, str]:
    """PASS or FAIL of each figure, with what was expected."""
    device, n = model.model.device.type, float(found["candidates"])
    least = SHARE[device] * (1 if n >= 100 else 0.5)
    most = APART[model.placement.dtype]
    lines = {
        "share of the matrix rate": (float(found["share"]), float(found["share"]) >= least, least),
        "difference to whole prompts": (
            float(found["largest_difference_to_whole_prompts"]),
            float(found["largest_difference_to_whole_prompts"]) <= most,
            most,
        ),
    }
    if device == "cuda":
        peak, bound = float(found["peak_gb"]), MEMORY * float(found["paper_gb"])
        lines["peak of memory, GB"] = (peak, peak <= bound, bound)
        shape, card = Shape.of(model.model.config), torch.cuda.get_device_name()
        for gpu in GPUS:
            if gpu.card in card:
                held = model.placement.quantization
                work = shared_and_own(SHARED, OWN, int(n))
                slow = seconds(shape, work, gpu, "bfloat16" if held == "none" else held)[1]
                taken = float(found["seconds"])
                lines[f"seconds, {gpu.name}"] = (taken, taken <= SLOWER * slow, SLOWER * slow)
    return {
        name: f"{'PASS' if passed else 'FAIL'}: {value:.3g}, expected {bound:.3g}"
        for name, (value, passed, bound) in lines.items()
    }


def main() -> int:
    """Run, print and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--quantization", default="nf4", choices=["none", "nf4", "int8"])
    parser.add_argument("--device")
    parser.add_argument("--candidates", type=int, nargs="*", default=[20, 100])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = TransformersModel.from_pretrained(
        options.model, device=options.device, quantization=options.quantization, progress=True
    )
    device = model.model.device
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    lists: list[dict[str, Any]] = []
    for n in options.candidates:
        found = check(model, n, options.rounds)
        judged = verdicts(found, model)
        lists.append({**found, "verdicts": judged})
        sys.stdout.write(
            f"{n} candidates: {found['tokens_a_second']:,.0f} tokens a second, "
            f"{found['seconds']:.3g} s, peak {found['peak_gb']:.2f} GB\n"
        )
        for what, verdict in judged.items():
            sys.stdout.write(f"  {verdict} ({what})\n")
    document = {
        "command": "python eval/gpu_check.py " + " ".join(sys.argv[1:]),
        "model": f"{model.name}@{model.revision}",
        "device": name,
        "dtype": model.placement.dtype,
        "threads": torch.get_num_threads(),
        "versions": {p: version(p) for p in ("torch", "transformers", "bitsandbytes")},
        "lists": lists,
    }
    (RESULTS / f"gpu_check_{device.type}.json").write_text(json.dumps(document, indent=1) + "\n")
    failed = any(v.startswith("FAIL") for entry in lists for v in entry["verdicts"].values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
