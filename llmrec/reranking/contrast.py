"""Contrast: why one candidate stands above another, and what keeps it in the top k."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmrec.errors import OptionError, check_count
from llmrec.records import Usage
from llmrec.reranking.gate import POPULARITY
from llmrec.reranking.removal import Reasons, Removal, find_reasons
from llmrec.reranking.requests import Request
from llmrec.retrieval import Retriever

if TYPE_CHECKING:
    from llmrec.reranking.reranker import Reranker


@dataclass(frozen=True, slots=True)
class OutOfTop:
    """The units whose removal drops an item out of the top k, and its rank without them."""

    units: tuple[str, ...]
    rank: int


@dataclass(frozen=True, slots=True)
class ItemContrast:
    """Why an item's fused score differs from another's.

    Attributes:
        reasons: What the item's score rests on.
        against: What the other's rests on.
        k: Length of the top.
        drop: What drops the item out of the top ``k``; None where no removal does, or where it is
            not there.
        usage: Usage of the language model.
    """

    reasons: Reasons
    against: Reasons
    k: int
    drop: OutOfTop | None
    usage: Usage = field(default_factory=Usage)

    @property
    def lead(self) -> float:
        """The item's fused score less the other's."""
        return self.reasons.score - self.against.score

    @property
    def differences(self) -> Mapping[str, float]:
        """By unit, the item's weight less the other's, the largest first.

        A unit of an item, such as ``attribute:brand``, stands for the item's own on either side.
        """
        own, other = self.reasons.weights, self.against.weights
        found = {unit: own.get(unit, 0.0) - other.get(unit, 0.0) for unit in {**own, **other}}
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def contrast(
    reranker: Reranker,
    request: Request,
    item_id: str,
    against: str,
    *,
    k: int = 10,
    retriever: Retriever | None = None,
) -> ItemContrast:
    """Compare two candidates of a request.

    Args:
        reranker: See :func:`~llmrec.reranking.removal.find_reasons`.
        request: See there.
        item_id: A candidate.
        against: Another one.
        k: Length of the top that the item is to drop out of.
        retriever: See there.

    Raises:
        OptionError: Both are the same item, or ``k`` is below 1.
        UnknownItemError: One is no candidate.
    """
    if item_id == against:
        raise OptionError(
            f"The item {item_id!r} is compared with itself.", hint="Give another one."
        )
    k = check_count("k", k)
    reasons, other = find_reasons(reranker, request, [item_id, against], retriever=retriever)
    removal = Removal(reranker, request, retriever)
    drop = smallest_removal(removal, reasons, k)
    usage = reasons.usage + other.usage + removal.usage
    return ItemContrast(reasons, other, k, drop, usage)


def smallest_removal(removal: Removal, reasons: Reasons, k: int) -> OutOfTop | None:
    """Find few units without which an item is no longer in the top k; None if there are none.

    Greedy: the units that raise the score are left out one after the other, the largest weight
    first, and after each the whole list is ranked. Popularity cannot be left out.
    """
    if reasons.rank > k:
        return None
    item_id = reasons.item_id
    units: list[str] = []
    for unit, weight in reasons.weights.items():
        if weight <= 0 or unit == POPULARITY:
            continue
        units.append(unit)
        rank = removal.ranking(item_id, units).item_ids.index(item_id) + 1
        if rank > k:
            return OutOfTop(tuple(units), rank)
    return None
