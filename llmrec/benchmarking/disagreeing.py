"""Users about whom two rows disagree most, with what each was asked and how each ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from llmrec.benchmarking.benchmark import Benchmark
from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.summary import Disagreement, RankedTitle, Summary
from llmrec.errors import LlmrecError
from llmrec.language_models import LanguageModel
from llmrec.prompting import Prompt
from llmrec.reranking.strategy import question_about, request_of

SHOWN = 10
ReaderOf = Callable[[str], LanguageModel]
"""What reads prompts as a model does, by the model's reference; it is never asked to answer."""


def disagreements(
    benchmark: Benchmark, summary: Summary, results: Sequence[Result], reader_of: ReaderOf
) -> tuple[Disagreement, ...]:
    """The ten users about whom the two best cells of different templates disagree most.

    Most is: the largest difference in nDCG@10; of equals, who was asked first.
    """
    pair = _best_two(benchmark, summary)
    if pair is None:
        return ()
    first, second = pair
    answers = {
        (result.cell, result.user_id): result
        for result in results
        if result.place is None and result.fault is None
    }
    names = benchmark.names
    values = [np.array(summary.per_user[names[cell.key]]) for cell in pair]
    apart = np.nan_to_num(np.abs(values[0] - values[1]), nan=-1.0)
    lists = {one.user_id: one for one in benchmark.asked.lists}
    found = []
    for row in np.argsort(-apart, kind="stable")[:SHOWN]:
        one = lists[summary.user_ids[row]]
        both = [answers.get((cell.key, one.user_id)) for cell in pair]
        if apart[row] <= 0 or both[0] is None or both[1] is None:
            continue
        found.append(
            Disagreement(
                one.user_id,
                (names[first.key], names[second.key]),
                _history(benchmark, one),
                (
                    _asked(benchmark, first, one, reader_of),
                    _asked(benchmark, second, one, reader_of),
                ),
                tuple(_ranking(benchmark, one, some) for some in both if some is not None),
            )
        )
    return tuple(found)


def _best_two(benchmark: Benchmark, summary: Summary) -> tuple[Cell, Cell] | None:
    """The best cell, and the best that has another template."""
    means = {row.name: row.metrics["ndcg@10"].mean for row in summary.rows if row.kind == "cell"}
    ordered = sorted(
        (cell for cell in benchmark.cells if not np.isnan(means[benchmark.names[cell.key]])),
        key=lambda cell: -means[benchmark.names[cell.key]],
    )
    others = [cell for cell in ordered[1:] if cell.template != ordered[0].template]
    return (ordered[0], others[0]) if others else None


def _history(benchmark: Benchmark, one: UserList) -> tuple[str, ...]:
    known = benchmark.asked.known
    return tuple(known.items[row.item_id].name for row in known.user(one.user_id).history)


def _asked(benchmark: Benchmark, cell: Cell, one: UserList, reader_of: ReaderOf) -> str:
    """The first prompt that a cell asks about a user; why there is none, where there is none."""
    known = benchmark.asked.known
    try:
        strategy, budget = cell.make()
        question = question_about(known, known.user(one.user_id), one.candidates, budget)
        asks = next(strategy.ask(question, reader_of(cell.model)))
    except LlmrecError as error:
        return f"({error})"
    return _text(request_of(asks[0]).prompt)


def _text(prompt: Prompt) -> str:
    if prompt.text is not None:
        return prompt.text
    return f"{prompt.system}\n\n{prompt.user}" if prompt.system else prompt.user


def _ranking(benchmark: Benchmark, one: UserList, result: Result) -> tuple[RankedTitle, ...]:
    known = benchmark.asked.known
    scores = dict(zip(one.candidates, result.scores, strict=True))
    judged: Mapping[str, float] = {i: s for i, s in scores.items() if s is not None}
    order = sorted(one.candidates, key=lambda item_id: -judged.get(item_id, -np.inf))
    shown = []
    for item_id in order:
        item = known.items[item_id]
        image = str(known.folder / item.image) if known.folder and item.image else ""
        shown.append(RankedTitle(item.name, image, item_id == one.target, scores[item_id]))
    return tuple(shown)
