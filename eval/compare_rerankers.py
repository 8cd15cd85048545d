"""Pointwise reranking beside two libraries, on the same model, candidates and prompt text.

    python eval/compare_rerankers.py make FOLDER           # the other library's own environment
    OMP_NUM_THREADS=1 python eval/compare_rerankers.py DATA --peer FOLDER      # DATA: movielens_mm

Lists of the target and 19 random unseen items are ranked by

- llmrec's pointwise strategy (every spelling of Yes and No that is one token),
- sentence-transformers' CrossEncoder with LogitScore (the tokens Yes and No),
- the `rerankers` package's ranker for causal models, through eval/peer_rerankers.py.

All read the same text and compute in float32, the peers in the batch size that was fastest for them
in benchmark_engine.py. The ways take turns list by list, and seconds are those of one core's work,
so that what else a machine does hardly counts. Answers are kept: a killed run goes on. Writes
results/compare_rerankers.json and .md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_engine import cross_encoder
from kept import read_kept
from movielens import Asked, load, rank_metrics, score_key
from rerank_strategies import discrimination, thinned
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder
from tqdm import tqdm

from llmrec import Reranker, Retriever, TransformersModel
from llmrec.evaluation import compare_rows, markdown_table, target_ranks
from llmrec.models import DEFAULT_LANGUAGE_MODEL, cache_folder, resolve_model
from llmrec.prompting import context_of
from llmrec.reranking.strategy import LabelAsk, Question

RESULTS = Path(__file__).parent / "results"
SCRIPT = Path(__file__).parent / "peer_rerankers.py"
PACKAGES = ("torch==2.13.0", "transformers==4.57.3", "accelerate==1.10.1", "rerankers==0.10.0")
OURS, CROSS, PEER = "llmrec, pointwise", "CrossEncoder, LogitScore", "rerankers, MxBaiV2Ranker"
BATCH = 4
SEED = 0
Way = Callable[[], dict[str, Any]]


def whole_prompts(reranker: Reranker, model: TransformersModel, asked: Asked) -> list[str]:
    """The texts that the model reads, one a candidate, as its tokenizer reads them."""
    items = reranker.index.items
    candidates = tuple(items[item_id] for item_id in asked.item_ids)
    context = context_of(reranker.index)
    question = Question(asked.user, candidates, context, reranker.budget)
    texts = []
    for ask in next(reranker.strategies[0].ask(question, model)):
        assert isinstance(ask, LabelAsk)
        tokens = model.encode_prompt(ask.request.prompt)
        texts.append(str(model.tokenizer.decode(tokens)))
        assert model.tokenizer(texts[-1], add_special_tokens=False)["input_ids"] == tokens
    return texts


def halves(texts: list[str]) -> tuple[str, list[str]]:
    """What all texts begin with, up to a line's end, and how each goes on."""
    common = commonprefix(texts)  # noqa: RUF071 - letters are what is meant
    cut = common.rindex("\n") + 1
    return texts[0][:cut], [text[cut:] for text in texts]


def by_llmrec(reranker: Reranker, retriever: Retriever, asked: Asked) -> dict[str, Any]:
    """Our own way, with the tokens it forwarded."""
    found = {c.item_id: c for c in retriever.candidates(asked.user, asked.item_ids)}
    started = time.process_time()
    (judged,) = reranker.judge(asked.user, [found[i] for i in asked.item_ids]).values()
    seconds = time.process_time() - started
    usage = judged.usage
    return {
        "scores": judged.scores.tolist(),
        "seconds": seconds,
        "tokens": [usage.tokens_given, usage.tokens_forwarded],
    }


def by_cross_encoder(encoder: CrossEncoder, texts: list[str]) -> dict[str, Any]:
    """sentence-transformers' way."""
    begin, ends = halves(texts)
    started = time.process_time()
    scores = encoder.predict(
        [(begin, end) for end in ends],
        batch_size=BATCH,
        activation_fn=torch.nn.Identity(),
        show_progress_bar=False,
    )
    return {"scores": scores.tolist(), "seconds": time.process_time() - started}


