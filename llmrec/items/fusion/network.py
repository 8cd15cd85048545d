"""The network of a fusion and its losses: one vector per item, one per user from a history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.items.fusion.config import FusionConfig

IDENTITY = "id"
"""The learned vector of an item, treated as one more modality."""


class ItemTower(nn.Module):
    """Projects each modality to d dimensions and sums the present ones, weighed by a gate.

    Args:
        dimensions: Modality -> length of its vectors.
        items: How many items have a learned vector of their own; 0 for none.
        config: The settings.
    """

    def __init__(self, dimensions: Mapping[str, int], items: int, config: FusionConfig) -> None:
        super().__init__()
        d = config.dimension
        self.names = (*dimensions, IDENTITY) if items else tuple(dimensions)
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.LayerNorm(n), nn.Linear(n, d))
                for name, n in dimensions.items()
            }
        )
        self.identities = nn.Embedding(items, d) if items else None
        self.gate = nn.ModuleDict({name: nn.Linear(d, 1) for name in self.names})
        self.missing = nn.Parameter(torch.zeros(d))
        self.dropped = {
            name: config.identity_dropout if name == IDENTITY else config.modality_dropout
            for name in self.names
        }
        if self.identities is not None:
            nn.init.normal_(self.identities.weight, std=d**-0.5)

    def forward(
        self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], known: Tensor
    ) -> Tensor:
        """Fuse items: [n, d].

        Args:
            vectors: Modality -> [n, its own dimension]; one that no item has may be left out.
            present: Modality -> bool [n].
            known: int64 [n], an item's own row, -1 for an item that training did not meet.
        """
        return self.fuse(self.project(vectors, known), {**present, IDENTITY: known >= 0})

    def project(self, vectors: Mapping[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Project each modality: name -> [n, d]. ``known`` is [n], an item's own row or -1."""
        projected = {name: self.projections[name](rows) for name, rows in vectors.items()}
        if self.identities is not None:
            projected[IDENTITY] = self.identities(known.clamp(min=0))
        return projected

    def fuse(self, projected: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Sum [n, d]: each row a mean of its present modalities, weighed by the gate's softmax.

        In training a modality is hidden at random. A row without any is the vector ``missing``.
        """
        if not projected:
            rows = len(next(iter(present.values())))
            return self.missing.expand(rows, -1)
        seen = torch.stack([self._seen(name, present[name]) for name in projected], dim=1)
        logits = torch.cat([self.gate[name](rows) for name, rows in projected.items()], dim=1)
        # A finite floor: the softmax of a row of -inf would be NaN, and so would its gradient.
        weights = torch.softmax(logits.masked_fill(~seen, -1e9), dim=1).unsqueeze(-1)
        fused = (weights * torch.stack(list(projected.values()), dim=1)).sum(dim=1)
        return torch.where(seen.any(dim=1, keepdim=True), fused, self.missing)

    def _seen(self, name: str, present: Tensor) -> Tensor:
        share = self.dropped[name]
        if not self.training or not share:
            return present
        return present & (torch.rand(present.shape) >= share)


class Layer(nn.Module):
    """A transformer layer, normalised before each part, with a learned bias by distance."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        d = config.dimension
        self.heads, self.dropout = config.heads, config.dropout
        self.before_attention, self.before_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(
            nn.Linear(d, 4 * d), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(4 * d, d)
        )
        self.distance = nn.Parameter(torch.zeros(config.heads, config.history + 1))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, age: Tensor) -> Tensor:
        """Attend to what came before: [b, t, d] to the same; ``age`` is [t, t], below 0 = later."""
        b, t, d = x.shape
        q, k, v = (
            part.reshape(b, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.qkv(self.before_attention(x)).chunk(3, dim=-1)
        )
        bias = self.distance[:, age.clamp(min=0)].masked_fill(age < 0, -math.inf)
        weights = self.drop(torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]) + bias, dim=-1))
        x = x + self.drop(self.out((weights @ v).transpose(1, 2).reshape(b, t, d)))
        made: Tensor = x + self.drop(self.mlp(self.before_mlp(x)))
        return made


class HistoryEncoder(nn.Module):
    """A small causal transformer over fused item vectors (after SASRec, Kang & McAuley 2018).

    Positions count back from the item to predict, not from the beginning: attention has a
    learned bias by distance, and a mean with learned weights by recency is added to its output.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        d = config.dimension
        self.start = nn.Parameter(torch.randn(d) * d**-0.5)
        self.opinion = nn.Embedding(2, d)
        nn.init.normal_(self.opinion.weight, std=0.1 * d**-0.5)
        self.given = nn.Linear(d, d)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.last, self.out = nn.LayerNorm(d), nn.Linear(d, d)
        self.recency = nn.Parameter(-0.1 * torch.arange(config.history + 1.0))
        self.recent = nn.Linear(d, d, bias=False)
        # At first a user is the recent mean of the items met, as in item-kNN; it learns from there.
        nn.init.eye_(self.given.weight)
        nn.init.eye_(self.recent.weight)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, history: Tensor, liked: Tensor) -> Tensor:
        """Encode what every place knows: user vectors [b, t + 1, d], the first without any history.

        Args:
            history: Fused item vectors [b, t, d], oldest first, filled up at the end.
            liked: bool [b, t].
        """
        b, t, _ = history.shape
        opinions = history + self.opinion(liked.long())
        x = torch.cat([self.start.expand(b, 1, -1), self.given(opinions)], dim=1)
        x = self.drop(x)
        place = torch.arange(t + 1)
        age = place[:, None] - place
        h = x
        for layer in self.layers:
            h = layer(h, age)
        weights = torch.softmax(
            self.recency[age.clamp(min=0)].masked_fill(age < 0, -math.inf), dim=-1
        )
        made: Tensor = self.out(self.last(h)) + self.recent(weights @ x)
        return made


class FusionNetwork(nn.Module):
    """Both sides, and what gives the modalities back from a fused vector."""

    def __init__(self, dimensions: Mapping[str, int], items: int, config: FusionConfig) -> None:
        super().__init__()
        self.items = ItemTower(dimensions, items, config)
        self.users = HistoryEncoder(config)
        sizes = {**dimensions, **({IDENTITY: config.dimension} if items else {})}
        self.back = nn.ModuleDict(
            {name: nn.Linear(config.dimension, n) for name, n in sizes.items()}
        )
        self.back_to_user = nn.Linear(config.dimension, config.dimension)


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
        label_smoothing: Share of the target spread evenly over all columns; needs finite scores.
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
