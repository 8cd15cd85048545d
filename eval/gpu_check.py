"""Speed, memory and exactness of the engine on one accelerator, with its peers in the same run.

    python eval/gpu_check.py --model FOLDER --out RESULTS     # offline, some minutes
    python eval/gpu_check.py --only likelihood tau            # some rows
    python eval/gpu_check.py --small --device cpu             # all rows, tiny: does it run?

FOLDER is a small causal language model (SmolLM2-135M-Instruct); the model of Qwen3-4B's shape has
random weights. Prompts are made up. Each row is printed, and written to RESULTS/gpu_check.json, as
soon as it is there; a row that fails holds its error. Rates are rows of the tree per second, and
their ratio to the best dense prefill (whole rows of 64 or 256 tokens) of the same model.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from data_sets import command_of
from gpu_paper import QWEN3_4B, Shape, shared_and_own
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import nn
from transformers import AttentionInterface, AutoModelForCausalLM, Qwen3Config

from llmrec.models import (
    DEFAULT_LANGUAGE_MODEL,
    ScoredSequence,
    TransformersModel,
    resolve_model,
    tree_attention,
)
from llmrec.models.hardware import peak_mib, reset_peak_memory
from llmrec.models.prefix_scoring import LOGITS, input_device
from llmrec.models.prefix_tree import PrefixTree
from llmrec.models.transformers_model import rows_at_once
from llmrec.models.tree_attention import TreeAttention
from llmrec.records import Prompt

Found = dict[str, Any]
SHARED, OWN = 300, 60


@dataclass(frozen=True)
class Size:
    """How much a check measures."""

    users: int = 64
    candidates: int = 100
    prefill: tuple[int, ...] = (8192, 32_768)
    lists: int = 200
    file: int = 512
    whole: tuple[int, ...] = (16, 64, 256)
    rounds: int = 3


SMALL = Size(4, 6, (512,), 4, 8, (2, 4), 1)


@dataclass
class Check:
    """The models, and what was measured so far."""

    folder: str
    device: str | None
    size: Size
    rates: dict[str, float] = field(default_factory=dict)

    @cached_property
    def model(self) -> TransformersModel:
        """The small model."""
        return TransformersModel.from_pretrained(self.folder, device=self.device)

    def dense(self, model: TransformersModel) -> float:
        """Tokens a second of the best dense prefill of a model, measured once."""
        if model.name not in self.rates:
            self.rates[model.name] = max(prefill(model, self.size).values())
        return self.rates[model.name]


def wait() -> None:
    """Until the device has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], object], rounds: int, *, warm: bool = True) -> float:
    """Median seconds of a call, after one that loads kernels."""
    if warm:
        work()
    seconds = []
    for _ in range(rounds):
        wait()
        started = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def prefill(model: TransformersModel, size: Size) -> dict[str, float]:
    """Tokens a second of whole rows, without padding, projecting their last positions."""
    found = {}
    vocabulary = model.model.config.get_text_config().vocab_size
    for total in size.prefill:
        for width in (64, 256):
            ids = torch.randint(0, vocabulary, (total // width, width))
            ids = ids.to(input_device(model.model))
            work = torch.inference_mode()(
                partial(model.model, input_ids=ids, logits_to_keep=1, use_cache=False)
            )
            found[f"{total} tokens in rows of {width}"] = total / timed(work, size.rounds)
    return found


def likelihood(vocabulary: int, users: int, candidates: int, seed: int = 0) -> list[ScoredSequence]:
    """An instruction, each user's history, and titles: some 460 tokens for 20 candidates."""
    rng = np.random.default_rng(seed)

    def some(n: int) -> NDArray[np.int32]:
        return rng.integers(0, vocabulary, n, dtype=np.int32)

    instruction = some(20)
    made = []
    for _ in range(users):
        prompt = np.concatenate([instruction, some(int(rng.integers(180, 320)))])
        for _ in range(candidates):
            title = some(int(rng.integers(4, 17)))
            made.append(ScoredSequence(np.concatenate([prompt, title]), len(prompt)))
    return made


def labels(vocabulary: int, users: int, candidates: int) -> list[ScoredSequence]:
    """Prompts of SHARED and OWN tokens, each followed by one of two labels."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(users):
        shared = rng.integers(0, vocabulary, SHARED, dtype=np.int32)
        for _ in range(candidates):
            own = rng.integers(0, vocabulary, OWN + 1, dtype=np.int32)
            made.append(ScoredSequence(np.concatenate([shared, own]), SHARED + OWN, (5,)))
    return made


def scored(check: Check, model: TransformersModel, sequences: Sequence[ScoredSequence]) -> Found:
    """Rate of the tree over dense prefill, with what planning takes on the host."""
    dense = check.dense(model)
    usage = model.log_probs(sequences).usage
    reset_peak_memory()
    seconds = timed(partial(model.log_probs, sequences), check.size.rounds)
    started = time.perf_counter()
    tree = PrefixTree.of(sequences)
    built = time.perf_counter()
    for chunk in tree.chunks(model.max_rows):
        TreeAttention.of(tree, chunk, "cuda")
    planned = time.perf_counter()
    return {
        "rows": usage.tokens_forwarded,
        "tokens_whole": sum(len(sequence.tokens) - 1 for sequence in sequences),
        "forwards": usage.forwards,
        "seconds": seconds,
        "rows_a_second": usage.tokens_forwarded / seconds,
        "dense_tokens_a_second": dense,
        "ratio_to_dense": usage.tokens_forwarded / seconds / dense,
        "seconds_building_the_tree": built - started,
        "seconds_planning_chunks": planned - built,
        "peak_mib": peak_mib(),
    }


def likelihood_rows(check: Check) -> Found:
    """64, 8 and 1 users of 20 candidates, titles scored."""
    found = {}
    for users in (check.size.users, 8, 1):
        sequences = likelihood(check.model.model.config.vocab_size, users, 20)
        found[f"{users} users x 20"] = scored(check, check.model, sequences)
    return found


def label_rows(check: Check) -> Found:
    """Prompts of 300 + 60 tokens: 8 users of 100 candidates, one of 100 and of 20."""
    found = {}
    for users, n in ((8, check.size.candidates), (1, check.size.candidates), (1, 20)):
        sequences = labels(check.model.model.config.vocab_size, users, n)
        found[f"{users} users x {n}"] = scored(check, check.model, sequences)
    return found


def whole_prompts(check: Check) -> Found:
    """Batches of whole prompts and sentence-transformers' CrossEncoder, 8 users of 20."""
    from benchmark_engine import cross_encoder  # noqa: PLC0415 - other rows need no peer

    model, rounds = check.model, check.size.rounds
    texts = [made_up_prompt(user, item) for user in range(8) for item in range(20)]
    sequences = []
    for text in texts:
        tokens = model.encode(text)
        sequences.append(ScoredSequence((*tokens, 5), len(tokens), (6,)))
    usage = model.log_probs(sequences).usage
    ratio = usage.tokens_given / usage.tokens_forwarded
    tree = timed(partial(model.log_probs, sequences), rounds)
    batches = {n: timed(partial(padded, model, sequences, n), rounds) for n in check.size.whole}
    encoder = cross_encoder(
        resolve_model(check.folder).path, 5, 6, model.model.device, model.model.dtype
    )
    pairs = [(text[:40], text[40:]) for text in texts]
    peer = {
        n: timed(
            partial(encoder.predict, pairs, batch_size=n, show_progress_bar=False),
            rounds,
        )
        for n in check.size.whole
    }
    return {
        "token_ratio": ratio,
        "seconds_tree": tree,
        "seconds_padded": batches,
        "seconds_cross_encoder": peer,
        "speedup_over_padded_of_token_ratio": min(batches.values()) / tree / ratio,
        "speedup_over_cross_encoder_of_token_ratio": min(peer.values()) / tree / ratio,
    }


def padded(
    model: TransformersModel, sequences: Sequence[ScoredSequence], size: int
) -> NDArray[np.float64]:
    """Log-odds of the two labels by padded batches, sorted by length, last positions projected."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].tokens))
    odds = np.empty(len(sequences))
    for start in range(0, len(order), size):
        some = order[start : start + size]
        rows = [torch.tensor(sequences[i].tokens[:-1]) for i in some]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones_like(row) for row in rows], batch_first=True, padding_side="left"
        )
        with torch.inference_mode():
            logits = model.model(
                input_ids=ids.to(model.model.device),
                attention_mask=mask.to(model.model.device),
                position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(model.model.device),
                logits_to_keep=1,
                use_cache=False,
            ).logits[:, -1]
        odds[some] = (logits[:, 5] - logits[:, 6]).double().cpu().numpy()
    return odds


WORDS = (
    "red blue river mountain glass night empire silver running shoes tent merino trail coffee "
    "maker lamp story garden return king winter summer fast dark moon city dream last first"
)


def title(number: int) -> str:
    """The made-up title of an item."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS.split(), int(rng.integers(2, 7)))).title() + f" {number}"


def made_up_prompt(user: int, item: int) -> str:
    """A long prompt about one candidate of one user."""
    liked = "\n".join(f"- {title(1000 * user + i)}" for i in range(30))
    about = " ".join(title(100_000 + 10 * item + i) for i in range(6))
    return f"Somebody liked these items:\n{liked}\nWould they like {about}? Answer Yes or No:"


def requests(users: int, seed: int = 0) -> list[Found]:
    """Users with 20 earlier items and 20 candidates of a catalogue of 5,000."""
    rng = np.random.default_rng(seed)
    made = []
    for user in range(users):
        items = [title(int(i)) for i in rng.choice(5000, 40, replace=False)]
        made.append({"user_id": f"{user}", "history": items[:20], "candidates": items[20:]})
    return made


def requests_file(check: Check) -> Found:
    """Users a second from a file of requests, in one go and one user at a time."""
    from llmrec import Reranker  # noqa: PLC0415 - other rows need the engine alone
    from llmrec.reranking.driver import window_of  # noqa: PLC0415
    from llmrec.reranking.request_files import rank_file  # noqa: PLC0415

    model = check.model
    found: Found = {"window": window_of(model), "max_rows": model.max_rows}
    for strategy in ("likelihood", "pointwise"):
        asked = requests(check.size.file)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "requests.jsonl"
            file.write_text("".join(json.dumps(one) + "\n" for one in asked))
            for name in ("warm", "again"):  # a second run finds texts tokenized
                reranker = Reranker(model if name == "again" else replace(model), strategy=strategy)
                reranker.rank_many(asked[:2])
                started = time.perf_counter()
                rank_file(
                    file,
                    Path(folder) / f"{name}.jsonl",
                    reranker.rank_many,
                    window=window_of(model),
                )
                seconds = time.perf_counter() - started
                found[f"{strategy}, {name}: users a second"] = len(asked) / seconds
        few = asked[:16]
        reranker = Reranker(model, strategy=strategy)
        started = time.perf_counter()
        for one in few:
            reranker.rank_many([one])
        alone = time.perf_counter() - started
        found[f"{strategy}: users a second, one at a time"] = len(few) / alone
    return found


def qwen_shape(size: Size) -> Qwen3Config:
    """The configuration of Qwen3-4B, or a tiny one of its family."""
    if size is SMALL:
        shape = replace(
            QWEN3_4B, num_hidden_layers=2, hidden_size=32, intermediate_size=48, vocab_size=97
        )
    else:
        shape = QWEN3_4B
    return Qwen3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=True,
        max_position_embeddings=40_960,
    )


def large(check: Check, quantization: str) -> Found:
    """Labels through a random model of Qwen3-4B's shape, 8 users of 20 and one of 20 and 100."""
    device = check.model.model.device
    dtype = check.model.model.dtype
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(
            qwen_shape(check.size), attn_implementation=tree_attention.NAME, dtype=dtype
        ).eval()
    if quantization == "nf4":
        in_nf4(made.model.layers, dtype)
    name = f"Qwen3-4B's shape, {quantization}"
    rows = rows_at_once(made, check.model.placement.device)
    model = replace(check.model, model=made, name=name, max_rows=rows)
    found: Found = {"max_rows": rows}
    for users, n in ((8, 20), (1, 20), (1, check.size.candidates)):
        sequences = labels(made.config.vocab_size, users, n)
        row = scored(check, model, sequences)
        shape, rows = Shape.of(made.config), row["rows"]
        weights = shape.weight_bytes("nf4" if quantization == "nf4" else "bfloat16", "bfloat16")
        chunk = min(rows, model.max_rows)
        row["weights_gb_on_paper"] = weights / 1e9
        row["peak_gb_on_paper"] = (
            weights
            + shape.cache_bytes("bfloat16") * (SHARED + OWN)
            + chunk * 2 * (3 * shape.intermediate_size + 8 * shape.hidden_size)
            + min(users * n, LOGITS // shape.vocab_size) * shape.vocab_size * 6
        ) / 1e9
        work = shared_and_own(SHARED, OWN, n)
        row["tflop_a_second"] = shape.flops(work) * users / row["seconds"] / 1e12
        found[f"{users} users x {n}"] = row
    return found


def in_nf4(layers: nn.Module, dtype: torch.dtype) -> None:
    """Replace the linear layers by bitsandbytes' NF4 ones."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit  # noqa: PLC0415 - not everywhere

    layer: Callable[..., nn.Module] = Linear4bit
    for parent in list(layers.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                four = layer(
                    child.in_features,
                    child.out_features,
                    bias=False,
                    compute_dtype=dtype,
                    quant_type="nf4",
                )
                four.weight = Params4bit(
                    child.weight.data.cpu(), requires_grad=False, quant_type="nf4"
                )
                setattr(parent, name, four.to(child.weight.device))


def tau(check: Check) -> Found:
    """Kendall's tau between orders of 20 candidates: bf16 tree, bf16 whole prompts, fp32 tree."""
    model = check.model
    exact = TransformersModel.from_pretrained(check.folder, device=check.device, dtype="float32")
    sequences: list[list[ScoredSequence]] = []
    for asked in requests(check.size.lists, seed=1):
        history = "\n".join(f"- {one}" for one in asked["history"])
        prompt = model.encode(f"Items that one person chose, oldest first:\n{history}\n-")
        tails = [model.encode(f" {one}\n") for one in asked["candidates"]]
        sequences.append([ScoredSequence((*prompt, *t), len(prompt)) for t in tails])

    def totals(found: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.array([values.sum() for values in found]).reshape(len(sequences), -1)

    flat = [one for some in sequences for one in some]
    scores = {
        "tree": totals(model.log_probs(flat).values),
        "tree, one user at a time": totals(
            [values for some in sequences for values in model.log_probs(some).values]
        ),
        "whole": totals([whole for some in sequences for whole in whole_log_probs(model, some)]),
        "fp32": totals(exact.log_probs(flat).values),
    }
    found: Found = {"lists": len(sequences), "dtype": model.placement.dtype}
    for one, other in (
        ("tree", "fp32"),
        ("whole", "fp32"),
        ("tree", "whole"),
        ("tree", "tree, one user at a time"),
    ):
        taus = [kendalltau(a, b).statistic for a, b in zip(scores[one], scores[other], strict=True)]
        found[f"{one} against {other}"] = {
            "mean": float(np.mean(taus)),
            "standard_error": float(np.std(taus) / len(taus) ** 0.5),
            "mean_difference": float(np.abs(scores[one] - scores[other]).mean()),
        }
    return found


def whole_log_probs(
    model: TransformersModel, sequences: Sequence[ScoredSequence]
) -> list[NDArray[np.float64]]:
    """Log-probabilities of what follows a prompt, by a padded batch of whole sequences."""
    rows = [torch.tensor(sequence.tokens) for sequence in sequences]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.model.device)
    with torch.inference_mode():
        logits = model.model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        picked = logits[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0].double().cpu().numpy()
    return [row[s.start - 1 : len(s.tokens) - 1] for row, s in zip(picked, sequences, strict=True)]


def sweep(check: Check) -> Found:
    """Rows a second by run length, keys per block and rows per forward."""
    found: Found = {}
    usual, model = tree_attention.ON_ACCELERATOR, check.model
    vocabulary = model.model.config.vocab_size
    cases = {"likelihood": likelihood(vocabulary, check.size.users, 20)}
    cases["labels"] = labels(vocabulary, 8, check.size.candidates)
    try:
        for run in (32, 64, 128, 256):
            for keys in (32_768, 131_072, 524_288):
                for rows in (8192, 32_768, 65_536):
                    if (keys, rows) not in {(131_072, 32_768)} and run != 64:
                        continue
                    tree_attention.ON_ACCELERATOR = replace(usual, run=run, keys=keys)
                    other = replace(model, max_rows=rows)
                    for name, sequences in cases.items():
                        n = other.log_probs(sequences).usage.tokens_forwarded
                        seconds = timed(partial(other.log_probs, sequences), 2, warm=False)
                        found[f"{name}: run {run}, keys {keys}, rows {rows}"] = n / seconds
    finally:
        tree_attention.ON_ACCELERATOR = usual
    return found


def profile(check: Check) -> Found:
    """Where a call of the engine spends its time: kernels of the device, functions of the host."""
    sequences = likelihood(check.model.model.config.vocab_size, check.size.users, 20)
    check.model.log_probs(sequences)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as seen:
        check.model.log_probs(sequences)
    column = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, column))
    device = {e.key[:70]: [getattr(e, column) / 1e3, e.count] for e in events[:25]}
    host = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {
        "device: milliseconds, calls": device,
        "host: milliseconds, calls": {
            e.key[:70]: [e.self_cpu_time_total / 1e3, e.count] for e in host[:15]
        },
    }


