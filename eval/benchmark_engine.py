"""Speed, exactness and memory of the prefix tree against whole prompts, as ratios of one run.

    python eval/benchmark_engine.py

Prompts of 300 shared and 60 own tokens, 20 and 100 of them, are scored for Yes and No by
- the prefix tree (llmrec's own path),
- a plain padded batch of whole prompts: last-position logits only, sorted by length, in batches of
  whichever of several sizes was fastest in a trial of the same run,
- sentence-transformers' CrossEncoder with LogitScore on the same model and the same text, with that
  same batch size,
and a dense prefill of as many tokens as the tree has, in rows of 60, gives the practical limit. The
ways take turns, and each ratio is of medians. Memory is the peak, after loading, of a fresh process
that scores 20, and of one that scores 2,000, candidates (Linux only). Writes
results/benchmark_engine.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore, Transformer
from tqdm import tqdm

from llmrec import TransformersModel
from llmrec.models import DEFAULT_LANGUAGE_MODEL, ScoredSequence, resolve_model
from llmrec.models.hardware import peak_mib, reset_peak_memory
from llmrec.models.prefix_scoring import score_sequences

SHARED, OWN = 300, 60
RESULTS = Path(__file__).parent / "results" / "benchmark_engine.json"
Scores = NDArray[np.float64]
Tokens = NDArray[np.int32]


def prompts(model: TransformersModel, candidates: int) -> list[str]:
    """Texts of exactly SHARED + OWN tokens, the first SHARED the same in all."""
    words = []
    for token in range(1000, 20_000):
        text = str(model.tokenizer.decode([token]))
        if text[1:].isalpha() and text.startswith(" ") and text.isascii():
            words.append(text)
    rng = np.random.default_rng(0)
    shared = "".join(rng.choice(words, SHARED))
    made = [shared + "".join(rng.choice(words, OWN)) for _ in range(candidates)]
    lengths = {len(model.encode(text)) for text in made}
    if lengths != {SHARED + OWN}:
        raise SystemExit(f"prompts have {lengths} tokens where {SHARED + OWN} were meant")
    return made


def encoded(model: TransformersModel, text: str) -> Tokens:
    """A text's tokens."""
    return np.asarray(model.encode(text), dtype=np.int32)


def sequences_of(tokens: Sequence[Tokens], yes: int, no: int) -> list[ScoredSequence]:
    """Prompts followed by either label, as arrays, which is how llmrec passes them on."""
    return [ScoredSequence(np.append(t, np.int32(yes)), len(t), (no,)) for t in tokens]


def by_tree(model: TransformersModel, tokens: Sequence[Tokens], yes: int, no: int) -> Scores:
    """Log-odds through llmrec's engine."""
    answers = model.log_probs(sequences_of(tokens, yes, no))
    table = np.stack(answers.values)
    odds: Scores = table[:, 0] - table[:, 1]
    return odds


def by_batches(
    model: TransformersModel, tokens: Sequence[Tokens], yes: int, no: int, size: int
) -> Scores:
    """Log-odds by plain forwards of whole prompts, last-position logits only."""
    tokens = sorted(tokens, key=len)  # all of one length here; part of the peer's best practice
    parts = []
    with torch.inference_mode():
        for start in range(0, len(tokens), size):
            ids = torch.from_numpy(np.stack(tokens[start : start + size]).astype(np.int64))
            logits = model.model(input_ids=ids, logits_to_keep=1, use_cache=False).logits[:, -1]
            parts.append((logits[:, yes] - logits[:, no]).double().numpy())
    return np.concatenate(parts)


def dense_prefill(model: TransformersModel, rows: int) -> None:
    """As many tokens as the tree has, in independent rows of OWN tokens."""
    ids = torch.from_numpy(np.random.default_rng(1).integers(1000, 20_000, (rows, OWN)))
    with torch.inference_mode():
        model.model(input_ids=ids, logits_to_keep=1, use_cache=False)


