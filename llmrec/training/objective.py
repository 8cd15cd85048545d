"""The training objective: named loss terms of one batch, each times its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.network import (
    IDENTITY,
    FusionNetwork,
    association,
    bpr,
    contrast,
    infonce,
    reconstruction,
)
from llmrec.training.dataset import FusionDataset, Window, batch_of, vary


def weighted_terms(
    network: FusionNetwork,
    dataset: FusionDataset,
    some: Sequence[Window],
    config: FusionConfig,
    draw: np.random.Generator,
) -> dict[str, Tensor]:
    """Return the terms of a batch that are switched on, each times its weight.

    With ``config.adversarial`` each term is that of the fused vectors plus that of perturbed ones,
    every row moved by the given length along its gradient (FGM, Miyato et al. 2017). The
    parameters stay as they are.
    """
    present = {**dataset.present, IDENTITY: dataset.identities >= 0}
    projected = network.items.project(dataset.vectors, dataset.identities)
    fused = network.items.fuse(projected, present)
    mask = len(dataset.item_ids)
    batch = batch_of(some, mask)
    variants = [
        batch_of([vary(window, config.augmentation, mask, draw) for window in some], mask)
        for _ in range(2 if config.augmentation and config.contrast else 0)
    ]

    def terms(items: Tensor) -> dict[str, Tensor]:
        found = _ranking_terms(network, items, batch, dataset, config, draw)
        users, targets = found.pop("users"), found.pop("targets")
        if config.association:
            pairs = [
                (projected["text"], rows, present["text"] & present[name])
                for name, rows in projected.items()
                if "text" in projected and name not in {"text", IDENTITY}
            ]
            found["association"] = association(users, items[targets], pairs, config.alpha)
        if config.reconstruction:
            parts = [
                (rows[seen], network.back[name](items[seen]))
                for name, rows in _given(network, dataset).items()
                if (seen := present[name]) is not None
            ]
            parts.append((users.detach(), network.back_to_user(items[targets])))
            found["reconstruction"] = reconstruction(parts)
        if variants:
            one, other = (_last(network, items, variant) for variant in variants)
            found["contrast"] = contrast(one, other)
        return {name: getattr(config, name) * term for name, term in found.items()}

    clean = terms(fused)
    if not config.adversarial:
        return clean
    (slope,) = torch.autograd.grad(sum_of(clean), fused, retain_graph=True)
    lengths = slope.norm(dim=1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    moved = terms(fused + config.adversarial * slope / lengths)
    return {name: term + moved[name] for name, term in clean.items()}


def sum_of(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of all terms."""
    return torch.stack(list(terms.values())).sum()


def _ranking_terms(
    network: FusionNetwork,
    items: Tensor,
    batch: Window,
    dataset: FusionDataset,
    config: FusionConfig,
    draw: np.random.Generator,
) -> dict[str, Tensor]:
    """Return infonce and bpr, the user vectors [p, d] and the targets [p] they predict."""
    given = torch.tensor(batch.given)
    counted = given.any(dim=2)
    users = _encode(network, items, batch)[counted]
    targets, given = torch.tensor(batch.targets)[counted], given[counted]
    found = {"users": users, "targets": targets[:, 0]}
    if config.infonce and config.negatives == "full":
        scores = users @ items.T / config.temperature
        found["infonce"] = infonce(scores, targets, given, label_smoothing=config.label_smoothing)
    elif config.infonce:
        found["infonce"] = _in_batch(users, items, targets[:, 0], dataset, config, draw)
    if config.bpr:
        drawn = torch.tensor(draw.integers(len(items), size=len(users)))
        positive = (users * items[targets[:, 0]]).sum(dim=1)
        found["bpr"] = bpr(positive, (users * items[drawn]).sum(dim=1))
    return found


def _in_batch(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    dataset: FusionDataset,
    config: FusionConfig,
    draw: np.random.Generator,
) -> Tensor:
    """Return the softmax loss over the batch's distinct targets and uniformly drawn items."""
    drawn = torch.tensor(draw.integers(len(items), size=config.sampled))
    columns, place = torch.unique(torch.cat([targets, drawn]), return_inverse=True)
    share = dataset.counts[columns] / dataset.counts.sum()
    # The probability that a column is among the targets or the drawn items.
    absent = (1 - share).double() ** len(targets) * (1 - 1 / len(items)) ** config.sampled
    log_q = torch.log((1 - absent).clamp(min=1e-12)).float()
    scores = users @ items[columns].T / config.temperature
    own = place[: len(targets), None]
    given = torch.ones_like(own, dtype=torch.bool)
    return infonce(scores, own, given, log_q=log_q, label_smoothing=config.label_smoothing)


def _encode(network: FusionNetwork, items: Tensor, batch: Window) -> Tensor:
    """Encode all positions of a batch: [b, t + 1, d]."""
    filled = torch.cat([items, network.items.missing[None]])
    made: Tensor = network.users(filled[torch.tensor(batch.items)], torch.tensor(batch.liked))
    return made


def _last(network: FusionNetwork, items: Tensor, batch: Window) -> Tensor:
    """Encode whole windows: [b, d]."""
    length = torch.tensor((batch.items != len(items)).sum(axis=1))
    return _encode(network, items, batch)[torch.arange(len(length)), length]


def _given(network: FusionNetwork, dataset: FusionDataset) -> dict[str, Tensor]:
    """Return the targets of reconstruction: the modalities' vectors and the learned ones."""
    given = dict(dataset.vectors)
    if network.items.identities is not None:
        given[IDENTITY] = network.items.identities(dataset.identities.clamp(min=0)).detach()
    return given