def generation(check: Check) -> Found:
    """Seconds of a batch of answers, through llmrec and through transformers' generate."""
    model, new = check.model, 48
    prompts = [Prompt("", "", made_up_prompt(user, item)) for user in range(8) for item in range(8)]
    prompts = prompts[: max(4, check.size.users)]
    started = time.perf_counter()
    model.generate(prompts[:2], max_new_tokens=2)
    started = time.perf_counter()
    ours = model.generate(prompts, max_new_tokens=new)
    wait()
    seconds = time.perf_counter() - started
    rows = [torch.tensor(tokens.astype(np.int64)) for tokens in model.encode_prompts(prompts)]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
    mask = nn.utils.rnn.pad_sequence(
        [torch.ones_like(row) for row in rows], batch_first=True, padding_side="left"
    )
    device = model.model.device
    started = time.perf_counter()
    with torch.inference_mode():
        generate = cast("Callable[..., torch.Tensor]", model.model.generate)
        theirs = generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
    wait()
    peer = time.perf_counter() - started
    written = theirs[:, ids.shape[1] :]
    texts = model.tokenizer.batch_decode(written, skip_special_tokens=True)
    return {
        "prompts": len(prompts),
        "tokens": ours.usage.tokens_generated,
        "tokens_generate": int((written != 0).sum()),  # 0 is what follows an end
        "same_texts": sum(map(str.__eq__, ours.texts, texts)),
        "seconds": seconds,
        "seconds_generate": peer,
        "speedup": peer / seconds,
    }


