"""The network of a fusion: one vector per item, one per user from a history; and its loss.

Both are unit vectors, and the score of an item is their inner product times a learned scale. The
user side is SASRec (Kang and McAuley, "Self-attentive sequential recommendation", 2018) with the
softmax over all items (Klenitskiy and Vasilev, "Turning dross into gold loss", 2023) and attention
biases by distance and by time, as in HSTU (Zhai et al., "Actions speak louder than words", 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.items.fusion.config import FusionConfig

IDENTITY = "id"
"""The learned vector of an item, treated as one more modality."""

_SCALE = 20.0  # of cosines at the start: a temperature of 0.05
_CHUNK = 512  # rows of users scored at once: the product stays in the processor's cache


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
        self.projections = nn.ModuleDict()
        for name, n in dimensions.items():
            linear = nn.Linear(n, d)
            # Of length 1, like an identity: the longest would decide alone.
            nn.init.normal_(linear.weight, std=(n * d) ** -0.5)
            self.projections[name] = nn.Sequential(nn.LayerNorm(n), linear)
        self.identities = nn.Embedding(items, d) if items else None
        self.gate = nn.ModuleDict({name: nn.Linear(d, 1) for name in self.names})
        self.missing = nn.Parameter(torch.randn(d) * d**-0.5)
        self.modality_dropout = config.modality_dropout
        self.identity_dropout = config.identity_dropout
        if self.identities is not None:
            nn.init.normal_(self.identities.weight, std=d**-0.5)

    def forward(
        self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], known: Tensor
    ) -> Tensor:
        """Fuse items: unit vectors [n, d]. An item without anything is the vector ``missing``.

        In training a modality is hidden at random, and an identity where a modality remains.

        Args:
            vectors: Modality -> [n, its own dimension]; one that no item has may be left out.
            present: Modality -> bool [n].
            known: int64 [n], an item's own row, -1 for an item that training did not meet.
        """
        projected = {name: self.projections[name](rows) for name, rows in vectors.items()}
        seen = {name: self._kept(present[name], self.modality_dropout) for name in vectors}
        if self.identities is not None:
            projected[IDENTITY] = self.identities(known.clamp(min=0))
            kept = self._kept(known >= 0, self.identity_dropout)
            others = torch.stack([*seen.values(), torch.zeros_like(kept)]).any(dim=0)
            seen[IDENTITY] = kept | ((known >= 0) & ~others)
        if not projected:
            return functional.normalize(self.missing, dim=0).expand(len(known), -1)
        there = torch.stack([seen[name] for name in projected], dim=1)
        logits = torch.cat([self.gate[name](rows) for name, rows in projected.items()], dim=1)
        # A finite floor: the softmax of a row of -inf would be NaN, and so would its gradient.
        weights = torch.softmax(logits.masked_fill(~there, -1e9), dim=1).unsqueeze(-1)
        fused = (weights * torch.stack(list(projected.values()), dim=1)).sum(dim=1)
        fused = torch.where(there.any(dim=1, keepdim=True), fused, self.missing)
        return functional.normalize(fused, dim=1)

    def _kept(self, present: Tensor, share: float) -> Tensor:
        if not self.training or not share:
            return present
        return present & (torch.rand(present.shape, device=present.device) >= share)


@dataclass(frozen=True, eq=False)
class Histories:
    """A batch of histories, oldest first, filled up at the end.

    Attributes:
        items: Item rows, int64 [b, t].
        liked: bool [b, t].
        times: Seconds, int64 [b, t], -1 where unknown.
        profiles: Which known values each user's profile has, float [b, p].
    """

    items: Tensor
    liked: Tensor
    times: Tensor
    profiles: Tensor

    def to(self, device: torch.device) -> Histories:
        """Return the batch on a device."""
        return Histories(*(getattr(self, entry.name).to(device) for entry in fields(self)))


class Layer(nn.Module):
    """A transformer layer, normalised before each part, with biases by distance and by time."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        d = config.dimension
        self.heads = config.heads
        self.before_attention, self.before_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(
            nn.Linear(d, 2 * d), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * d, d)
        )
        self.distance = nn.Parameter(torch.zeros(config.heads, config.history + 1))
        self.gaps = nn.Parameter(torch.zeros(config.heads, 3))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, gaps: Tensor, *, last: bool) -> Tensor:
        """Attend to what came before: [b, t, d] to the same, or with ``last`` to [b, 1, d].

        Args:
            x: [b, t, d].
            gaps: [3, b, t, t], see :func:`gap_features`.
            last: Return the last position alone.
        """
        b, t, d = x.shape
        q, k, v = (
            part.reshape(b, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.qkv(self.before_attention(x)).chunk(3, dim=-1)
        )
        if last:
            x, q, gaps = x[:, -1:], q[:, :, -1:], gaps[:, :, -1:]
        # A finite floor keeps the sum below finite everywhere.
        place = by_distance(self.distance[:, :t], floor=-1e9, last=last)
        bias = place + (self.gaps @ gaps.flatten(1)).view(-1, *gaps.shape[1:]).transpose(0, 1)
        weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]) + bias, dim=-1)
        x = x + self.drop(self.out((weights @ v).transpose(1, 2).reshape(x.shape)))
        made: Tensor = x + self.drop(self.mlp(self.before_mlp(x)))
        return made


def by_distance(values: Tensor, *, floor: float, last: bool = False) -> Tensor:
    """Lay out values by distance [..., t] as a table [..., t, t]: at i, j the value of i - j.

    Where j is later it is ``floor``. With ``last`` the last row alone, [..., 1, t].
    """
    t = values.shape[-1]
    if last:
        return values.flip(-1).unsqueeze(-2)
    later = values.new_full((*values.shape[:-1], t - 1), floor)
    return torch.cat([values.flip(-1), later], dim=-1).unfold(-1, t, 1).flip(-2)