def cross_encoder(
    folder: Path,
    yes: int,
    no: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> CrossEncoder:
    """sentence-transformers' own way to score with a causal model."""
    transformer = Transformer(
        str(folder),
        transformer_task="text-generation",
        model_kwargs={"dtype": dtype},
        processor_kwargs={"local_files_only": True},
    )
    # The same text for both: a pair's two halves one after the other, and nothing around them.
    transformer.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    modules = [transformer, LogitScore(yes, no)]
    encoder: CrossEncoder = CrossEncoder(modules=modules, device=str(device))
    return encoder


def timed(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; they take turns, so that all see the machine's ups and downs."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(rounds), desc="rounds", disable=None):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(
    model: TransformersModel, folder: Path, candidates: int, rounds: int
) -> dict[str, float]:
    """All ways on one list of candidates."""
    texts = prompts(model, candidates)
    tokens = [encoded(model, text) for text in texts]
    yes, no = model.encode("Yes")[0], model.encode("No")[0]
    with torch.inference_mode():
        passed = score_sequences(
            model.model, sequences_of(tokens, yes, no), max_rows=model.max_rows
        )
    nodes = passed.rows
    sizes = {str(n): partial(by_batches, model, tokens[:20], yes, no, n) for n in (1, 4, 10, 20)}
    trial = timed(sizes, 1)
    size = int(min(trial, key=lambda name: trial[name]))
    encoder = cross_encoder(folder, yes, no)
    split = [(text[: len(texts[0]) // 2], text[len(texts[0]) // 2 :]) for text in texts]

    def peer() -> Scores:
        odds: Scores = encoder.predict(
            split, batch_size=size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return odds

    plain = by_batches(model, tokens, yes, no, size)
    seconds = timed(
        {
            "tree": partial(by_tree, model, tokens, yes, no),
            "dense": partial(dense_prefill, model, nodes // OWN),
            "plain": partial(by_batches, model, tokens, yes, no, size),
            "cross_encoder": peer,
        },
        rounds,
    )
    whole = candidates * (SHARED + OWN)
    ratio = whole / nodes
    return {
        "candidates": candidates,
        "tokens_whole": whole,
        "tokens_forwarded": nodes,
        "tree_nodes_expected": SHARED + candidates * OWN,
        "token_ratio": ratio,
        "batch_size_of_peers": size,
        "largest_difference_to_whole_prompts": float(
            np.abs(by_tree(model, tokens, yes, no) - plain).max()
        ),
        "largest_difference_to_cross_encoder": float(np.abs(plain - peer()).max()),
        **{f"seconds_{name}": value for name, value in seconds.items()},
        "speedup_over_plain": seconds["plain"] / seconds["tree"],
        "speedup_over_plain_of_token_ratio": seconds["plain"] / seconds["tree"] / ratio,
        "speedup_over_cross_encoder": seconds["cross_encoder"] / seconds["tree"],
        "speedup_over_cross_encoder_of_token_ratio": seconds["cross_encoder"]
        / seconds["tree"]
        / ratio,
        "time_over_dense_prefill": seconds["tree"] / seconds["dense"],
    }


def peak_memory(candidates: int) -> float:
    """Peak MiB, while scoring, of a fresh process that scores so many candidates."""
    command = [sys.executable, __file__, "--only-score", str(candidates)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Run, print and write all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--rounds", type=int, default=5, help="rounds with 20 candidates")
    parser.add_argument("--candidates", type=int, nargs="*", default=[20, 100])
    parser.add_argument("--memory", type=int, nargs=2, default=[20, 2000])
    parser.add_argument("--only-score", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    model = TransformersModel.from_pretrained(options.model, device="cpu")
    if options.only_score:
        tokens = [encoded(model, text) for text in prompts(model, options.only_score)]
        reset_peak_memory()  # that of loading
        by_tree(model, tokens, 5, 6)
        sys.stdout.write(f"{peak_mib() or math.nan:.1f}\n")
        return
    folder = resolve_model(options.model).path
    document: dict[str, object] = {
        "command": "python eval/benchmark_engine.py",
        "model": f"{model.name}@{model.revision}",
        "dtype": model.placement.dtype,
        "threads": torch.get_num_threads(),
        "versions": {n: version(n) for n in ("torch", "transformers", "sentence-transformers")},
        "lists": [
            compare(model, folder, n, max(1, options.rounds * 20 // n)) for n in options.candidates
        ],
    }
    few, many = map(peak_memory, options.memory)
    document["memory"] = {
        "candidates": options.memory,
        "peak_mib": [few, many],
        "ratio": many / few,
    }
    text = json.dumps(document, indent=1) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
