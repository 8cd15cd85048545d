"""Lists to fit a gate on: each user's last item in the index is held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from llmrec.errors import DataError, check_count
from llmrec.prompting import context_of
from llmrec.records import Usage
from llmrec.reranking.driver import windows
from llmrec.reranking.gate import GateLists
from llmrec.reranking.rankings import gate_list, parts_of, retrieval_signal
from llmrec.reranking.requests import Request
from llmrec.reranking.reranker import Reranker
from llmrec.retrieval import Index, Retriever, hold_out


@dataclass(frozen=True, slots=True)
class HeldOutLists:
    """Requests with one relevant candidate each, and the index without the held-out rows.

    ``tried`` counts all users tried, including those whose relevant item was not retrieved.
    """

    index: Index
    requests: tuple[Request, ...]
    tried: int


def hold_out_last(
    index: Index, *, n_candidates: int = 100, users: int | None = None, seed: int = 0
) -> HeldOutLists:
    """Hold out every user's last interaction and retrieve candidates without it.

    Held-out rows count in no history and no popularity. A user needs at least four items; repeated
    items count at their first interaction.

    Args:
        index: The index; not changed.
        n_candidates: Candidates to retrieve for each user.
        users: Maximum number of lists, from users in random order; None takes all.
        seed: Random seed for that order.

    Raises:
        OptionError: A number is below 1.
        DataError: No user's held-out item was retrieved.
    """
    check_count("n_candidates", n_candidates)
    check_count("seed", seed, least=0)
    if users is not None:
        check_count("users", users)
    known, targets = hold_out(index)
    ordered = sorted(targets)
    drawn = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    requests: list[Request] = []
    tried = 0
    for held in _retrieved(known, drawn, targets, n_candidates):
        tried += 1
        if held is not None:
            requests.append(held)
        if len(requests) == users:
            break
    if not requests:
        raise DataError(
            f"No list to fit a gate on: the held-out item is not among the {n_candidates} "
            f"retrieved candidates of any of the {len(targets):,} users with four items or more.",
            hint="Retrieve more candidates, or keep the default weights.",
        )
    return HeldOutLists(known, tuple(requests), tried)


def judged_lists(
    reranker: Reranker, requests: Sequence[Request], *, progress: bool = False
) -> tuple[GateLists, Usage]:
    """Score every list with the language model, many users per call; also return its usage.

    Args:
        reranker: Made with the index of :func:`hold_out_last`.
        requests: Each with one relevant candidate.
        progress: Show a progress bar on stderr if it is a terminal.
    """
    lists, usage = list[GateLists](), Usage()
    with tqdm(
        total=len(requests),
        desc="Asking the model",
        unit="user",
        disable=None if progress else True,
    ) as bar:
        for batch in windows(requests, reranker.model):
            for request, judged in zip(batch, reranker.judge_many(batch), strict=True):
                ids = [candidate.item_id for candidate in request.candidates]
                (target,) = request.relevant
                signals = {**retrieval_signal(request.candidates), **parts_of(judged)}
                lists.append(gate_list(request, signals, ids.index(target)))
                usage = sum((each.usage for each in judged.values()), start=usage)
            bar.update(len(batch))
    return GateLists.joined(lists), usage


def _retrieved(
    known: Index, user_ids: Sequence[str], targets: Mapping[str, str], k: int
) -> Iterator[Request | None]:
    """Retrieve for each user; None if the target is not among the candidates."""
    retriever, context = Retriever(known), context_of(known)
    for user_id in user_ids:
        user = known.user(user_id)
        found = retriever.retrieve(user, k)
        target = targets[user_id]
        reached = any(candidate.item_id == target for candidate in found)
        yield Request(user, found, context, frozenset({target})) if reached else None
