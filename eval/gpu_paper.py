"""Estimated cost of reranking on a GPU: tokens are counted, the rest is arithmetic.

    python eval/gpu_paper.py DATA      # DATA: movielens_mm; writes results/gpu_paper.json and .md

Tokens are those of real prompts of users with 20 and 100 candidates, counted in the prefix tree
with the tokenizer of SmolLM2; nothing is forwarded. docs/cost-on-gpu.md says what the arithmetic
assumes, and eval/gpu_check.py measures against it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PretrainedConfig

from llmrec.models import DEFAULT_LANGUAGE_MODEL, LogProbs, ScoredSequence, TransformersModel
from llmrec.models.prefix_tree import PrefixTree
from llmrec.records import Usage

RESULTS = Path(__file__).parent / "results"
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in NF4: 4 bits, one byte a block of 64, and four bytes for 256 of those bytes."""
WEIGHT_BYTES = {"nf4": NF4_BYTES, "int8": 1.0, "bfloat16": 2.0, "float16": 2.0, "float32": 4.0}


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, by the names of transformers' configurations."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool

    @classmethod
    def of(cls, config: PretrainedConfig) -> Shape:
        """Read a configuration; a head is as wide as its share where nothing is said."""
        values: dict[str, Any] = {f.name: getattr(config, f.name, None) for f in fields(cls)}
        values["head_dim"] = values["head_dim"] or config.hidden_size // config.num_attention_heads
        return cls(**values)

    @property
    def block_weights(self) -> int:
        """Weights of all layers' matrices."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def embeddings(self) -> int:
        """Weights of the embeddings, and of the projection to the vocabulary where it is apart."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    def weight_bytes(self, held: str, computed: str) -> float:
        """Bytes of all weights; embeddings and projection are never quantized."""
        return self.block_weights * WEIGHT_BYTES[held] + self.embeddings * WEIGHT_BYTES[computed]

    def cache_bytes(self, computed: str) -> float:
        """Bytes of keys and values a token."""
        one = self.num_key_value_heads * self.head_dim * WEIGHT_BYTES[computed]
        return 2 * self.num_hidden_layers * one

    def flops(self, work: Work) -> float:
        """Multiplications and additions: matrices, attention, vocabulary."""
        attention = 4 * self.num_hidden_layers * self.num_attention_heads * self.head_dim
        vocabulary = 2 * self.hidden_size * self.vocab_size
        matrices = 2 * self.block_weights * work.tokens
        return matrices + attention * work.pairs + vocabulary * work.scored


@dataclass(frozen=True)
class Work:
    """Tokens forwarded, (query, key) pairs attended, rows projected to the vocabulary, calls."""

    tokens: float
    pairs: float
    scored: float
    forwards: float = 1

    @classmethod
    def of(cls, sequences: Sequence[ScoredSequence]) -> Work:
        """What the prefix tree of sequences takes."""
        tree = PrefixTree.of(sequences)
        return cls(len(tree), int((tree.depths + 1).sum()), len(np.unique(tree.score_rows)))


QWEN3_4B = Shape(36, 2560, 32, 8, 128, 9728, 151_936, tie_word_embeddings=True)


@dataclass(frozen=True)
class Gpu:
    """Peak dense bfloat16 rate with fp32 sums, and memory bandwidth, as their makers state them.

    ``card`` stands in the name that torch gives.
    """

    name: str
    card: str
    flops: float
    bandwidth: float
    memory: float


GPUS = (
    Gpu("RTX 4090, 24 GB", "4090", 165e12, 1.01e12, 24e9),
    Gpu("A100, 80 GB", "A100", 312e12, 2.04e12, 80e9),
    Gpu("H100 SXM, 80 GB", "H100", 989e12, 3.35e12, 80e9),
)
MFU = (0.3, 0.5)
"""Share of the peak rate that matrix products of some thousand rows reach."""
LAUNCHES = 0.03
"""Seconds that Python and some 2,500 kernel launches take a forward, whatever its size."""


