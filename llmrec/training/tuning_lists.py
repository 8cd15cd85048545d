"""Make the data of a tuning from an index: lists out of fold, and windows of the histories."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from llmrec.documents import parse_json
from llmrec.errors import DataError, check_count
from llmrec.models import MOST_LABELS, ContinuationRequest
from llmrec.models.labels import label_tokens
from llmrec.models.prefix_tree import common_length
from llmrec.models.transformers_model import TransformersModel
from llmrec.prompting import Budget, Context, Template, field_text
from llmrec.records import Item, Prompt, User
from llmrec.reranking import Listwise, Pointwise, Strategy
from llmrec.reranking.fitting import HeldOutLists, hold_out_last
from llmrec.reranking.gate import RETRIEVAL
from llmrec.reranking.requests import Request
from llmrec.reranking.strategy import LabelAsk, Question, writer_of
from llmrec.retrieval import Index
from llmrec.retrieval.signals import history_rows
from llmrec.training.packed_rows import Segment, Tokens
from llmrec.training.tuning_data import GrowingPrompt, Rows, TuningData, TuningList, windows_of

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


@dataclass(frozen=True)
class ListWriter:
    """Writes lists as tokens, as a strategy asks them.

    Args:
        strategy: likelihood, pointwise or listwise.
        template: A template of it.
        model: Whose tokenizer and limits.
        context: The items, with their reviews; prompts read no interactions of others.
        item_ids: Ids by item row.
    """

    strategy: str
    template: Template
    model: TransformersModel
    context: Context
    item_ids: Sequence[str]
    budget: Budget = field(default_factory=Budget)
    _prompts: dict[tuple[str, ...], tuple[Prompt, Tokens]] = field(default_factory=dict, repr=False)
    _titles: dict[tuple[int, bool], Tokens] = field(default_factory=dict, repr=False)

    def __call__(self, user: User, items: Rows) -> Segment:
        """A user's prompt with what each item's score is read from."""
        named = tuple(self.context.items[self.item_ids[row]] for row in items.tolist())
        question = Question(user, named, self.context, self.budget)
        if self.strategy != "likelihood":
            return self._labelled(question)
        key = (user.user_id, *(row.item_id for row in user.history))
        if key not in self._prompts:
            room = self.budget.title + 1
            writer = writer_of(self.template, question, self.model, room=room)
            prompt = writer.without_candidate().prompts[0]
            before, _ = ContinuationRequest(prompt, "x").split()
            self._prompts[key] = prompt, self.model.encode_prompts([before])[0]
        prompt, tokens = self._prompts[key]
        titles = zip(items.tolist(), named, strict=True)
        return Segment(tokens, tuple(self._title(prompt, row, item) for row, item in titles))

    def _title(self, prompt: Prompt, row: int, item: Item) -> Tokens:
        """Tokens of a title after a prompt, with its end, as `score_continuations` makes them."""
        key = row, bool(prompt.text and prompt.text.endswith(" "))
        if key not in self._titles:
            name = field_text(item.name, self.budget.title, self.model) or "?"
            before, text = ContinuationRequest(prompt, name, end=True).split()
            end = self.model.encode_end() if before.text is None else []
            self._titles[key] = np.array([*self.model.encode(text), *end], dtype=np.int32)
        return self._titles[key]

    def _labelled(self, question: Question) -> Segment:
        """The prompts that the strategy asks first, and all if the candidates are few."""
        made: Strategy = Pointwise(self.template)
        if self.strategy == "listwise":
            made = Listwise(self.template, window=MOST_LABELS)
        asks = [
            ask.request for ask in next(made.ask(question, self.model)) if isinstance(ask, LabelAsk)
        ]
        labels = tuple(label_tokens(self.model, label) for label in asks[0].labels)
        first, *others = self.model.encode_prompts([ask.prompt for ask in asks])
        if not others:
            return Segment(first, labels=labels)
        # Each prompt keeps a token of its own: it is read where it ends.
        shared = min(common_length(first[:-1], other[:-1]) for other in others)
        return Segment(first[:shared], tuple(t[shared:] for t in (first, *others)), labels=labels)


def tuning_data(
    index: Index,
    model: TransformersModel,
    template: Template,
    *,
    strategy: str = "likelihood",
    teacher: Path | None = None,
    events: int = 3,
    lists: int | None = None,
    validation: int = 500,
    windows: bool = False,
    seed: int = 0,
) -> TuningData:
    """Hold out events: lists of each user's last for validation, those before it for training.

    Args:
        index: The index; not changed.
        model: Whose tokenizer and limits.
        template: A template of the strategy.
        strategy: likelihood, pointwise or listwise.
        teacher: Results of `llmrec rerank --out`: lists and their scores are learned instead of
            the users' events.
        events: Training events of a user.
        lists: Training lists of each event, or of the teacher, at most.
        validation: Validation lists at most, of those whose target is among the first 20.
        windows: Make windows of the histories before the last event, instead of training lists.
        seed: Random seed of the order of users.

    Raises:
        DataError: No user's last item was retrieved, or the teacher ranked none of these users.
        OptionError: ``windows`` is set, and the template does not go on from title to title.
        PromptError: The template cannot be rendered.
    """
    others = 0 if windows or teacher else events
    first, *held = out_of_fold_lists(index, events=1 + others, seed=seed)
    budget = Budget()
    rows = {item_id: row for row, item_id in enumerate(index.item_ids)}
    names = [field_text(i.name, budget.title, model) for i in index.items.values()]
    cut: Iterable[Segment] = ()
    if windows:
        users = map(first.index.user, first.index.user_ids)
        sequences = [np.array(history_rows(first.index, user)) for user in users]
        growing = GrowingPrompt.of(template, model, budget.history_items)
        cut = windows_of(sequences, names, model.reader, growing, size=budget.history_items)
    judged = [entry.top(TOP) for entry in lists_of(first.requests, rows)]
    return TuningData(
        strategy,
        ListWriter(strategy, template, model, first.requests[0].context, index.item_ids, budget),
        np.asarray(first.index.popularity, dtype=np.int64),
        list(cut),
        taught_lists(teacher, index, first.index)[:lists]
        if teacher
        else [e for some in held for e in lists_of(some.requests, rows)[:lists]],
        [entry for entry in judged if entry is not None][:validation],
        sha256("\0".join([index.fingerprint, *names]).encode()).hexdigest(),
    )


def lists_of(requests: Iterable[Request], rows: Mapping[str, int]) -> list[TuningList]:
    """Those of two candidates or more; the relevant one is among them."""
    return [
        TuningList(
            request.user,
            np.array([rows[candidate.item_id] for candidate in request.candidates]),
            np.array([candidate.score for candidate in request.candidates]),
            next(i for i, c in enumerate(request.candidates) if c.item_id in request.relevant),
        )
        for request in requests
        if len(request.candidates) > 1
    ]


def taught_lists(path: Path, index: Index, known: Index) -> list[TuningList]:
    """Read the lists and scores of a stronger ranker.

    Items that the user has met are left out: one of them is held out for validation. The history
    is that without it.

    Args:
        path: JSON lines of `llmrec rerank --out`.
        index: Whose users and items.
        known: The same without the validation rows.

    Raises:
        DataError: The file cannot be read, or no row has two scored candidates of a known user.
    """
    found: list[TuningList] = []
    total, users = 0, frozenset(known.user_ids)
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = parse_json(line)
            total += 1
            user_id = str(row.get("user_id"))
            if user_id not in users:
                continue
            met = {each.item_id for each in index.user(user_id).history}
            items = [
                each
                for each in row.get("items", ())
                if each["score"] is not None
                and each["item_id"] in index.items
                and each["item_id"] not in met
            ]
            items.sort(key=lambda each: int(each["retrieval_rank"]))
            if len(items) < 2:
                continue
            scores = np.array([float(each["score"]) for each in items])
            places = [-float(each["retrieval_rank"]) for each in items]
            given = [each["signals"].get(RETRIEVAL, np.nan) for each in items]
            found.append(
                TuningList(
                    known.user(user_id),
                    np.array([index.row(each["item_id"]) for each in items]),
                    np.array(places if np.isnan(given).any() else given),
                    int(scores.argmax()),
                    scores,
                )
            )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"The teacher's file {path} cannot be read: {error}.",
            hint="Give a JSON lines file that `llmrec rerank --out` wrote.",
        ) from error
    if not found:
        raise DataError(
            f"None of the {total} rows of {path} ranks two or more items, new to a user of the "
            "index.",
            hint="Rerank requests with user_id and candidates of this index.",
        )
    logger.info("%d of the %d rows of %s are used for training", len(found), total, path)
    return found