def flex(check: Check) -> Found:
    """FlexAttention instead of the engine's own attention: differences and, compiled, speed.

    On a CPU torch 2.13 fails to compile it for changing sizes: there whole calls are compared
    without compiling, and speed is that of one layer whose sizes do not change.
    """
    from flex_attention import FlexTreeAttention  # noqa: PLC0415 - other rows do not need it
    from torch.nn.attention.flex_attention import flex_attention  # noqa: PLC0415

    model, rounds = check.model, check.size.rounds
    vocabulary = model.model.config.vocab_size
    cases = {
        "likelihood": likelihood(vocabulary, check.size.users, 20),
        "labels": labels(vocabulary, 8, check.size.candidates),
    }
    compiles = input_device(model.model).type != "cpu"
    attend = torch.compile(flex_attention, dynamic=True) if compiles else flex_attention
    fixed = FlexTreeAttention(torch.compile(flex_attention, dynamic=False))
    found: Found = {"compiled": compiles}
    for name, some in cases.items():
        ours = model.log_probs(some).values
        seconds = timed(partial(model.log_probs, some), rounds, warm=False) if compiles else 0
        AttentionInterface.register(tree_attention.NAME, FlexTreeAttention(attend))
        try:
            started = time.perf_counter()
            theirs = model.log_probs(some).values
            first = time.perf_counter() - started
            other = timed(partial(model.log_probs, some), rounds) if compiles else 0
        finally:
            AttentionInterface.register(tree_attention.NAME, tree_attention.tree_attention)
        differences = [abs(a - b).max() for a, b in zip(ours, theirs, strict=True)]
        found[name] = {"rows": len(PrefixTree.of(some)), "difference": float(max(differences))}
        if compiles:
            found[name] |= {
                "seconds, own attention": seconds,
                "seconds, FlexAttention": other,
                "seconds of its first call": first,
                "speed of FlexAttention, own = 1": seconds / other,
            }
        found[name]["one layer"] = one_layer(model, some, fixed)
    return found