def seconds(shape: Shape, work: Work, gpu: Gpu, held: str = "nf4") -> tuple[float, float]:
    """Expected seconds, fast and slow.

    Quantized weights are read, written as bfloat16 and read again, once a forward. Launches
    overlap with computing: only what they take longer counts.
    """
    unpack = 0.0
    if held != "bfloat16":
        unpack = shape.block_weights * (WEIGHT_BYTES[held] + 4) / gpu.bandwidth * work.forwards
    slow, fast = (shape.flops(work) / (gpu.flops * share) + unpack for share in MFU)
    return max(fast, LAUNCHES * work.forwards), max(slow, LAUNCHES * work.forwards)


@dataclass(frozen=True)
class Counting(TransformersModel):
    """Counts the tree of every call and answers 0."""

    seen: list[Work] = field(default_factory=list)

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Nothing is forwarded."""
        self.seen.append(Work.of(sequences))
        sizes = [len(s.tokens) - s.start + len(s.alternatives) for s in sequences]
        return LogProbs(tuple(np.zeros(size) for size in sizes), Usage())


def count(folder: Path, users: int) -> dict[str, Work]:
    """Mean work a user of each strategy with 20 and with 100 candidates."""
    from candidate_lists import discrimination, retriever_of, thinned  # noqa: PLC0415
    from data_sets import load, read  # noqa: PLC0415 - the arithmetic needs no data

    from llmrec import Reranker  # noqa: PLC0415

    data = load(read(folder))
    retriever = retriever_of(data)
    plain = TransformersModel.from_pretrained(DEFAULT_LANGUAGE_MODEL, device="cpu")
    known = {f.name: getattr(plain, f.name) for f in fields(plain)}
    found = {}
    for strategy in ("pointwise", "likelihood", "listwise"):
        for n in (20, 100):
            total = np.zeros(4)
            for asked in thinned(discrimination(data), users):
                model = Counting(**known)
                candidates = retriever.retrieve(asked.user, n)
                Reranker(model, data.index, strategy=strategy).judge(asked.user, candidates)
                for work in model.seen:
                    total += [work.tokens, work.pairs, work.scored, 1]
            found[f"{strategy}, {n}"] = Work(*(total / users).round(1).tolist())
    return found


def shared_and_own(shared: int, own: int, n: int) -> Work:
    """So many prompts, each of so many shared and own tokens, one place scored in each."""
    pairs = shared * (shared + 1) / 2 + n * (own * shared + own * (own + 1) / 2)
    return Work(shared + n * own, pairs, n)


def tables(works: dict[str, Work]) -> str:
    """Work and expected seconds of Qwen3-4B in NF4 as markdown."""
    heads = " | ".join(gpu.name for gpu in GPUS)
    lines = [
        f"| asked | tokens | pairs, 1000s | projected | calls | TFLOP | {heads} |",
        "|---|" + "---:|" * (5 + len(GPUS)),
    ]
    for name, work in works.items():
        cells = []
        for gpu in GPUS:
            ends = dict.fromkeys(f"{1000 * s:,.0f}" for s in seconds(QWEN3_4B, work, gpu))
            cells.append(f"{' to '.join(ends)} ms")
        lines.append(
            f"| {name} | {work.tokens:,.0f} | {work.pairs / 1000:,.0f} | {work.scored:,.0f} "
            f"| {work.forwards:.1f} | {QWEN3_4B.flops(work) / 1e12:.1f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--users", type=int, default=20)
    options = parser.parse_args()
    works = {f"300 + 60 tokens, {n}": shared_and_own(300, 60, n) for n in (20, 100)}
    works |= count(options.data, options.users)
    command = f"python eval/gpu_paper.py {options.data.name} --users {options.users}"
    text = (
        f"# Qwen3-4B in NF4 on paper\n\n`{command}`: mean tokens a user of MovieLens prompts, by "
        "strategy and candidates. Nothing here was measured on a GPU.\n\n" + tables(works)
    )
    document = {
        "command": command,
        "weights_gb": {h: QWEN3_4B.weight_bytes(h, "bfloat16") / 1e9 for h in ("nf4", "bfloat16")},
        "cache_kib_a_token": QWEN3_4B.cache_bytes("bfloat16") / 1024,
        "work": {
            name: {**vars(work), "tflop": QWEN3_4B.flops(work) / 1e12}
            for name, work in works.items()
        },
    }
    (RESULTS / "gpu_paper.md").write_text(text)
    (RESULTS / "gpu_paper.json").write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
