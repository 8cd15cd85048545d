"""HSTU's layer for `ablate_fusion.py`, in the place of the fusion's softmax attention.

Zhai et al., "Actions speak louder than words: trillion-parameter sequential transducers for
generative recommendations" (2024): SiLU of the scores in the place of a softmax, and a gate by
units in the place of a second network. Biases by distance and time are the fusion's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.network import by_distance

MEAN_LENGTH = 50
"""What sums over a history are divided by; HSTU divides by the longest."""


class HstuLayer(nn.Module):
    """One layer; called as :class:`llmrec.items.fusion.network.Layer` is."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        d = config.dimension
        self.heads = config.heads
        self.before, self.after = nn.LayerNorm(d), nn.LayerNorm(d)
        self.units, self.out = nn.Linear(d, 4 * d), nn.Linear(d, d)
        self.distance = nn.Parameter(torch.zeros(config.heads, config.history + 1))
        self.gaps = nn.Parameter(torch.zeros(config.heads, 3))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, gaps: Tensor, *, last: bool) -> Tensor:
        """[b, t, d] to the same, or with ``last`` to [b, 1, d]."""
        b, t, d = x.shape
        gate, *parts = silu(self.units(self.before(x))).chunk(4, dim=-1)
        q, k, v = (p.reshape(b, t, self.heads, d // self.heads).transpose(1, 2) for p in parts)
        place = by_distance(self.distance[:, :t], floor=0.0)
        bias = place + (self.gaps @ gaps.flatten(1)).view(-1, *gaps.shape[1:]).transpose(0, 1)
        weights = silu(q @ k.mT / math.sqrt(q.shape[-1]) + bias).tril() / MEAN_LENGTH
        read = self.after((weights @ v).transpose(1, 2).reshape(b, t, d)) * gate
        made: Tensor = x + self.drop(self.out(read))
        return made[:, -1:] if last else made
