"""The users of a benchmark and the candidates that every cell ranks for them.

An index and a file of labelled requests both become `BenchmarkData`. Targets of an index are held
out from histories, popularity counts, reviews and the order of the candidates.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic_core import to_json
from tqdm import tqdm

from llmrec.benchmarking.plan import USUAL_USERS, BenchmarkPlan
from llmrec.catalog import Catalog, leave_one_out, plain_value, table_rows
from llmrec.documents import parse_json
from llmrec.errors import DataError, LlmrecError, OptionError, shown
from llmrec.evaluation import discrimination_lists
from llmrec.prompting import Budget, Context, context_of
from llmrec.records import Candidate, Insight, Interaction, Item, User
from llmrec.reranking.requests import Request, items_context, read_request
from llmrec.reranking.strategy import Question, question_about
from llmrec.resumable import fingerprint
from llmrec.retrieval import Index, Retriever, hold_out

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UserList:
    """A user, and the candidates that every cell ranks for them.

    ``targets`` are the relevant items: one for a held-out interaction, one or more for a labelled
    request. ``candidates`` are in the order that prompts show. ``retrieval`` has the retriever's
    score of each, None where it has none; ``popularity`` the training interactions of each, empty
    where unknown. ``activity`` is the length of the history, ``target_popularity`` the target's
    training interactions.
    """

    user_id: str
    targets: tuple[str, ...]
    candidates: tuple[str, ...]
    retrieval: tuple[float | None, ...]
    popularity: tuple[float, ...] = ()
    activity: int = 0
    target_popularity: int = 0

    @property
    def columns(self) -> tuple[int, ...]:
        """Positions of the targets among the candidates."""
        return tuple(at for at, item in enumerate(self.candidates) if item in self.targets)

    @property
    def reached(self) -> bool:
        """Whether any target is among the candidates: end to end it need not be."""
        return bool(self.columns)


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """Facts of items by id; missing facts skip their measure.

    ``vectors`` are float [d]; ``training_users`` counts the users of the data set.
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    training_users: int = 0


@dataclass(frozen=True)
class BenchmarkData:
    """Users with their candidates, of an index or of labelled requests.

    ``qualifying`` users have a target; ``users`` were sampled from them. ``about`` describes the
    data in run.json. ``known`` returns a user with the context of the items, ``facts`` the facts of
    all candidates. Paths of pictures are relative to ``folder``; ``media_root`` is also allowed.
    """

    users: tuple[UserList, ...]
    qualifying: int
    about: Mapping[str, object]
    known: Callable[[str], tuple[User, Context]]
    facts: Callable[[], ItemFacts]
    folder: Path | None = None
    media_root: Path | None = None

    def question(self, one: UserList, item_ids: Sequence[str], budget: Budget) -> Question:
        """The question for a user's candidates in this order."""
        user, context = self.known(one.user_id)
        return question_about(context, user, item_ids, budget)


def data_of(
    plan: BenchmarkPlan, *, progress: bool = False, requests: str | None = None
) -> BenchmarkData:
    """Open the index or read the requests of a plan, and sample its users.

    A smaller sample is a prefix of a larger one, so that a run can be extended.

    Args:
        plan: The data and how many users of it.
        progress: Show progress bars on stderr if it is a terminal.
        requests: The content of the plan's requests; None reads the file.

    Raises:
        StorageError: The index cannot be opened.
        DataError: The requests cannot be read, or one has no relevant candidate.
        OptionError: There are fewer users than asked for, or fewer items than candidates.
    """
    index = None if plan.index is None else Index.open(plan.index, media_root=plan.media_root)
    if plan.requests is not None:
        return labelled_data(plan.requests, plan, index, requests)
    if index is None:
        raise OptionError("A benchmark needs an index or requests.")
    return index_data(index, plan, progress=progress)


