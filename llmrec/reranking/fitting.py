"""Lists to fit fusion weights on, from an index alone: each user's last interaction is foretold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from llmrec.errors import DataError, OptionError
from llmrec.records import Candidate, User
from llmrec.reranking.reranker import Reranker, signal_table
from llmrec.reranking.score_fusion import SignalList
from llmrec.retrieval import Index, Retriever, hold_out


@dataclass(frozen=True, slots=True)
class HeldOutList:
    """What the retriever proposes to a user whose last interaction it does not know.

    ``target`` is the place of that interaction's item among the candidates, from 0.
    """

    user: User
    candidates: tuple[Candidate, ...]
    target: int


@dataclass(frozen=True, slots=True)
class HeldOutLists:
    """Lists in which the target was retrieved, and the index that knows no target.

    ``tried`` counts the users that were looked at for them.
    """

    index: Index
    lists: tuple[HeldOutList, ...]
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
    lists: list[HeldOutList] = []
    tried = 0
    for held in _retrieved(known, drawn, targets, candidates):
        tried += 1
        if held is not None:
            lists.append(held)
        if len(lists) == users:
            break
    if not lists:
        raise DataError(
            f"No list to fit weights on: of {len(targets):,} users with four items or more, the "
            f"last one's item is among the {candidates} retrieved for nobody.",
            hint="Ask for more candidates; without such users the zero-shot weights serve.",
        )
    return HeldOutLists(known, tuple(lists), tried)


def signal_lists(
    reranker: Reranker, lists: Sequence[HeldOutList], *, progress: bool = False
) -> tuple[SignalList, ...]:
    """Ask the language model about every list.

    Args:
        reranker: Made with the index that knows no target.
        lists: Of :func:`hold_out_last`.
        progress: Show a bar on stderr, where that is a terminal.
    """
    bar = tqdm(lists, desc="Asking the model", unit="user", disable=None if progress else True)
    return tuple(
        SignalList(
            {
                **signal_table(held.candidates),
                **{
                    name: judgement.scores
                    for name, judgement in reranker.judge(held.user, held.candidates).items()
                },
            },
            held.target,
        )
        for held in bar
    )


def _retrieved(
    known: Index, user_ids: Sequence[str], targets: Mapping[str, str], k: int
) -> Iterator[HeldOutList | None]:
    """Retrieve for one user after another; None where the target is not among the candidates."""
    retriever = Retriever(known)
    for user_id in user_ids:
        user = known.user(user_id)
        found = retriever.retrieve(user, k)
        place = [candidate.item_id for candidate in found]
        target = targets[user_id]
        yield HeldOutList(user, found, place.index(target)) if target in place else None
