"""The terms a fusion is trained with: each a mean over its rows, lower is better."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional


def infonce(
    scores: Tensor,
    targets: Tensor,
    given: Tensor,
    *,
    log_q: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax ranking loss: targets against all columns (InfoNCE, van den Oord et al. 2018).

    The mean over a row's targets of -log softmax(scores - log_q)[target]. Subtracting the log of
    how likely a column is to be among the negatives corrects for popular items being drawn more
    often (Bengio & Senecal 2008; Yi et al. 2019).

    Args:
        scores: [b, n], -inf where a column is no negative for a row.
        targets: [b, k] columns.
        given: bool [b, k], which of them count; each row has at least one.
        log_q: [n], log probability that a column was drawn; None where all items are columns.
        label_smoothing: Share of the target given to all columns alike; needs finite scores.
    """
    corrected = scores if log_q is None else scores - log_q
    weights = given / given.sum(dim=1, keepdim=True)
    reached = (corrected.gather(1, targets).masked_fill(~given, 0.0) * weights).sum(dim=1)
    if label_smoothing:
        reached = (1 - label_smoothing) * reached + label_smoothing * corrected.mean(dim=1)
    return (torch.logsumexp(corrected, dim=1) - reached).mean()


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid(positive - negative) of scores [b] (BPR, Rendle et al. 2009)."""
    return -functional.logsigmoid(positive - negative).mean()


def association(
    users: Tensor, items: Tensor, pairs: Iterable[tuple[Tensor, Tensor, Tensor]], alpha: float
) -> Tensor:
    """-(<u, i> + alpha <t, v>): a user with the item met, an item's text with its picture.

    Vectors are scaled to length 1 first, or lengths would grow without bound.

    Args:
        users: [b, d].
        items: [b, d], what each user met.
        pairs: Of an item's text and another modality: [n, d], [n, d], bool [n] where both are.
        alpha: Weight of the pairs, which are averaged.
    """
    met = functional.cosine_similarity(users, items).mean()
    agreed = [
        functional.cosine_similarity(texts[both], others[both]).mean()
        for texts, others, both in pairs
        if both.any()
    ]
    return -(met + alpha * torch.stack(agreed).mean()) if agreed else -met


def reconstruction(parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """1/2 (|u - u'|^2 + |i - i'|^2 + |t - t'|^2 + |v - v'|^2): each part's mean over its rows.

    Args:
        parts: Of what was given and what came back, [n, d] each; a part without rows counts 0.
    """
    squares = [((back - given) ** 2).sum(dim=1).mean() for given, back in parts if len(given)]
    return 0.5 * torch.stack(squares).sum() if squares else torch.zeros(())


def contrast(one: Tensor, other: Tensor, temperature: float = 0.1) -> Tensor:
    """Tell a user's two variants from other users' (CL4SRec, Xie et al. 2022): [b, d] each.

    Cosines over ``temperature`` in a softmax over the batch, from one side and from the other.
    """
    scores = functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T / temperature
    own = torch.arange(len(scores))
    return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2
