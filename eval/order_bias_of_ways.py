"""Order bias of the ways that ask again and again, where `rerank_strategies.py` measures lists.

    python eval/order_bias_of_ways.py DATA --users 20 [--model REF] [--way 'setwise' ...]

The same lists, the target at the places 1, 5, 10, 15 and 20: nDCG@10 at each, and how far apart the
five figures stand. Writes results/order_bias_DATA_MODEL.md and .json. A killed run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import cast

from movielens import KeptScores, load, retriever_of
from order_bias import order_bias
from remembering import Remembering
from rerank_strategies import RESULTS, discrimination, thinned
from ways import Way, reranker_of

from llmrec import TransformersModel
from llmrec.models import DEFAULT_LANGUAGE_MODEL, LanguageModel, cache_folder

WAYS = (
    Way("listwise", "listwise"),
    Way("listwise, calibrated", "listwise", calibrate=True),
    Way("setwise", "setwise"),
    Way("setwise, calibrated", "setwise", calibrate=True),
    Way("pairwise", "pairwise"),
    Way("pairwise, calibrated", "pairwise", calibrate=True),
    Way("listwise-generated", "listwise-generated"),
)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--way", action="append", choices=[way.name for way in WAYS])
    parser.add_argument("--model", default=DEFAULT_LANGUAGE_MODEL)
    options = parser.parse_args()
    name, ways = options.data.name, options.way or [way.name for way in WAYS]
    data = load(options.data)
    model = TransformersModel.from_pretrained(options.model, progress=True)
    out = f"order_bias_{name}_{Path(model.name).name.lower()}"
    kept = KeptScores(cache_folder() / "eval" / f"{out}.jsonl")
    remembering = cast("LanguageModel", Remembering(model))
    rerankers = {way.name: reranker_of(way, remembering, data) for way in WAYS if way.name in ways}
    retriever = retriever_of(data)
    asked = thinned(discrimination(data), options.users)
    table, found = order_bias(kept, rerankers, retriever, asked)
    command = (
        f"python eval/order_bias_of_ways.py {name} --model {model.name} --users {options.users}"
    ) + "".join(f" --way '{way}'" for way in options.way or ())
    text = (
        f"# Order bias on {name} with {model.name}\n\n`{command}`, revision "
        f"{model.revision[:12]}, {model.placement.dtype}. Intervals are 95 %, by user.\n\n{table}"
    )
    document = {"command": command, "users": len(asked), "rows": found}
    (RESULTS / f"{out}.md").write_text(text)
    (RESULTS / f"{out}.json").write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