def index_data(index: Index, plan: BenchmarkPlan, *, progress: bool = False) -> BenchmarkData:
    """Hold out each user's target and make candidate lists for the sampled users."""
    if plan.n_candidates > len(index.items):
        raise OptionError(
            f"n_candidates is {plan.n_candidates}; the index has {len(index.items)} items.",
            hint="Ask for fewer candidates.",
        )
    known, targets = hold_out(index, plan.part)
    known = replace(known, weights={}, gates={})  # those were fitted on these very targets
    sampled: dict[str, tuple[str, ...]] = {}
    if plan.protocol == "discrimination":
        catalog = Catalog(index.items, tuple(index.interactions))
        lists = discrimination_lists(
            catalog,
            leave_one_out(catalog, min_train=2),
            which=plan.part,
            negatives=plan.n_candidates - 1,
            seed=plan.seed,
        )
        sampled = {one.user.user_id: one.item_ids for one in lists}
    qualifying = sorted(sampled or targets)
    drawn = [qualifying[at] for at in _drawn(plan, len(qualifying))]
    popularity = Counter(row.item_id for row in known.interactions)
    retriever, users = Retriever(known), list[UserList]()
    for user_id in tqdm(
        drawn, desc="Making candidate lists", unit="user", disable=None if progress else True
    ):
        user = known.user(user_id)
        if user_id in sampled:
            scored = {c.item_id: c for c in retriever.candidates(user, sampled[user_id])}
            candidates = [scored[item_id] for item_id in sampled[user_id]]
        else:
            candidates = list(retriever.retrieve(user, plan.n_candidates))
        users.append(
            UserList(
                user_id,
                (targets[user_id],),
                tuple(candidate.item_id for candidate in candidates),
                stored_scores([candidate.score for candidate in candidates]),
                tuple(float(popularity[candidate.item_id]) for candidate in candidates),
                len(user.history),
                popularity[targets[user_id]],
            )
        )

    def facts() -> ItemFacts:
        offered = sorted({item_id for one in users for item_id in one.candidates})
        return ItemFacts(
            titles={item_id: known.items[item_id].name for item_id in offered},
            vectors={item_id: known.vectors[known.row(item_id)] for item_id in offered},
            training_users=len({row.user_id for row in known.interactions}),
        )

    context = context_of(known)
    about = {
        "dataset": {
            "name": (plan.index or Path()).name,
            "users": len(qualifying),
            "items": len(known.items),
            "interactions": len(known.interactions),
        },
        "fingerprint": index.fingerprint,
        "insights": _digest(index.insights),
    }
    return BenchmarkData(
        tuple(users),
        len(qualifying),
        about,
        lambda user_id: (known.user(user_id), context),
        facts,
        known.folder,
        known.media_root,
    )


def labelled_data(
    path: Path, plan: BenchmarkPlan, index: Index | None = None, lines: str | None = None
) -> BenchmarkData:
    """Read labelled requests, one JSON object a line, and sample from them.

    Candidates keep the order of the file; if that order reveals the relevant ones, prompts do too.

    Args:
        path: The requests; each has ``relevant`` beside what `read_request` takes.
        plan: How many are sampled, and the table of items whose ids they use.
        index: Provides items by id, beside that table.
        lines: The content of the file; None reads it.
    """
    known = None if index is None else context_of(index)
    if plan.items is not None:
        known = items_context(plan.items)
    try:
        content = path.read_bytes() if lines is None else lines.encode()
    except OSError as error:
        why = f"The requests {path} cannot be read: {error.strerror}."
        raise DataError(why, hint="Give a file of JSON lines.") from error
    requests: dict[str, Request] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            request = _labelled(line, known, f"{path} line {number}")
            name = request.request_id or request.user.user_id or f"line {number}"
            requests[name if name not in requests else f"{name} (line {number})"] = request
    names = sorted(requests)
    asked = {name: requests[name] for name in (names[at] for at in _drawn(plan, len(names)))}
    users = tuple(
        UserList(
            name,
            tuple(c.item_id for c in request.candidates if c.item_id in request.relevant),
            tuple(c.item_id for c in request.candidates),
            stored_scores([c.score for c in request.candidates]),
            activity=len(request.user.history),
        )
        for name, request in asked.items()
    )

    def facts() -> ItemFacts:
        titles = {
            c.item_id: request.context.items[c.item_id].name
            for request in asked.values()
            for c in request.candidates
        }
        return ItemFacts(titles=titles)

    if all(one.columns == tuple(range(len(one.columns))) for one in users):
        logger.warning(
            "The relevant candidates come first in every request of %s: prompts that show a list "
            "give them away. Shuffle the candidates.",
            path,
        )
    about = {
        "dataset": {"name": path.name, "requests": len(requests)},
        "fingerprint": fingerprint(content, plan.items.read_bytes() if plan.items else b""),
        "insights": "" if index is None else index.fingerprint,
    }
    return BenchmarkData(
        users,
        len(requests),
        about,
        lambda name: (asked[name].user, asked[name].context),
        facts,
        path.parent,
        plan.media_root,
    )


