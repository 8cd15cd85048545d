"""Lists to fit fusion weights on, from an index alone: each user's last item is held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from llmrec.errors import DataError, OptionError
from llmrec.prompting import context_of
from llmrec.reranking.requests import Request
from llmrec.reranking.reranker import WINDOW, Reranker, retrieval_signal
from llmrec.retrieval import Index, Retriever, SignalList, hold_out


@dataclass(frozen=True, slots=True)
class HeldOutLists:
    """Requests whose one relevant item was retrieved, and the index without the held-out rows.

    ``tried`` counts the users that were looked at for them.
    """

    index: Index
    requests: tuple[Request, ...]
    tried: int


def hold_out_last(
    index: Index, *, candidates: int = 100, users: int | None = None, seed: int = 0
) -> HeldOutLists:
    """Hold out every user's last interaction and retrieve each one's candidates without it.

    None of the held-out rows counts in any history or popularity. A user qualifies with at least
    four items; an item met more than once counts at the first meeting.

    Args:
        index: Whose users; it is not changed.
        candidates: How many to retrieve for a user.
        users: Stop at so many lists, the users drawn by ``seed``; None takes all.
        seed: Seed of the draw.

    Raises:
        OptionError: A number is below 1.
        DataError: The target was retrieved for nobody.
    """
    for name, value in (("candidates", candidates), ("users", users)):
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}.", hint="Give 1 or more.")
    known, targets = hold_out(index)
    drawn = [sorted(targets)[i] for i in np.random.default_rng(seed).permutation(len(targets))]
    requests: list[Request] = []
    tried = 0
    for held in _retrieved(known, drawn, targets, candidates):
        tried += 1
        if held is not None:
            requests.append(held)
        if len(requests) == users:
            break
    if not requests:
        raise DataError(
            f"No list to fit weights on: of {len(targets):,} users with four items or more, the "
            f"last one's item is among the {candidates} retrieved for nobody.",
            hint="Ask for more candidates; without such users the zero-shot weights serve.",
        )
    return HeldOutLists(known, tuple(requests), tried)


def signal_lists(
    reranker: Reranker, requests: Sequence[Request], *, progress: bool = False
) -> tuple[SignalList, ...]:
    """Ask the language model about every list, `WINDOW` users in a call.

    Args:
        reranker: Made with the index of :func:`hold_out_last`.
        requests: Each with one relevant candidate.
        progress: Show a bar on stderr, where that is a terminal.
    """
    lists: list[SignalList] = []
    with tqdm(
        total=len(requests),
        desc="Asking the model",
        unit="user",
        disable=None if progress else True,
    ) as bar:
        for start in range(0, len(requests), WINDOW):
            some = requests[start : start + WINDOW]
            for request, judged in zip(some, reranker.judge_many(some), strict=True):
                scores = {name: judgement.scores for name, judgement in judged.items()}
                ids = [candidate.item_id for candidate in request.candidates]
                (target,) = request.relevant
                signals = {**retrieval_signal(request.candidates), **scores}
                lists.append(SignalList(signals, ids.index(target)))
            bar.update(len(some))
    return tuple(lists)


def _retrieved(
    known: Index, user_ids: Sequence[str], targets: Mapping[str, str], k: int
) -> Iterator[Request | None]:
    """Retrieve for one user after another; None where the target is not among the candidates."""
    retriever, context = Retriever(known), context_of(known)
    for user_id in user_ids:
        user = known.user(user_id)
        found = retriever.retrieve(user, k)
        target = targets[user_id]
        reached = any(candidate.item_id == target for candidate in found)
        yield Request(user, found, context, frozenset({target})) if reached else None
