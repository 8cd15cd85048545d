"""Pointwise reranking beside two libraries, on the same model, candidates and prompt text.

    python eval/peers/environment.py rerankers FOLDER       # the other library's own environment
    OMP_NUM_THREADS=1 python eval/compare_rerankers.py DATA --peer FOLDER      # DATA: movielens_mm

Lists of the target and 19 random unseen items are ranked by

- llmrec's pointwise strategy (every spelling of Yes and No that is one token),
- sentence-transformers' CrossEncoder with LogitScore (the tokens Yes and No),
- the `rerankers` package's ranker for causal models, through peers/rerankers_worker.py.

All read the same text and compute in float32, the peers in the batch size that was fastest for them
in benchmark_engine.py. The ways take turns list by list, and seconds are those of one core's work,
which other processes hardly change. Answers are logged: a killed run resumes. Without --peer the
last one is left out. Writes results/compare_rerankers.json and .md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from os.path import commonprefix
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from benchmark_engine import cross_encoder
from candidate_lists import (
    Asked,
    discrimination,
    judgement,
    rank_metrics,
    retriever_of,
    score_key,
    thinned,
)
from data_sets import KEPT, SEED, kept_in, load, read, write_results
from peers.environment import PACKAGES
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder
from tqdm import tqdm

from llmrec import Reranker, Retriever, TransformersModel
from llmrec.evaluation import Row, compare_rows, markdown_table, target_ranks
from llmrec.models import (
    DEFAULT_LANGUAGE_MODEL,
    LabelRequest,
    LanguageModel,
    LogProbs,
    resolve_model,
)

SCRIPT = Path(__file__).parent / "peers" / "rerankers_worker.py"
OURS, CROSS, PEER = "llmrec, pointwise", "CrossEncoder, LogitScore", "rerankers, MxBaiV2Ranker"
BATCH = 4
Answers = dict[str, list[Mapping[str, Any]]]


@dataclass(frozen=True)
class Recorder:
    """A model that records the prompts of the labels it is asked for."""

    model: TransformersModel
    asked: list[LabelRequest] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the model has
        """Everything else is the model's."""
        return getattr(self.model, name)

    def session(self) -> Recorder:
        """The model of one conversation, recorded too."""
        return replace(self, model=self.model.session())

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Record and ask."""
        self.asked.extend(requests)
        answer: LogProbs = self.model.label_log_probs(requests)
        return answer

    def texts(self) -> list[str]:
        """The recorded prompts as the tokenizer reads them, in order."""
        tokens = self.model.encode_prompts([request.prompt for request in self.asked])
        return [str(self.model.tokenizer.decode(some)) for some in tokens]


def halves(texts: list[str]) -> tuple[str, list[str]]:
    """What all texts begin with, up to a line's end, and how each goes on."""
    common = commonprefix(texts)  # noqa: RUF071 - letters are what is meant
    cut = common.rindex("\n") + 1
    return texts[0][:cut], [text[cut:] for text in texts]


