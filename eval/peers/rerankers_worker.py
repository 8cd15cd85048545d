"""Rank with the `rerankers` package's ranker for causal models, and write its scores and seconds.

Runs in the environment that environment.py makes, not in llmrec's:

    python eval/peers/rerankers_worker.py MODEL_FOLDER < LISTS.jsonl > SCORES.jsonl

Each line in holds ``query`` and ``documents``, whose texts one after the other are the prompts;
each line out ``scores``, the log-odds of Yes against No, and ``seconds`` of one core's work. The
ranker (MxBaiV2Ranker) is made for models tuned with its own wording: that wording is taken out, and
its labels are set to Yes and No, so that it reads what llmrec reads.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from rerankers.models.mxbai_v2 import MxBaiV2Ranker  # type: ignore[import-not-found]

BATCH = 4  # what was fastest for whole prompts in benchmark_engine.py


def main() -> None:
    """Answer line by line."""
    ranker = MxBaiV2Ranker(
        sys.argv[1], device="cpu", dtype=torch.float32, batch_size=BATCH, verbose=0, max_length=4096
    )
    ranker.chat_template = {"prefix": "", "suffix": ""}
    ranker.task_prompt = ranker.sep = ""
    ranker.query_prompt, ranker.doc_prompt = "{query}", "{document}"
    ranker.pos_token, ranker.neg_token = "Yes", "No"
    ranker._prepare_tokenized_templates()
    for line in sys.stdin:
        given = json.loads(line)
        documents, ids = given["documents"], list(range(len(given["documents"])))
        started = time.process_time()
        found = ranker.rank(given["query"], documents, doc_ids=ids)
        seconds = time.process_time() - started
        scores = {result.doc_id: float(result.score) for result in found.results}
        answer = {"scores": [scores[place] for place in ids], "seconds": seconds}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
