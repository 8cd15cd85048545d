"""SASRec for the tables of `full_ranking.py`: a peer, no part of the package.

Kang and McAuley, "Self-attentive sequential recommendation" (2018), with the softmax over all items
in the place of one sampled negative, which is known to be the stronger loss (Klenitskiy and
Vasilev, "Turning dross into gold loss", 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What is tried on validation targets."""

    dimension: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.3
    length: int = 200
    rate: float = 1e-3
    epochs: int = 60
    patience: int = 4
    batch: int = 32
    every: int = 3


class SasRec(nn.Module):
    """A causal transformer over item embeddings; items are scored by their inner product."""

    def __init__(self, n_items: int, settings: Settings) -> None:
        super().__init__()
        d = settings.dimension
        self.items = nn.Embedding(n_items + 1, d, padding_idx=n_items)
        self.places = nn.Embedding(settings.length, d)
        layer = nn.TransformerEncoderLayer(
            d, settings.heads, d * 2, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, settings.blocks, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(settings.dropout)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Encode [n, length] item rows, padded behind, to [n, length, d]."""
        n = rows.shape[1]
        inputs = self.dropout(self.items(rows) + self.places(torch.arange(n, device=rows.device)))
        mask = torch.triu(torch.ones(n, n, dtype=torch.bool, device=rows.device), diagonal=1)
        out: torch.Tensor = self.norm(self.encoder(inputs, mask=mask, is_causal=True))
        return out

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Score all items: [..., n_items]."""
        return states @ self.items.weight[:-1].T


def padded(some: Sequence[torch.Tensor], model: SasRec) -> torch.Tensor:
    """Rows of several histories, filled up behind, where the model is."""
    weight = model.items.weight
    rows = nn.utils.rnn.pad_sequence(list(some), batch_first=True, padding_value=len(weight) - 1)
    return rows.to(weight.device)


def score(model: SasRec, histories: Sequence[Rows], settings: Settings) -> NDArray[np.float64]:
    """The scores of every item after each history, float64 [n, n_items]."""
    model.eval()
    table = np.empty((len(histories), model.items.num_embeddings - 1))
    order = np.argsort([min(len(history), settings.length) for history in histories])
    with torch.no_grad():
        for start in range(0, len(order), settings.batch):
            places = order[start : start + settings.batch]
            some = [torch.from_numpy(histories[i][-settings.length :]) for i in places]
            last = torch.tensor([len(rows) - 1 for rows in some])
            states = model(padded(some, model))[torch.arange(len(some)), last]
            table[places] = model.logits(states).cpu().numpy()
    return table


def train(
    histories: Sequence[Rows],
    n_items: int,
    settings: Settings,
    judge: Callable[[SasRec], float],
    seed: int,
) -> tuple[SasRec, float, int]:
    """Train on histories; ``judge`` says how good the model is (higher is better).

    Returns:
        The best model by ``judge``, how good it was, and its epoch.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = SasRec(n_items, settings).to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=0.01)
    pieces = [
        history[max(0, end - settings.length - 1) : end]
        for history in histories
        for end in range(len(history), 1, -settings.length)
    ]
    best, best_value, best_epoch = copy.deepcopy(model.state_dict()), -np.inf, 0
    for epoch in range(1, settings.epochs + 1):
        model.train()
        # Pieces of like lengths together, the batches in random order: less padding.
        order = np.lexsort((rng.random(len(pieces)), np.array([len(piece) for piece in pieces])))
        batches = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
        for chosen in rng.permutation(len(batches)):
            some = [torch.from_numpy(pieces[i]) for i in batches[chosen]]
            rows = padded(some, model)
            states = model(rows[:, :-1])
            there = rows[:, 1:] != n_items
            loss = nn.functional.cross_entropy(model.logits(states[there]), rows[:, 1:][there])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        if epoch % settings.every == 0:
            value = judge(model)
            if value > best_value:
                best, best_value, best_epoch = copy.deepcopy(model.state_dict()), value, epoch
            elif epoch - best_epoch >= settings.patience * settings.every:
                break
    model.load_state_dict(best)
    return model, best_value, best_epoch