def _labelled(line: bytes, known: Context | None, where: str) -> Request:
    try:
        request = read_request(parse_json(line), known)
    except ValueError as error:
        raise DataError(
            f"{where} is not JSON: {error}.",
            hint="A benchmark reads JSON lines, one request each, with the key relevant.",
        ) from error
    except LlmrecError as error:
        raise DataError(f"{where}: {error.message}", hint=error.hint) from error
    if not request.relevant or len(request.candidates) < 2:
        raise DataError(
            f"{where} has {len(request.candidates)} candidates and {len(request.relevant)} "
            "relevant ones; needed are two or more, and one or more of them.",
            hint='Add "relevant": id or title of the candidate that the user chose, or several.',
        )
    return request


def request_lines(requests: Iterable[object]) -> str:
    """Requests in memory as JSON lines.

    Raises:
        DataError: One holds a value that JSON cannot.
    """
    rows = table_rows(requests, "requests")
    return "".join(f"{json.dumps(one, default=_json_value)}\n" for one in rows)


_NOT_OF_ITEMS = {"user_id", "signals"}


def _json_value(value: Any) -> object:  # noqa: ANN401 - whatever a request holds
    """An item, an array, an id or a date of a request as JSON."""
    plain = plain_value(value)
    if plain is not value:
        return plain
    if isinstance(value, Item | Candidate | Interaction):
        names = (each.name for each in fields(value) if each.name not in _NOT_OF_ITEMS)
        return {name: getattr(value, name) for name in names}
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, Iterable) or isinstance(value, set | frozenset | bytes):
        raise DataError(
            f"requests hold {shown(value)}; allowed are texts, numbers, items, mappings and lists."
        )
    return list(table_rows(value, "requests"))


def planted(one: UserList, place: int) -> tuple[str, ...]:
    """The candidates with the target at a place, counted from 1, and the others shuffled.

    The shuffle depends on user and place: the range of a user's values then shows the effect of
    any order, and the means over users show that of the target's place.
    """
    (target,) = one.targets
    rest = [item_id for item_id in one.candidates if item_id != target]
    seed = hashlib.sha256(f"{place}/{one.user_id}".encode()).digest()
    order = np.random.default_rng(list(seed)).permutation(len(rest))
    moved = [rest[at] for at in order]
    moved.insert(place - 1, target)
    return tuple(moved)


def stored_scores(scores: ArrayLike) -> tuple[float | None, ...]:
    """Scores as JSON can hold them: None for what is not finite."""
    values = np.asarray(scores, dtype=np.float64)
    return tuple(float(value) if np.isfinite(value) else None for value in values)


def _drawn(plan: BenchmarkPlan, qualifying: int) -> NDArray[np.int64]:
    """Which of the qualifying users are sampled."""
    if qualifying < (plan.users or 1):
        raise OptionError(
            f"users is {plan.users or 'not given'}; {qualifying} users qualify (they have a target "
            "that can be held out, or a request with relevant candidates).",
            hint=f"Ask for {qualifying} or fewer." if qualifying else "Use other data.",
        )
    order = np.random.default_rng(plan.seed).permutation(qualifying)
    return np.asarray(order[: plan.users or USUAL_USERS])


def _digest(insights: Mapping[str, Insight]) -> str:
    """Identifies captions, opinions and facts, which prompts show."""
    text = to_json({item_id: insights[item_id] for item_id in sorted(insights)}, fallback=dict)
    return hashlib.sha256(text).hexdigest()[:16] if insights else ""
