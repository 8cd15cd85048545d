"""What a benchmark would cost, before anything is asked: cells, tokens, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrec.benchmarking.answers import CellSettings
from llmrec.benchmarking.benchmark import Benchmark
from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.disagreeing import ReaderOf
from llmrec.benchmarking.entries import BASELINES
from llmrec.benchmarking.records import Result
from llmrec.benchmarking.running import Task, place_tasks
from llmrec.benchmarking.summary import SHOWN_AT
from llmrec.errors import LlmrecError
from llmrec.evaluation import smallest_difference
from llmrec.models import ContinuationRequest
from llmrec.reranking.strategy import question_about, request_of

LOOKED_AT = 3
"""Users whose prompts are counted."""

_GO_ON = frozenset({"likelihood", "listwise-generated", "pairwise", "setwise", "tournament"})
"""Strategies that may ask more than one round."""

USUAL_DEVIATION = 0.35
"""Of the difference of two rows' nDCG@10 of a user, as seen between templates of small models."""


def comparisons_of(cells: int) -> int:
    """How many comparisons a run of so many cells makes: each with each, and with each baseline."""
    return cells * (cells - 1) // 2 + cells * len(BASELINES)


def smallest_shown(users: int, comparisons: int = 1) -> float:
    """The smallest difference in nDCG@10 that so many users show four times out of five, about.

    Args:
        users: How many both rows have.
        comparisons: How many Holm corrects together: this is his strictest step.
    """
    return smallest_difference(USUAL_DEVIATION, users, alpha=SHOWN_AT / comparisons)


def shown_in_words(users: int, cells: int) -> str:
    """The same as a sentence, for before a run."""
    comparisons = comparisons_of(cells)
    return (
        f"{users} users show differences in nDCG@10 from about "
        f"{smallest_shown(users, comparisons):.3f} on, corrected for {comparisons} comparisons "
        f"({smallest_shown(users):.3f} for one alone), where rows differ as much as usual"
    )


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """A cell before it is asked.

    ``prompts`` and ``tokens`` are those of whole prompts of the first round, means a user; a
    strategy that compares, or asks what titles are worth to nobody, goes on from there, so
    ``at_least``. ``left`` counts the lists that have no answer yet, those with a planted target
    too; ``seconds`` are theirs, None where nothing like it was timed yet, and ``guessed`` where
    other cells of its model were: their seconds a token are taken for its own, of the tokens
    counted here. ``fault`` says why it cannot be asked.
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
    benchmark: Benchmark,
    done: Sequence[Result],
    reader_of: ReaderOf,
    before: Sequence[CellSettings] = (),
) -> tuple[CellEstimate, ...]:
    """Count prompts and tokens of the first users, and time by what was timed before.

    Args:
        benchmark: What would be run.
        done: Results of the run folder so far: a cell's own seconds a list time it, else the
            seconds a token of its model and quantization do, of its strategy where there are some.
            Another model says nothing of it.
        reader_of: What reads prompts as a model does.
        before: The cells that the run folder describes, which need not be those of the plan.
    """
    plan, lists = benchmark.plan, benchmark.asked.lists
    kinds = {str(cell["key"]): _kind(cell) for cell in (*before, *benchmark.described())}
    answered = [result for result in done if result.fault is None]
    seconds: dict[str, list[float]] = {}
    for result in answered:
        if result.place is None:
            seconds.setdefault(result.cell, []).append(result.seconds)
    asked = {(result.cell, result.user_id, result.place) for result in done}
    found = []
    for cell in benchmark.cells:
        tasks = [Task(cell, one) for one in lists]
        tasks += place_tasks([cell], lists, plan.places, plan.place_users)
        left = sum(task.name not in asked for task in tasks)
        name, own = benchmark.names[cell.key], seconds.get(cell.key, [] if left else [0.0])
        counted = _count(benchmark, cell, reader_of)
        if isinstance(counted, str):
            found.append(CellEstimate(name, 0, 0, False, left, None, counted))
            continue
        a_user = sum(own) / len(own) if own else None
        a_token = None if own else _seconds_a_token(answered, kinds, cell.key)
        if a_token is not None:
            a_user = a_token * counted["tokens"]
        found.append(
            CellEstimate(
                name,
                counted["prompts"],
                counted["tokens"],
                cell.strategy in _GO_ON,
                left,
                None if a_user is None else a_user * left,
                guessed=a_token is not None,
            )
        )
    return tuple(found)


def left_in_words(cells: Sequence[CellEstimate]) -> str:
    """How much is to be asked still, of all cells that can be."""
    left = _to_ask(cells)
    more = " or more" if any(cell.at_least for cell in left) else ""
    tokens = sum(cell.tokens * cell.left for cell in left)
    return f"{sum(cell.left for cell in left):,} lists, about {tokens:,.0f} tokens{more}"


def time_in_words(cells: Sequence[CellEstimate]) -> str:
    """How long that takes, as far as it is known, and what would tell the rest."""
    left = _to_ask(cells)
    timed = [(cell, cell.seconds) for cell in left if cell.seconds is not None]
    rest = "the first answers of a run time the rest"
    if left and not timed:
        return f"not timed yet; {rest}"
    guessed = [cell for cell, _ in timed if cell.guessed]
    minutes = sum(seconds for _, seconds in timed) / 60
    more = "+" if any(cell.at_least for cell in guessed) else ""
    said = f"{'~' if guessed else ''}{minutes:,.{0 if minutes >= 10 else 1}f} min{more}"
    if guessed:
        said += "; ~ goes by the seconds a token of the model's other cells"
    untimed = len(left) - len(timed)
    return f"{said}; {untimed} of {len(left)} cells are not timed yet: {rest}" if untimed else said


def _to_ask(cells: Sequence[CellEstimate]) -> list[CellEstimate]:
    return [cell for cell in cells if cell.left and not cell.fault]


def _kind(cell: CellSettings) -> tuple[object, ...]:
    """What hangs together with how long a token takes, the least of it last."""
    return tuple(cell.get(name) for name in ("model", "quantization", "strategy"))


def _seconds_a_token(
    answered: Sequence[Result], kinds: Mapping[str, tuple[object, ...]], key: str
) -> float | None:
    """Of the answers that are most like a cell's, what a token of their prompts took."""
    for alike in (3, 2):
        kin = {other for other, kind in kinds.items() if kind[:alike] == kinds[key][:alike]}
        some = [result for result in answered if result.cell in kin]
        tokens = sum(result.tokens_given for result in some)
        if tokens:
            return sum(result.seconds for result in some) / tokens
    return None


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
