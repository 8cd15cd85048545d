"""Lists a second under gradients: shared histories beside a padded batch of whole prompts.

    python eval/benchmark_tuning.py [--model REF] [--lists 2] [--candidates 20] [--rounds 3]

A list is a history of 20 titles and its candidates, of random tokens: 300 and 15 a title. Both ways
are one forward and one backward pass of the same loss; rounds alternate. Without --model, a random
llama of 25M parameters. Writes results/benchmark_tuning.md and .json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from data_sets import command_of, write_results
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llmrec import TransformersModel
from llmrec.training.packed_rows import Segment, gradient_difference, segment_scores

HISTORY, TITLE = 300, 15


def loaded(ref: str | None) -> tuple[str, PreTrainedModel]:
    """The model to train, in fp32."""
    if ref is not None:
        model = TransformersModel.from_pretrained(ref, dtype="float32")
        return f"{model.name}@{model.revision}", model.model
    config = AutoConfig.for_model(
        "llama", vocab_size=8192, hidden_size=512, intermediate_size=1024, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    return "a random llama of 25M parameters", AutoModelForCausalLM.from_config(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--lists", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    name, model = loaded(options.model)
    model.requires_grad_(requires_grad=True)
    vocabulary = model.config.get_text_config().vocab_size
    draw = np.random.default_rng(0)

    def some(size: int) -> np.ndarray:
        return draw.integers(0, vocabulary, size, dtype=np.int32)

    lists = [
        Segment(some(HISTORY), tuple(some(TITLE) for _ in range(options.candidates)))
        for _ in range(options.lists)
    ]
    apart = gradient_difference(model)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.rounds):
        for whole, seconds in taken.items():
            began = time.perf_counter()
            for entry in lists:
                (scores,) = segment_scores(model, [[entry]], whole=whole)
                (-scores.log_softmax(0)[0]).backward()
            model.zero_grad()
            seconds.append(time.perf_counter() - began)
    rates = {whole: len(lists) / statistics.median(seconds) for whole, seconds in taken.items()}
    ratio = rates[False] / rates[True]
    command = command_of("benchmark_tuning", arguments)
    text = (
        f"# Lists a second under gradients\n\n`{command}`: {name}, "
        f"{options.candidates} candidates, {torch.get_num_threads()} threads. Median of "
        f"{options.rounds} rounds.\n\n| way | lists a second |\n|---|---:|\n"
        f"| padded batch of whole prompts | {rates[True]:.3f} |\n"
        f"| history once, block mask | {rates[False]:.3f} |\n\n"
        f"Ratio {ratio:.1f}. Gradients differ by {apart:.1e} (relative).\n"
    )
    document = {
        "command": command,
        "model": name,
        "lists_a_second": {"padded": rates[True], "shared": rates[False]},
        "ratio": ratio,
        "gradient_difference": apart,
        "seconds": {"padded": taken[True], "shared": taken[False]},
    }
    write_results("benchmark_tuning", text, document, options.out)


if __name__ == "__main__":
    main()
