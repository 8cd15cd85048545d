"""Estimate the cost of a benchmark before it runs: cells, tokens, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.disagreements import ReaderOf
from llmrec.benchmarking.results import Result, Results
from llmrec.benchmarking.run import Benchmark
from llmrec.benchmarking.tasks import attack_tasks, place_tasks, tasks_of
from llmrec.errors import LlmrecError
from llmrec.models import ContinuationRequest
from llmrec.reranking.strategy import request_of

LOOKED_AT = 3
"""Users whose prompts are counted."""
_GO_ON = frozenset({"likelihood", "listwise-generated", "pairwise", "setwise", "tournament"})
"""Strategies that may ask more than one round."""


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """The expected cost of a cell.

    ``prompts`` and ``tokens`` are those of the first round, means a user; ``at_least`` where a
    strategy may ask further rounds. ``left`` counts lists without a result, planted targets and
    attacks among them; ``seconds`` are theirs, None where nothing comparable was timed yet.
    ``guessed``: they are extrapolated from other cells of the model, by their seconds per token.
    ``fault`` says why it cannot be asked.
    """

    name: str
    prompts: float
    tokens: float
    at_least: bool
    left: int
    seconds: float | None
    fault: str = ""
    guessed: bool = False


def estimate_cells(
    benchmark: Benchmark, done: Results, reader_of: ReaderOf, before: Sequence[Cell] = ()
) -> tuple[CellEstimate, ...]:
    """Count prompts and tokens of the first users, and extrapolate from earlier timings.

    Args:
        benchmark: What would be run.
        done: Results so far: a cell is timed by its own seconds per list, else by the
            seconds per token of its model and quantization, and of its strategy if possible.
        reader_of: The tokenizer of a model.
        before: The cells that the run folder describes, which need not be those of the plan.
    """
    plan, users = benchmark.plan, benchmark.data.users
    kinds = {cell.key: _kind(cell) for cell in (*before, *benchmark.cells)}
    answered = [result for result in done if result.fault is None]
    found = []
    for cell in benchmark.cells:
        tasks = [
            *tasks_of([cell], users),
            *place_tasks([cell], users, plan.places, plan.place_users),
            *attack_tasks([cell], benchmark.trials),
        ]
        left = sum(task.name not in done for task in tasks)
        counted = _count(benchmark, cell, reader_of)
        if isinstance(counted, str):
            found.append(CellEstimate(cell.name, 0, 0, False, left, None, counted))
            continue
        prompts, tokens = counted
        own = [one.seconds for one in answered if one.cell == cell.key and one.place is None]
        a_user = sum(own) / len(own) if own else None if left else 0.0
        a_token = _seconds_a_token(answered, kinds, cell.key) if a_user is None else None
        if a_token is not None:
            a_user = a_token * tokens
        found.append(
            CellEstimate(
                cell.name,
                prompts,
                tokens,
                cell.strategy in _GO_ON,
                left,
                None if a_user is None else a_user * left,
                guessed=a_token is not None,
            )
        )
    return tuple(found)


def left_in_words(cells: Sequence[CellEstimate]) -> str:
    """How much is left to ask."""
    left = _to_ask(cells)
    more = " or more" if any(cell.at_least for cell in left) else ""
    tokens = sum(cell.tokens * cell.left for cell in left)
    return f"{sum(cell.left for cell in left):,} lists, about {tokens:,.0f} tokens{more}"


def expected_seconds(cells: Sequence[CellEstimate]) -> float:
    """The expected time of all cells that were timed."""
    return sum(cell.seconds for cell in _to_ask(cells) if cell.seconds is not None)


def time_in_words(cells: Sequence[CellEstimate]) -> str:
    """The expected time, as far as it is known."""
    left = _to_ask(cells)
    timed = [cell for cell in left if cell.seconds is not None]
    rest = "the first results of a run time the rest"
    if left and not timed:
        return f"not timed yet; {rest}"
    guessed = [cell for cell in timed if cell.guessed]
    minutes = expected_seconds(left) / 60
    more = "+" if any(cell.at_least for cell in guessed) else ""
    said = f"{'~' if guessed else ''}{minutes:,.{0 if minutes >= 10 else 1}f} min{more}"
    if guessed:
        said += "; ~ extrapolated from other cells"
    untimed = len(left) - len(timed)
    return f"{said}; {untimed} of {len(left)} cells are not timed yet: {rest}" if untimed else said


def _to_ask(cells: Sequence[CellEstimate]) -> list[CellEstimate]:
    return [cell for cell in cells if cell.left and not cell.fault]


def _kind(cell: Cell) -> tuple[str, ...]:
    """The settings that the seconds per token depend on, least important last."""
    return cell.model, cell.quantization, cell.strategy


def _seconds_a_token(
    answered: Sequence[Result], kinds: Mapping[str, tuple[str, ...]], key: str
) -> float | None:
    """Seconds per token of the results most similar to a cell's."""
    for alike in (3, 2):
        kin = {other for other, kind in kinds.items() if kind[:alike] == kinds[key][:alike]}
        some = [result for result in answered if result.cell in kin]
        tokens = sum(result.tokens_given for result in some)
        if tokens:
            return sum(result.seconds for result in some) / tokens
    return None


def _count(benchmark: Benchmark, cell: Cell, reader_of: ReaderOf) -> tuple[float, float] | str:
    """Prompts and tokens per user of the first round, or why they cannot be rendered."""
    users = benchmark.data.users[:LOOKED_AT]
    prompts = tokens = 0
    try:
        strategy, budget = cell.make()
        reader = reader_of(cell.model)
        for one in users:
            question = benchmark.data.question(one, one.candidates, budget)
            requests = [request_of(asked) for asked in next(strategy.ask(question, reader))]
            prompts += len(requests)
            tokens += sum(reader.count_tokens([request.prompt for request in requests]))
            for request in requests:
                if isinstance(request, ContinuationRequest):
                    tokens += len(reader.encode(request.split()[1]))
    except LlmrecError as error:
        return str(error)
    return prompts / len(users), tokens / len(users)
