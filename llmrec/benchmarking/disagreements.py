"""Users whose candidates two rows rank most differently, with prompts and rankings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import stats

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.results import CellResults, Result, Results
from llmrec.benchmarking.rows import METRIC, rank_lists
from llmrec.benchmarking.summary import Summary, partial_rows
from llmrec.benchmarking.users import BenchmarkData, UserList
from llmrec.errors import LlmrecError
from llmrec.items import picture_path
from llmrec.models import LanguageModel
from llmrec.prompting import Budget
from llmrec.records import Prompt
from llmrec.reranking.strategy import request_of

logger = logging.getLogger(__name__)

SHOWN = 10
ReaderOf = Callable[[str], LanguageModel]
"""The tokenizer of a model, by the model's reference; it is never asked to answer."""


@dataclass(frozen=True, slots=True)
class RankedTitle:
    """An item of a ranking as the report shows it; ``image`` is a path, "" where there is none."""

    title: str
    image: str
    is_target: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A user with different rankings in two rows: each row's first prompt and ranking."""

    user_id: str
    rows: tuple[str, str]
    history: tuple[str, ...]
    prompts: tuple[str, str]
    rankings: tuple[tuple[RankedTitle, ...], ...]


def disagreements(
    data: BenchmarkData,
    cells: Sequence[Cell],
    summary: Summary,
    results: Results,
    seed: int,
    reader_of: ReaderOf,
) -> tuple[Disagreement, ...]:
    """Users with the largest disagreement between the two best cells of different templates."""
    pair = _best_two(cells, summary)
    if pair is None:
        return ()
    users = {one.user_id: at for at, one in enumerate(data.users)}
    found = [results.of(cell.key, data.users) for cell in pair]
    orders = [rank_lists(data.users, one.scores, seed=seed).orders for one in found]
    made = []
    for user_id in disagreeing_users(data.users, *found, n=SHOWN):
        at = users[user_id]
        one = data.users[at]
        question = data.question(one, one.candidates, Budget())
        made.append(
            Disagreement(
                user_id,
                (pair[0].name, pair[1].name),
                tuple(question.context.items[r.item_id].name for r in question.user.history),
                (_prompt(data, pair[0], one, reader_of), _prompt(data, pair[1], one, reader_of)),
                tuple(
                    _ranking(data, one, order[at], own.main[at])
                    for order, own in zip(orders, found, strict=True)
                ),
            )
        )
    return tuple(made)


def disagreeing_users(
    users: Sequence[UserList], first: CellResults, second: CellResults, *, n: int
) -> tuple[str, ...]:
    """The users whose candidates two cells rank most differently, the most different first.

    Returns:
        User ids by Kendall's tau of the scores, lowest first. Left out are those who failed in
        either, have equal rankings, or have fewer than two distinct scores in either.
    """
    apart = []
    for one, *both in zip(users, first.scores, second.scores, strict=True):
        sides = [own or () for own in both]
        pairs = [(a, b) for a, b in zip(*sides, strict=False) if a is not None and b is not None]
        if len(pairs) > 1 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            tau = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
            if tau < 1 - 1e-9:  # the same order, up to rounding
                apart.append((tau, one.user_id))
    return tuple(user_id for _, user_id in sorted(apart, key=lambda pair: pair[0])[:n])


def _best_two(cells: Sequence[Cell], summary: Summary) -> tuple[Cell, Cell] | None:
    """The best cell, and the best that has another template."""
    partial = partial_rows(summary.rows)
    means = {
        row.name: (row.name not in partial, row.metrics[METRIC].mean)
        for row in summary.rows
        if row.kind == "cell" and row.users
    }
    known = (cell for cell in cells if cell.name in means)
    ordered = sorted(known, key=lambda cell: means[cell.name], reverse=True)
    others = [cell for cell in ordered[1:] if cell.template != ordered[0].template]
    return (ordered[0], others[0]) if others else None


def _prompt(data: BenchmarkData, cell: Cell, one: UserList, reader_of: ReaderOf) -> str:
    """The first prompt of a cell for a user, or why there is none."""
    try:
        strategy, budget = cell.make()
        question = data.question(one, one.candidates, budget)
        asks = next(strategy.ask(question, reader_of(cell.model)))
    except LlmrecError as error:
        return f"({error})"
    return _text(request_of(asks[0]).prompt)


def _text(prompt: Prompt) -> str:
    if prompt.text is not None:
        return prompt.text
    return f"{prompt.system}\n\n{prompt.user}" if prompt.system else prompt.user


def _ranking(
    data: BenchmarkData, one: UserList, order: Sequence[int], result: Result | None
) -> tuple[RankedTitle, ...]:
    items = data.question(one, one.candidates, Budget()).candidates
    shown = []
    for column in order:
        item = items[column]
        image = picture_path(item, data.folder, data.media_root)
        score = result.scores[column] if result else None
        shown.append(RankedTitle(item.name, image, item.item_id in one.targets, score))
    return tuple(shown)
