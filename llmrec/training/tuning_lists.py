"""Make the data of a tuning from an index: lists out of fold, and windows of the histories."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from llmrec.errors import DataError, check_count
from llmrec.models import ContinuationRequest, LanguageModel
from llmrec.models.transformers_model import TransformersModel
from llmrec.prompting import Budget, Template, field_text
from llmrec.records import Prompt, User
from llmrec.reranking.fitting import HeldOutLists, hold_out_last
from llmrec.reranking.requests import Request
from llmrec.reranking.strategy import Question, writer_of
from llmrec.retrieval import Index
from llmrec.retrieval.signals import history_rows
from llmrec.training.packed_rows import Tokens
from llmrec.training.tuning_data import GrowingPrompt, TuningData, TuningList, windows_of

logger = logging.getLogger(__name__)

TOP = 20
"""Candidates of a validation list."""


def out_of_fold_lists(
    index: Index,
    *,
    events: int = 4,
    n_candidates: int = 100,
    users: int | None = None,
    seed: int = 0,
) -> tuple[HeldOutLists, ...]:
    """Make lists of each user's last events, the last event first.

    An event's retriever knows neither that row of any user nor a later one: not in its histories,
    popularity, neighbours, co-occurrence or keywords. Its weights are the index's.

    Args:
        index: The index; not changed.
        events: Events of a user.
        n_candidates: Candidates to retrieve for each.
        users: Maximum number of lists of each event; None takes all.
        seed: Random seed of the order of users.

    Raises:
        OptionError: A number is below 1.
        DataError: No user's last item was retrieved.
    """
    check_count("events", events)
    found: list[HeldOutLists] = []
    for _ in range(events):
        try:
            held = hold_out_last(index, n_candidates=n_candidates, users=users, seed=seed)
        except DataError:
            if not found:
                raise
            break  # no user has as many events
        found.append(held)
        index = held.index
    return tuple(found)


def tuning_data(
    index: Index,
    model: TransformersModel,
    template: Template,
    *,
    events: int = 3,
    lists: int | None = None,
    validation: int = 500,
    windows: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> TuningData:
    """Hold out events and turn prompts, titles and histories into tokens.

    Validation lists are of each user's last event, training lists of those before it.

    Args:
        index: The index; not changed.
        model: Whose tokenizer and limits.
        template: A likelihood template.
        events: Training events of a user.
        lists: Training lists of each event at most.
        validation: Validation lists at most, of those whose target is among the first 20.
        windows: Make windows of the histories before the last event.
        seed: Random seed of the order of users.
        progress: Show a bar on stderr, where that is a terminal.

    Raises:
        DataError: No user's last item was retrieved.
        OptionError: ``windows`` is set, and the template does not go on from title to title.
        PromptError: The template cannot be rendered.
    """
    held = out_of_fold_lists(index, events=events + 1, seed=seed)
    first, *others = held
    budget = Budget()
    rows = {item_id: row for row, item_id in enumerate(index.item_ids)}
    titles: dict[int, Tokens] = {}

    def made(requests: Sequence[Request], what: str) -> list[TuningList]:
        bar = tqdm(requests, desc=what, unit="list", disable=None if progress else True)
        return [_tokens(request, rows, titles, model, template, budget) for request in bar]

    judged = [entry.top(TOP) for entry in made(first.requests, "Writing validation prompts")]
    trained = [r for entry in others for r in entry.requests[:lists]]
    growing = GrowingPrompt.of(template, model, budget.history_items) if windows else None
    users = map(first.index.user, first.index.user_ids)
    sequences = [np.array(history_rows(first.index, user)) for user in users]
    names = [field_text(i.name, budget.title, model) for i in index.items.values()]
    empty = Question(User(""), (), first.requests[0].context, budget)
    return TuningData(
        titles,
        np.array(model.encode_prompt(_prompt(empty, model, template)), dtype=np.int32),
        np.asarray(first.index.popularity, dtype=np.int64),
        []
        if growing is None
        else list(windows_of(sequences, names, model.reader, growing, size=budget.history_items)),
        made(trained, "Writing training prompts"),
        [entry for entry in judged if entry is not None][:validation],
    )


def _prompt(question: Question, model: LanguageModel, template: Template) -> Prompt:
    """The prompt up to where a title follows."""
    writer = writer_of(template, question, model, room=question.budget.title + 1)
    prompt, _ = ContinuationRequest(writer.without_candidate().prompts[0], "x").split()
    return prompt


def _tokens(
    request: Request,
    rows: dict[str, int],
    titles: dict[int, Tokens],
    model: TransformersModel,
    template: Template,
    budget: Budget,
) -> TuningList:
    """A request as the likelihood strategy asks it; new titles are added."""
    question = Question(request.user, (), request.context, budget)
    writer = writer_of(template, question, model, room=budget.title + 1)
    prompt = writer.without_candidate().prompts[0]
    items = np.array([rows[candidate.item_id] for candidate in request.candidates])
    for candidate, row in zip(request.candidates, items.tolist(), strict=True):
        if row not in titles:
            name = field_text(request.context.items[candidate.item_id].name, budget.title, model)
            titles[row] = _title(prompt, name or "?", model)
    before, _ = ContinuationRequest(prompt, "x").split()
    target = next(i for i, c in enumerate(request.candidates) if c.item_id in request.relevant)
    return TuningList(
        np.array(model.encode_prompt(before), dtype=np.int32),
        items,
        np.array([candidate.score for candidate in request.candidates]),
        target,
    )


def _title(prompt: Prompt, name: str, model: TransformersModel) -> Tokens:
    """Tokens of a title after a prompt, with its end, as `score_continuations` makes them."""
    before, text = ContinuationRequest(prompt, name, end=True).split()
    end = model.encode_end() if before.text is None else []
    return np.array([*model.encode(text), *end], dtype=np.int32)
