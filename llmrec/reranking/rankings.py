"""Rankings of one request: by the retriever, or by a gate over all signals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.records import Candidate, Item, RankedItem, Ranking, Status, Usage
from llmrec.reranking.gate import RETRIEVAL, Gate, GateLists, Scale
from llmrec.reranking.requests import Request
from llmrec.reranking.strategy import Judgement

ID_AS_TITLE = "id_as_title"
"""Fallback: the model reads an id, because the item has no title."""
_LIKE_AN_ID = re.compile(r"(?=[\w-]*\d)[\w-]+")


def gated_ranking(
    request: Request,
    known: Mapping[str, NDArray[np.float64]],
    judged: Mapping[str, Judgement],
    gate: Gate,
    catalogue: Scale,
    fallback: str = "",
) -> Ranking:
    """Rank by a gate.

    Args:
        request: The user and the candidates.
        known: The retriever's signal; without it a single strategy ranks alone.
        judged: By strategy.
        gate: The weights.
        catalogue: See :meth:`Gate.scores`.
        fallback: Why this is not the gate that was asked for.
    """
    signals = {**known, **{name: each.scores for name, each in judged.items()}}
    alone = len(signals) == 1
    usage, fallbacks = Usage(), Counter({fallback: 1} if fallback and not alone else {})
    for judgement in judged.values():
        usage += judgement.usage
        fallbacks.update(judgement.fallbacks)
    scored = ~np.all([np.isnan(each.scores) for each in judged.values()], axis=0)
    fallbacks["signal_missing"] += sum(int(np.isnan(each).sum()) for each in known.values())
    fallbacks["unscored"] += int((~scored).sum())
    fallbacks["cold_start"] += not request.user.history
    fallbacks[ID_AS_TITLE] = ids_as_titles(request)
    read = {**signals, **parts_of(judged)}
    if alone:
        fused, weights = next(iter(signals.values())), dict[str, float]()
    else:
        fused = gate.scores(gate_list(request, read), catalogue)[0]
        weights = gate.without(RETRIEVAL) if RETRIEVAL not in read else dict(gate.weights)
        fallbacks["part_missing"] += len({*gate.parts} - read.keys())
    scores = np.where(scored, fused, np.nan)
    # Stable: equal scores keep the given order, and so do NaN, which sort last.
    order = np.argsort(-scores, kind="stable")
    items = tuple(
        _row(request, rank, int(place), scores, signals) for rank, place in enumerate(order, 1)
    )
    return Ranking(
        request.user.user_id,
        items,
        usage,
        dict(+fallbacks),
        weights,
        {name: j.label_share for name, j in judged.items() if j.label_share is not None},
    )


def retrieval_ranking(request: Request, gate: Gate | None = None) -> Ranking:
    """A ranking without a language model: the retriever's order, or that of a gate without parts.

    Args:
        request: Candidates in the retriever's order.
        gate: A fitted one, of the retriever's score and popularity alone; None keeps the order.
    """
    scores = [candidate.score for candidate in request.candidates]
    if gate is not None:
        lists = gate_list(request, retrieval_signal(request.candidates))
        scores = gate.scores(lists)[0].tolist()
    order = np.arange(len(scores)) if gate is None else np.argsort(-np.array(scores), kind="stable")
    items = []
    for rank, place in enumerate(order.tolist(), start=1):
        c = request.candidates[place]
        title = _item(request, c).name
        items.append(
            RankedItem(
                c.item_id, rank, place + 1, scores[place], Status.NOT_ASKED, c.signals, title
            )
        )
    fallbacks = {} if request.user.history else {"cold_start": 1}
    weights = {} if gate is None else dict(gate.weights)
    return Ranking(request.user.user_id, tuple(items), fallbacks=fallbacks, weights=weights)


def parts_of(judged: Mapping[str, Judgement]) -> dict[str, NDArray[np.float64]]:
    """What a gate weighs of each strategy: its parts, or its score if it has none."""
    return {
        f"{name}.{part}" if part else name: values
        for name, each in judged.items()
        for part, values in (each.parts or {"": each.scores}).items()
    }


def gate_list(
    request: Request, signals: Mapping[str, NDArray[np.float64]], target: int | None = None
) -> GateLists:
    """One list as a gate reads it.

    Args:
        request: The user and the candidates.
        signals: By name, each ``[candidates]``; without ``retrieval`` it has no value.
        target: Place of the relevant candidate.
    """
    counts = [request.context.popularity(each.item_id) for each in request.candidates]
    known = {RETRIEVAL: np.full(len(counts), np.nan), **signals}
    return GateLists.of(known, counts, len(request.user.history), target)


def retrieval_signal(candidates: Sequence[Candidate]) -> dict[str, NDArray[np.float64]]:
    """The retriever's scores as one signal ``retrieval``; empty if no score is given.

    Raises:
        OptionError: A score is infinite: standardising would make all others equal.
    """
    scores = np.array([candidate.score for candidate in candidates], dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(scores))
    if infinite.size:
        candidate = candidates[int(infinite[0])]
        raise OptionError(
            f"Candidate {candidate.item_id!r} has the score {candidate.score}.",
            hint="Give a finite score, or nan if there is none.",
        )
    return {} if np.isnan(scores).all() else {RETRIEVAL: scores}


def ids_as_titles(request: Request) -> int:
    """Number of candidates of whose title the model reads the id.

    These have no title and no description. Where all entries of the request are single words with
    digits, such as ``"1193"`` or ``"B00X4WHP5E"``, they are taken for ids too.
    """
    rows = request.user.history
    ids = dict.fromkeys([c.item_id for c in request.candidates] + [row.item_id for row in rows])
    items = [request.context.items[each] for each in ids if each in request.context.items]
    texts = [item.title for item in items if item.title]
    like_ids = all(_LIKE_AN_ID.fullmatch(text) for text in texts)
    named = (request.context.items[candidate.item_id] for candidate in request.candidates)
    return sum(item.name == item.item_id and (not item.title or like_ids) for item in named)


def _item(request: Request, candidate: Candidate) -> Item:
    return request.context.items[candidate.item_id]


def _row(
    request: Request,
    rank: int,
    place: int,
    scores: NDArray[np.float64],
    signals: Mapping[str, NDArray[np.float64]],
) -> RankedItem:
    candidate = request.candidates[place]
    scored = not np.isnan(scores[place])
    values = {name: float(column[place]) for name, column in signals.items()}
    return RankedItem(
        item_id=candidate.item_id,
        rank=rank,
        retrieval_rank=place + 1,
        score=float(scores[place]) if scored else None,
        status=Status.SCORED if scored else Status.UNSCORED,
        signals={
            **candidate.signals,
            **{name: value for name, value in values.items() if not np.isnan(value)},
        },
        title=_item(request, candidate).name,
    )