def gap_features(times: Tensor) -> Tensor:
    """Describe the time between two events: float [3, b, t, t].

    Logarithm of 1 + seconds in units of e^10 (some six hours), its square, and whether the two are
    at the same moment; zeros where a time is unknown.

    Args:
        times: Seconds, int64 [b, t], -1 where unknown.
    """
    told = (times >= 0).float()
    known = told[:, :, None] * told[:, None, :]
    seconds = (times[:, :, None] - times[:, None, :]).clamp_(min=0).float()
    logs = torch.log1p(seconds).mul_(known).mul_(0.1)
    return torch.stack([logs, logs**2, known * (seconds == 0)])


class HistoryEncoder(nn.Module):
    """A small causal transformer over fused item vectors.

    Positions count back from the item to predict, not from the beginning. A mean with learned
    weights by recency is added to the transformer's output: a user starts as the recent mean of
    the items met, as in item-kNN, and training goes on from there.
    """

    def __init__(self, profile_values: int, config: FusionConfig) -> None:
        super().__init__()
        d = config.dimension
        self.start = nn.Parameter(torch.randn(d))
        self.profile = nn.Linear(profile_values, d, bias=False) if profile_values else None
        self.opinion = nn.Embedding(2, d)
        nn.init.normal_(self.opinion.weight, std=0.1)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.last, self.out = nn.LayerNorm(d), nn.Linear(d, d)
        self.recency = nn.Parameter(-0.1 * torch.arange(config.history + 1.0))
        self.recent = nn.Linear(d, d, bias=False)
        nn.init.eye_(self.recent.weight)
        nn.init.zeros_(self.out.weight)
        self.drop = nn.Dropout(config.dropout)
        self.profile_dropout = config.modality_dropout
        self.log_scale = nn.Parameter(torch.tensor([math.log(_SCALE)]))

    def forward(self, history: Tensor, given: Histories, *, last: bool = False) -> Tensor:
        """Encode what every place knows: [b, t + 1, d], the first without any interaction.

        Each has the length of the learned scale.

        Args:
            history: Fused vectors [b, t, d] of ``given.items``.
            given: The histories.
            last: Encode the last place alone: [b, 1, d].
        """
        b, t, d = history.shape
        start = self.start.expand(b, 1, d)
        if self.profile is not None:
            profile = self.profile(given.profiles)[:, None]
            if self.training and self.profile_dropout:
                profile = profile * (
                    torch.rand((b, 1, 1), device=profile.device) >= self.profile_dropout
                )
            start = start + profile
        events = math.sqrt(d) * history + self.opinion(given.liked.long())
        x = self.drop(torch.cat([start, events], dim=1))
        gaps = gap_features(functional.pad(given.times, (1, 0), value=-1))
        h = x
        for layer in self.layers[:-1]:
            h = layer(h, gaps, last=False)
        for layer in self.layers[-1:]:
            h = layer(h, gaps, last=last)
        ages = by_distance(self.recency[: t + 1], floor=-math.inf, last=last)
        recent = torch.softmax(ages, dim=-1)
        if last:
            h = h[:, -1:]
        users = self.out(self.last(h)) + self.recent(recent @ x)
        made: Tensor = functional.normalize(users, dim=-1) * self.log_scale.exp()
        return made


class FusionNetwork(nn.Module):
    """Both sides.

    Args:
        dimensions: Modality -> length of its vectors.
        items: How many items have a learned vector of their own.
        profile_values: How many values of users' profiles are known.
        config: The settings.
    """

    def __init__(
        self, dimensions: Mapping[str, int], items: int, profile_values: int, config: FusionConfig
    ) -> None:
        super().__init__()
        self.items = ItemTower(dimensions, items, config)
        self.users = HistoryEncoder(profile_values, config)


def softmax_loss(
    users: Tensor, items: Tensor, targets: Tensor, log_q: Tensor | None = None
) -> Tensor:
    """Mean over users of -log softmax(<user, items> - log_q)[target].

    The product of users and items is made in chunks, and its gradient at once: memory does not grow
    with users times items. Subtracting the log of how likely an item is to be among the columns
    corrects for sampling (Bengio and Senecal 2008; Yi et al. 2019).

    Args:
        users: [b, d].
        items: [n, d], the columns.
        targets: int64 [b], columns.
        log_q: [n]; None where all items are columns.
    """
    to_users, to_items = torch.empty_like(users), torch.zeros_like(items)
    total = users.new_zeros(())
    with torch.no_grad():
        for start in range(0, len(users), _CHUNK):
            rows, own = users[start : start + _CHUNK], targets[start : start + _CHUNK, None]
            scores = rows @ items.T
            if log_q is not None:
                scores -= log_q
            reached, most = scores.gather(1, own), scores.amax(dim=1, keepdim=True)
            shares = scores.sub_(most).exp_()
            sums = shares.sum(dim=1, keepdim=True)
            total += (sums.log() + most - reached).sum()
            slope = shares.div_(sums).scatter_add_(1, own, torch.full_like(reached, -1.0))
            torch.mm(slope, items, out=to_users[start : start + _CHUNK])
            to_items.addmm_(slope.T, rows)
    # The value of the loss with the gradient that was made beside it.
    carrier = ((users * to_users).sum() + (items * to_items).sum()) / len(users)
    return carrier - carrier.detach() + total / len(users)
