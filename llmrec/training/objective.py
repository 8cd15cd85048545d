"""What a step of training makes small: the named terms of one batch, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.losses import association, bpr, contrast, infonce, reconstruction
from llmrec.items.fusion.network import IDENTITY, FusionNetwork
from llmrec.training.augmenting import vary
from llmrec.training.dataset import Material
from llmrec.training.sequences import Batch, Window, batch_of


def weighted_terms(
    network: FusionNetwork,
    material: Material,
    some: Sequence[Window],
    config: FusionConfig,
    draw: np.random.Generator,
) -> dict[str, Tensor]:
    """The terms of a batch that are switched on, each times its weight: their sum counts.

    With ``config.adversarial`` each term is that of the fused vectors plus that of the vectors
    moved a little in the direction that makes the sum worst (FGM, Miyato et al. 2017): every row by
    the given length along its own gradient. The parameters stay as they are.
    """
    present = {**material.present, IDENTITY: material.known >= 0}
    projected = network.items.project(material.vectors, material.known)
    fused = network.items.fuse(projected, present)
    batch = batch_of(some, filler=len(material.item_ids))
    variants = [
        batch_of([vary(w, config.augmentation, len(material.item_ids), draw) for w in some],
                 filler=len(material.item_ids))
        for _ in range(2 if config.augmentation and config.contrast else 0)
    ]  # fmt: skip

    def terms(items: Tensor) -> dict[str, Tensor]:
        found = _ranking_terms(network, items, batch, material, config, draw)
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
                for name, rows in _given(network, material).items()
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
    """The sum of all terms."""
    return torch.stack(list(terms.values())).sum()


def _ranking_terms(
    network: FusionNetwork,
    items: Tensor,
    batch: Batch,
    material: Material,
    config: FusionConfig,
    draw: np.random.Generator,
) -> dict[str, Tensor]:
    """Infonce and bpr, and with them the user vectors [p, d] and the targets [p] they foretell."""
    given = torch.tensor(batch.given)
    counted = given.any(dim=2)
    users = _encode(network, items, batch)[counted]
    targets, given = torch.tensor(batch.targets)[counted], given[counted]
    found = {"users": users, "targets": targets[:, 0]}
    if config.infonce and config.negatives == "full":
        scores = users @ items.T / config.temperature
        found["infonce"] = infonce(scores, targets, given, label_smoothing=config.label_smoothing)
    elif config.infonce:
        found["infonce"] = _in_batch(users, items, targets[:, 0], material, config, draw)
    if config.bpr:
        drawn = torch.tensor(draw.integers(len(items), size=len(users)))
        positive = (users * items[targets[:, 0]]).sum(dim=1)
        found["bpr"] = bpr(positive, (users * items[drawn]).sum(dim=1))
    return found


def _in_batch(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    material: Material,
    config: FusionConfig,
    draw: np.random.Generator,
) -> Tensor:
    """The softmax over the batch's distinct targets and uniformly drawn items."""
    drawn = torch.tensor(draw.integers(len(items), size=config.sampled))
    columns, place = torch.unique(torch.cat([targets, drawn]), return_inverse=True)
    share = material.counts[columns] / material.counts.sum()
    # The chance that a column is there at all: among the targets, or among the drawn.
    absent = (1 - share).double() ** len(targets) * (1 - 1 / len(items)) ** config.sampled
    log_q = torch.log((1 - absent).clamp(min=1e-12)).float()
    scores = users @ items[columns].T / config.temperature
    own = place[: len(targets), None]
    return infonce(
        scores,
        own,
        torch.ones_like(own, dtype=torch.bool),
        log_q=log_q,
        label_smoothing=config.label_smoothing,
    )


def _encode(network: FusionNetwork, items: Tensor, batch: Batch) -> Tensor:
    """User vectors of all places of a batch: [b, t + 1, d]."""
    filled = torch.cat([items, network.items.missing[None]])
    made: Tensor = network.users(filled[torch.tensor(batch.items)], torch.tensor(batch.liked))
    return made


def _last(network: FusionNetwork, items: Tensor, batch: Batch) -> Tensor:
    """User vectors of whole windows: [b, d]."""
    filler = len(items)
    length = torch.tensor((batch.items != filler).sum(axis=1))
    return _encode(network, items, batch)[torch.arange(len(length)), length]


def _given(network: FusionNetwork, material: Material) -> dict[str, Tensor]:
    """What reconstruction has to give back: the vectors, and the learned ones as they are now."""
    given = dict(material.vectors)
    if network.items.identities is not None:
        given[IDENTITY] = network.items.identities(material.known.clamp(min=0)).detach()
    return given
