"""What a benchmark would cost, before anything is asked: cells, tokens, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrec.benchmarking.benchmark import Benchmark
from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.disagreeing import ReaderOf
from llmrec.benchmarking.records import Result
from llmrec.errors import LlmrecError
from llmrec.evaluation import smallest_difference
from llmrec.language_models import ContinuationRequest
from llmrec.reranking.strategy import question_about, request_of

LOOKED_AT = 3
"""Users whose prompts are counted."""

_GO_ON = frozenset({"likelihood", "listwise-generated", "pairwise", "setwise", "tournament"})
"""Strategies that may ask more than one round."""

USUAL_DEVIATION = 0.35
"""Of the difference of two rows' nDCG@10 of a user, as seen between templates of small models."""


def smallest_shown(users: int) -> float:
    """The smallest difference in nDCG@10 that so many users show four times out of five, about."""
    return smallest_difference(USUAL_DEVIATION, users)


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """A cell before it is asked.

    ``prompts`` and ``tokens`` are those of whole prompts of the first round, means a user; a
    strategy that compares, or asks what titles are worth to nobody, goes on from there, so
    ``at_least``. ``seconds`` are of all users, None where nothing like it was timed yet. ``fault``
    says why it cannot be asked.
    """

    name: str
    prompts: float
    tokens: float
    at_least: bool
    left: int
    seconds: float | None
    fault: str = ""


def estimate_cells(
    benchmark: Benchmark, done: Sequence[Result], reader_of: ReaderOf
) -> tuple[CellEstimate, ...]:
    """Count prompts and tokens of the first users, and time by what was timed before.

    Args:
        benchmark: What would be run.
        done: Results of the run folder so far: a cell's own seconds a user, else the seconds a
            token of all of them.
        reader_of: What reads prompts as a model does.
    """
    seconds: dict[str, list[float]] = {}
    for result in done:
        if result.place is None and result.fault is None:
            seconds.setdefault(result.cell, []).append(result.seconds)
    tokens = sum(result.tokens_given for result in done)
    a_token = sum(result.seconds for result in done) / tokens if tokens else None
    asked = {(result.cell, result.user_id) for result in done if result.place is None}
    found = []
    for cell in benchmark.cells:
        left = sum((cell.key, one.user_id) not in asked for one in benchmark.asked.lists)
        own = seconds.get(cell.key)
        counted = _count(benchmark, cell, reader_of)
        if isinstance(counted, str):
            found.append(CellEstimate(benchmark.names[cell.key], 0, 0, False, left, None, counted))
            continue
        a_user = sum(own) / len(own) if own else None
        if a_user is None and a_token is not None:
            a_user = a_token * counted["tokens"]
        found.append(
            CellEstimate(
                benchmark.names[cell.key],
                counted["prompts"],
                counted["tokens"],
                cell.strategy in _GO_ON,
                left,
                None if a_user is None else a_user * left,
            )
        )
    return tuple(found)


def _count(benchmark: Benchmark, cell: Cell, reader_of: ReaderOf) -> Mapping[str, float] | str:
    """Prompts and tokens a user of the first round, or why they cannot be written."""
    known = benchmark.asked.known
    lists = benchmark.asked.lists[:LOOKED_AT]
    prompts = tokens = 0
    try:
        strategy, budget = cell.make()
        reader = reader_of(cell.model)
        for one in lists:
            question = question_about(known, known.user(one.user_id), one.candidates, budget)
            for ask in next(strategy.ask(question, reader)):
                request = request_of(ask)
                prompts += 1
                tokens += reader.count_tokens(request.prompt)
                if isinstance(request, ContinuationRequest):
                    tokens += len(reader.encode(request.continuation))
    except LlmrecError as error:
        return str(error)
    return {"prompts": prompts / len(lists), "tokens": tokens / len(lists)}