def one_layer(
    model: TransformersModel,
    sequences: Sequence[ScoredSequence],
    other: Callable[..., tuple[torch.Tensor, None]],
) -> Found:
    """Milliseconds of the attention of one layer and chunk in both ways, on random numbers."""
    tree, device = PrefixTree.of(sequences), input_device(model.model)
    chunk = max(tree.chunks(model.max_rows), key=lambda some: (some.end - some.start, some.start))
    config = model.model.config.get_text_config()
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    rows, size = chunk.end - chunk.start, config.hidden_size // heads
    query, key, value = (
        torch.randn(1, n, total, size, device=device, dtype=model.model.dtype)
        for n, total in ((heads, rows), *2 * [(kv_heads, rows + len(chunk.carried))])
    )
    planned = TreeAttention.of(tree, chunk, device.type)
    module = nn.Module()
    found: Found = {"rows": rows}
    for name, attend in (("own", tree_attention.tree_attention), ("FlexAttention", other)):
        work = torch.inference_mode()(
            partial(attend, module, query, key, value, None, tree=planned)
        )
        started = time.perf_counter()
        work()
        found[f"{name}: first call"] = 1e3 * (time.perf_counter() - started)
        found[name] = 1e3 * timed(work, 10)
    return found


ROWS: Mapping[str, Callable[[Check], Found]] = {
    "prefill": lambda check: prefill(check.model, check.size),
    "likelihood": likelihood_rows,
    "labels": label_rows,
    "requests": requests_file,
    "whole": whole_prompts,
    "qwen3-4b": partial(large, quantization="none"),
    "qwen3-4b-nf4": partial(large, quantization="nf4"),
    "tau": tau,
    "generation": generation,
    "flex": flex,
    "profile": profile,
    "sweep": sweep,
}


def main() -> None:
    """Measure, print and write the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--device")
    parser.add_argument("--only", nargs="*", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--small", action="store_true", help="Tiny sizes, to try every row")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    check = Check(options.model, options.device, SMALL if options.small else Size())
    cuda = torch.cuda.is_available()
    document: Found = {
        "command": command_of("gpu_check", None),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "rows": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        started = time.perf_counter()
        try:
            found = ROWS[name](check)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(traceback.format_exc())
        found["seconds_of_this_row"] = time.perf_counter() - started
        document["rows"][name] = found
        sys.stdout.write(f"== {name}\n{table(found)}")
        sys.stdout.flush()
        text = json.dumps(document, indent=1) + "\n"
        (options.out / "gpu_check.json").write_text(text)
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()


def table(found: Found, before: str = "  ") -> str:
    """Names and values, one a line."""
    lines = ""
    for name, value in found.items():
        if isinstance(value, dict):
            lines += f"{before}{name}\n{table(value, before + '  ')}"
        else:
            shown = f"{value:,.4g}" if isinstance(value, float) else value
            lines += f"{before}{name:<48} {shown}\n"
    return lines


if __name__ == "__main__":
    main()