def by_peer(process: subprocess.Popen[str], texts: list[str]) -> dict[str, Any]:
    """The other library's way, in its own environment."""
    assert process.stdin is not None
    assert process.stdout is not None
    begin, ends = halves(texts)
    process.stdin.write(json.dumps({"query": begin, "documents": ends}) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def for_transformers_4(folder: Path, out: Path) -> None:
    """The same model as the peer's transformers reads it: rope and tokenizer are said otherwise."""
    for name in ("model.safetensors", "tokenizer.json"):
        (out / name).symlink_to(folder / name)
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (out / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def ask_all(options: argparse.Namespace) -> tuple[list[Asked], dict[str, list[dict[str, Any]]]]:
    """Every way's answer to every list, kept as they come."""
    data = load(options.data)
    retriever = Retriever(data.index, weights={"content": 1.0})
    lists = thinned(discrimination(data), options.users)
    model = TransformersModel.from_pretrained(options.model, device="cpu")
    reranker = Reranker(model, data.index, strategy="pointwise")
    folder = resolve_model(options.model).path
    yes, no = model.encode("Yes")[0], model.encode("No")[0]
    encoder = cross_encoder(folder, yes, no)
    path = cache_folder() / "eval" / "compare_rerankers.jsonl"
    known = read_kept(path)
    found: dict[str, list[dict[str, Any]]] = {OURS: [], CROSS: [], PEER: []}
    python = str(options.peer / "bin" / "python")
    with tempfile.TemporaryDirectory() as rewritten:
        for_transformers_4(folder, Path(rewritten))
        process = subprocess.Popen(
            [python, str(SCRIPT), rewritten],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for place, asked in enumerate(tqdm(lists, desc="lists", disable=None)):
            texts = whole_prompts(reranker, model, asked)
            ways: dict[str, Way] = {
                OURS: partial(by_llmrec, reranker, retriever, asked),
                CROSS: partial(by_cross_encoder, encoder, texts),
                PEER: partial(by_peer, process, texts),
            }
            for name, way in ways.items():
                if name == PEER and place >= options.peer_users:
                    continue
                key = f"{name}/{score_key(reranker, asked)}"
                if key not in known:
                    known[key] = {"key": key, **way()}
                    with path.open("a") as file:
                        file.write(json.dumps(known[key]) + "\n")
                found[name].append(known[key])
        process.communicate()
    return lists, found


def report(
    lists: list[Asked], found: dict[str, list[dict[str, Any]]]
) -> tuple[str, dict[str, object]]:
    """Tables, and what they were made of."""
    targets = np.array([asked.target for asked in lists])
    scores = {name: np.array([entry["scores"] for entry in some]) for name, some in found.items()}
    tables, every = [], []
    for peer in (CROSS, PEER):
        n = len(scores[peer])
        metrics = {
            name: rank_metrics(target_ranks(scores[name][:n], targets[:n], seed=SEED))
            for name in (OURS, peer)
        }
        rows = compare_rows(metrics, [(OURS, peer)], seed=SEED)
        tables.append(markdown_table(rows))
        every += [asdict(row) for row in rows]
    given, forwarded = np.array([entry["tokens"] for entry in found[OURS]]).sum(axis=0).tolist()
    costs: dict[str, object] = {
        "tokens of whole prompts, a list": given / len(lists),
        "tokens forwarded, a list": forwarded / len(lists),
        "times fewer tokens": given / forwarded,
    }
    tokens = (
        f"Tokens a list: {given / len(lists):.0f} in whole prompts, which the peers forward, "
        f"{forwarded / len(lists):.0f} forwarded by llmrec: {given / forwarded:.1f} times fewer.\n"
    )
    lines = [
        tokens,
        "| beside | lists | time over llmrec's | Spearman with llmrec's scores |",
        "|---|---:|---:|---:|",
    ]
    for peer in (CROSS, PEER):
        n = len(found[peer])
        seconds = [
            np.array([entry["seconds"] for entry in found[name][:n]]) for name in (peer, OURS)
        ]
        ratio = float(np.median(seconds[0] / seconds[1]))
        pairs = zip(scores[peer], scores[OURS], strict=False)
        order = float(np.mean([spearmanr(a, b).statistic for a, b in pairs]))
        costs[peer] = {"lists": n, "time over llmrec's": ratio, "spearman": order}
        lines.append(f"| {peer} | {n} | {ratio:.1f} | {order:.3f} |")
    apart = np.abs(scores[PEER] - scores[CROSS][: len(scores[PEER])]).max()
    lines.append(f"\nThe two peers' log-odds differ by {apart:.1g} at most.")
    costs["largest difference of the peers"] = float(apart)
    text = "\n".join(tables) + "\n" + "\n".join(lines) + "\n"
    return text, {"rows": every, "costs": costs}


def make_environment(folder: Path) -> None:
    """Install the peer's pinned packages into an environment of their own."""
    venv.create(folder, with_pip=True)
    for package in PACKAGES:  # torch first: it decides which build the rest is satisfied with
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", package], check=True)


def main() -> None:
    """Run, print and write all of it."""
    if sys.argv[1:2] == ["make"]:
        make_environment(Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="the environment that `make` made")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--peer-users", type=int, default=10, help="lists of the slowest peer")
    options = parser.parse_args()
    lists, found = ask_all(options)
    text, document = report(lists, found)
    command = (
        f"OMP_NUM_THREADS=1 python eval/compare_rerankers.py {options.data.name} --peer FOLDER "
        f"--users {options.users} --peer-users {options.peer_users}"
    )
    heading = (
        f"# Pointwise beside other libraries\n\n`{command}`, {options.model} in float32, 20 "
        "candidates a list, the same prompt text; peers in batches of "
        f"{BATCH}, versions {', '.join(PACKAGES)}. Intervals are 95 %, paired by user. Seconds are "
        "of one core's work, ratios the median over lists.\n\n"
    )
    about = {"command": command, "model": options.model, "threads": torch.get_num_threads()}
    document = {"about": about, **document}
    (RESULTS / "compare_rerankers.md").write_text(heading + text)
    (RESULTS / "compare_rerankers.json").write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(heading + text)


if __name__ == "__main__":
    main()