def by_llmrec(
    model: TransformersModel, reranker: Reranker, retriever: Retriever, asked: Asked
) -> dict[str, Any]:
    """Our own way, with the tokens it forwarded and the prompts it asked."""
    recorder = Recorder(model)
    recorded = Reranker(
        cast("LanguageModel", recorder), reranker.index, strategy=list(reranker.strategies)
    )
    started = time.process_time()
    judged = judgement(recorded, retriever, asked)
    seconds = time.process_time() - started
    return {
        "scores": judged.scores.tolist(),
        "seconds": seconds,
        "tokens": [judged.usage.tokens_given, judged.usage.tokens_forwarded],
        "texts": recorder.texts(),
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


def ask_all(options: argparse.Namespace) -> tuple[list[Asked], Answers]:
    """Every way's answer to every list, logged as they come."""
    data = load(read(options.data))
    retriever = retriever_of(data, 0.0)
    lists = thinned(discrimination(data), options.users)
    model = TransformersModel.from_pretrained(options.model, device="cpu")
    reranker = Reranker(model, data.index, strategy="pointwise")
    folder = resolve_model(options.model).path
    encoder = cross_encoder(folder, model.encode("Yes")[0], model.encode("No")[0])
    found: Answers = {OURS: [], CROSS: []}
    with ExitStack() as stack:
        kept = stack.enter_context(kept_in(options.kept))
        process = None
        if options.peer:
            found[PEER] = []
            rewritten = stack.enter_context(tempfile.TemporaryDirectory())
            for_transformers_4(folder, Path(rewritten))
            command = [str(options.peer / "bin" / "python"), str(SCRIPT), rewritten]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            stack.enter_context(process)
        for place, asked in enumerate(tqdm(lists, desc="lists", disable=None)):
            key = score_key(reranker, asked)
            ours = kept(f"{OURS}/{key}", partial(by_llmrec, model, reranker, retriever, asked))
            texts = ours["texts"]
            found[OURS].append(ours)
            found[CROSS].append(kept(f"{CROSS}/{key}", partial(by_cross_encoder, encoder, texts)))
            if process and place < options.peer_users:
                found[PEER].append(kept(f"{PEER}/{key}", partial(by_peer, process, texts)))
    return lists, found


def report(lists: list[Asked], found: Answers) -> tuple[str, dict[str, object]]:
    """Tables, and the figures in them."""
    targets = np.array([asked.target for asked in lists])
    scores = {name: np.array([entry["scores"] for entry in some]) for name, some in found.items()}
    given, forwarded = np.array([entry["tokens"] for entry in found[OURS]]).mean(axis=0).tolist()
    costs: dict[str, object] = {"tokens given": given, "tokens forwarded": forwarded}
    tables, every, lines = [], list[Row](), []
    for peer in list(found)[1:]:
        n = len(found[peer])
        metrics = {
            name: rank_metrics(target_ranks(scores[name][:n], targets[:n], seed=SEED))
            for name in (OURS, peer)
        }
        rows = compare_rows(metrics, [(OURS, peer)], seed=SEED)
        tables.append(markdown_table(rows))
        every += rows
        theirs, ours = (
            np.array([entry["seconds"] for entry in found[name][:n]]) for name in (peer, OURS)
        )
        ratio = float(np.median(theirs / ours))
        pairs = zip(scores[peer], scores[OURS], strict=False)
        order = float(np.mean([spearmanr(a, b).statistic for a, b in pairs]))
        costs[peer] = {"lists": n, "time over llmrec's": ratio, "spearman": order}
        lines.append(f"| {peer} | {n} | {ratio:.1f} | {order:.3f} |\n")
    if PEER in found:
        apart = float(np.abs(scores[PEER] - scores[CROSS][: len(scores[PEER])]).max())
        lines.append(f"\nThe two peers' log-odds differ by {apart:.1g} at most.\n")
    text = (
        "\n".join(tables)
        + f"\nTokens a list: {given:.0f} in whole prompts, which the peers forward, "
        + f"{forwarded:.0f} forwarded by llmrec: {given / forwarded:.1f} times fewer.\n\n"
        + "| beside | lists | time over llmrec's | Spearman with llmrec's scores |\n"
        + "|---|---:|---:|---:|\n"
        + "".join(lines)
    )
    return text, {"rows": every, "costs": costs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print and write all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", type=Path, help="the environment of the rerankers package")
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--peer-users", type=int, default=10, help="lists of the slowest peer")
    parser.add_argument("--kept", type=Path, default=KEPT / "compare_rerankers.jsonl")
    parser.add_argument("--out", type=Path, help="results folder")
    options = parser.parse_args(arguments)
    lists, found = ask_all(options)
    table, document = report(lists, found)
    command = (
        f"OMP_NUM_THREADS=1 python eval/compare_rerankers.py {options.data.name} --peer FOLDER "
        f"--users {options.users} --peer-users {options.peer_users}"
    )
    text = (
        f"# Pointwise beside other libraries\n\n`{command}`, {options.model} in float32, 20 "
        "candidates a list, the same prompt text; peers in batches of "
        f"{BATCH}, versions {', '.join(PACKAGES['rerankers'])}. Intervals are 95 %, paired by "
        f"user. Seconds are of one core's work, ratios the median over lists.\n\n{table}"
    )
    about = {"command": command, "model": options.model, "threads": torch.get_num_threads()}
    write_results("compare_rerankers", text, {"about": about, **document}, options.out)


if __name__ == "__main__":
    main()
