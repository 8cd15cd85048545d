"""Users about whom two rows disagree most, with what each was asked and how each ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from scipy import stats

from llmrec.benchmarking.answers import Answers, by_cell, results_of, scores_of
from llmrec.benchmarking.benchmark import Benchmark
from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.entries import METRIC
from llmrec.benchmarking.ranking import rank_lists
from llmrec.benchmarking.records import Result, UserList
from llmrec.benchmarking.summary import Disagreement, RankedTitle, Summary, partial_rows
from llmrec.errors import LlmrecError
from llmrec.models import LanguageModel
from llmrec.records import Prompt
from llmrec.reranking.strategy import question_about, request_of

SHOWN = 10
ReaderOf = Callable[[str], LanguageModel]
"""What reads prompts as a model does, by the model's reference; it is never asked to answer."""


def disagreements(
    benchmark: Benchmark, summary: Summary, results: Sequence[Result], reader_of: ReaderOf
) -> tuple[Disagreement, ...]:
    """The ten users whose candidates the two best cells of different templates rank most apart."""
    pair = _best_two(benchmark, summary)
    if pair is None:
        return ()
    lists, names, cells = benchmark.asked.lists, benchmark.names, benchmark.described()
    rows = {one.user_id: row for row, one in enumerate(lists)}
    answers = by_cell(cells, lists, results_of(cells, lists, results))
    orders = [_orders(lists, answers[cell.key], benchmark.plan.seed) for cell in pair]
    users = disagreeing_users(lists, *(answers[cell.key].answered for cell in pair), n=SHOWN)
    found = []
    for user_id in users:
        row = rows[user_id]
        found.append(
            Disagreement(
                user_id,
                (names[pair[0].key], names[pair[1].key]),
                _history(benchmark, lists[row]),
                (
                    _asked(benchmark, pair[0], lists[row], reader_of),
                    _asked(benchmark, pair[1], lists[row], reader_of),
                ),
                tuple(
                    _ranking(benchmark, lists[row], order[row], answers[cell.key].proper[row])
                    for cell, order in zip(pair, orders, strict=True)
                ),
            )
        )
    return tuple(found)


def disagreeing_users(
    lists: Sequence[UserList], first: Iterable[Result], second: Iterable[Result], *, n: int = 10
) -> tuple[str, ...]:
    """The users whose candidates two cells rank most differently, the most different first.

    Args:
        lists: Every user's candidates.
        first: Results of the one cell's run proper.
        second: Results of the other's.
        n: How many users at most.

    Returns:
        User ids by Kendall's tau of the scores, lowest first, ties in the order of the lists. Who
        failed in either, is ranked alike by both, or has fewer than two judged by both or all of
        them alike, is left out.
    """
    one, other = (
        {result.user_id: result.scores for result in some if not result.fault and not result.place}
        for some in (first, second)
    )
    apart = []
    for entry in lists:
        pairs = [
            (a, b)
            for a, b in zip(one.get(entry.user_id, ()), other.get(entry.user_id, ()), strict=False)
            if a is not None and b is not None
        ]
        if len(pairs) > 1 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            tau = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
            if tau < 1 - 1e-9:  # the same order, but for its last digits
                apart.append((tau, entry.user_id))
    return tuple(user_id for _, user_id in sorted(apart, key=lambda pair: pair[0])[:n])


def _best_two(benchmark: Benchmark, summary: Summary) -> tuple[Cell, Cell] | None:
    """The best cell, and the best that has another template."""
    partial = partial_rows(summary.rows)
    means = {
        row.name: (row.name not in partial, row.metrics[METRIC].mean)
        for row in summary.rows
        if row.kind == "cell" and row.users
    }
    known = (cell for cell in benchmark.cells if benchmark.names[cell.key] in means)
    ordered = sorted(known, key=lambda cell: means[benchmark.names[cell.key]], reverse=True)
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


def _orders(lists: Sequence[UserList], answers: Answers, seed: int) -> tuple[tuple[int, ...], ...]:
    """The rankings that the figures are of: ties fall as they did there."""
    return rank_lists(lists, scores_of(answers.proper), seed=seed).orders


def _ranking(
    benchmark: Benchmark, one: UserList, order: Sequence[int], result: Result | None
) -> tuple[RankedTitle, ...]:
    known = benchmark.asked.known
    shown = []
    for column in order:
        item_id = one.candidates[column]
        item = known.items[item_id]
        image = str(known.folder / item.image) if known.folder and item.image else ""
        score = result.scores[column] if result else None
        shown.append(RankedTitle(item.name, image, item_id == one.target, score))
    return tuple(shown)
