"""Evidence by removal: how far an item's fused score falls when a unit is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmrec.records import Evidence, Usage
from llmrec.reranking.requests import Request
from llmrec.retrieval import Retriever

if TYPE_CHECKING:
    from llmrec.reranking.reranker import Reranker


@dataclass(frozen=True, slots=True)
class Reasons:
    """What one item's score rests on, for one user.

    Attributes:
        item_id: The item.
        score: Its fused score in the list.
        evidence: Its title first, then all facts, the largest weight first. ``parts`` of a fact
            divide its weight by signal (``retrieval``, ``popularity`` and the strategies' names)
            and add up to it. The title has no weight: without it there is nothing to score.
        weights: The weight of every unit, also of those without a fact (a disliked history item,
            ``popularity``).
        pairs: Weight of two of the first few units together less the sum of their own.
        noise: Largest fall that a change of wording explains; only larger weights are reasons.
        carried: What the score consists of, by signal of the retriever (``retrieval.content``),
            ``popularity`` and strategy, relative to an average candidate, the largest first.
        usage: Usage of the language model, divided evenly among the items asked for.
    """

    item_id: str
    score: float
    evidence: tuple[Evidence, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    noise: float = 0.0
    carried: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    @property
    def telling(self) -> tuple[Evidence, ...]:
        """The facts that raise the score by more than the noise, the largest weight first."""
        return tuple(f for f in self.evidence if f.weight is not None and f.weight > self.noise)


def find_reasons(
    reranker: Reranker,
    request: Request,
    item_ids: Sequence[str],
    *,
    retriever: Retriever | None = None,
) -> tuple[Reasons, ...]:
    """Weigh the evidence for some candidates of a request, in one call of the model.

    Args:
        reranker: Whose fused score is explained.
        request: The user and the whole list of candidates, in which signals are standardised.
        item_ids: Candidates of the request to explain.
        retriever: What scored the candidates; None takes the index's own where the candidates
            have its signals. Scores of another source do not change when a unit is left out.

    Returns:
        Reasons for each item, in the given order.

    Raises:
        UnknownItemError: An item is no candidate.
        PromptError: See :meth:`Reranker.rank`, also for other errors.
    """
    raise NotImplementedError
