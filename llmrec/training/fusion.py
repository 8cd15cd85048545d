"""Train a fusion on who met what, with early stopping and checkpoints that resume to the bit."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from llmrec.catalog import Catalog
from llmrec.errors import ModelError
from llmrec.evaluation import ndcg_at, recall_at
from llmrec.items import ModalityVectors
from llmrec.items.fusion import Fusion, FusionConfig
from llmrec.items.fusion.network import FusionNetwork
from llmrec.records import Interaction
from llmrec.training.checkpoints import Standing, described, keep, resume
from llmrec.training.dataset import Material, gather_material
from llmrec.training.objective import sum_of, weighted_terms
from llmrec.training.sequences import Window, windows
from llmrec.training.starting import starting_identities
from llmrec.training.tracking import Tracker
from llmrec.training.trained import Epoch, TrainedFusion
from llmrec.training.validation_ranking import validation_ranks

logger = logging.getLogger(__name__)

_LONGEST_STEP = 1.0
"""Gradients are scaled down to this norm."""


def train_fusion(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    validation: Mapping[str, Interaction],
    config: FusionConfig | None = None,
    *,
    out: Path | None = None,
    progress: bool = False,
    tracker: Tracker | None = None,
) -> TrainedFusion:
    """Train a fusion; the same input gives the same bytes on the same machine.

    Args:
        training: Items, and the interactions to learn from, without the validation rows.
        modalities: What is known of the items, rows in the order of ``training.items``.
        validation: User id -> the interaction to foretell, which says when to stop and which epoch
            is best. It may be empty: then there are ``config.epochs`` epochs and the last counts.
        config: The settings; None takes the defaults.
        out: A folder for the fusion, and for a checkpoint an epoch: the same call on the same
            folder goes on where it was killed and ends with the same bytes.
        progress: Show bars on stderr, where that is a terminal.
        tracker: Told each epoch's figures.

    Raises:
        DataError, OptionError: See :func:`~llmrec.training.dataset.gather_material`.
        ModelError: Training diverged.
        StorageError: The folder cannot be used, or holds the checkpoint of another training.
    """
    config = config or FusionConfig()
    material = gather_material(training, modalities, validation, config)
    about = described(config, material.digest())
    with reproducible(config.seed):
        network = FusionNetwork(material.dimensions(), len(material.met), config)
        if config.warm_start and network.items.identities is not None:
            weight = network.items.identities.weight
            weight.data.copy_(starting_identities(material, weight.detach()))
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        standing = resume(out, network, optimizer, about) if out else Standing()
        pieces = [
            window
            for history in material.sequences.values()
            for window in windows(history, config.history, config.horizon)
        ]
        bar = tqdm(
            total=config.epochs,
            initial=len(standing.epochs),
            desc="Training",
            unit="epoch",
            disable=None if progress else True,
        )
        with bar:
            while not _over(standing, config):
                standing = _next_epoch(standing, network, optimizer, material, pieces, config, bar)
                if out:
                    keep(out, standing, network, optimizer, about)
                if tracker:
                    tracker.log(standing.epochs[-1].figures(), step=len(standing.epochs))
    fusion = Fusion(config, material.encoders, material.met, dict(standing.best or {}))
    if out:
        fusion.save(out)
    return TrainedFusion(fusion, standing.epochs, standing.best_epoch, config)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside, with exact algorithms; leave torch's own generator as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _over(standing: Standing, config: FusionConfig) -> bool:
    done = len(standing.epochs)
    waited = done - standing.best_epoch
    return done >= config.epochs or bool(config.patience and waited >= config.patience)


def _next_epoch(
    standing: Standing,
    network: FusionNetwork,
    optimizer: torch.optim.Optimizer,
    material: Material,
    pieces: Sequence[Window],
    config: FusionConfig,
    bar: tqdm,
) -> Standing:
    number, began = len(standing.epochs) + 1, time.perf_counter()
    losses = _pass(network, optimizer, material, pieces, config, number, bar)
    recall = ndcg = None
    if material.targets:
        ranks = validation_ranks(network, material, config)
        recall, ndcg = float(recall_at(ranks, 20).mean()), float(ndcg_at(ranks, 10).mean())
    seconds = time.perf_counter() - began
    epoch = Epoch(number, sum(losses.values()), losses, recall, ndcg, seconds)
    logger.info("epoch %d: %s", number, epoch.figures())
    bar.update()
    epochs = (*standing.epochs, epoch)
    if standing.best_epoch and epoch.figure <= standing.epochs[standing.best_epoch - 1].figure:
        return Standing(epochs, standing.best_epoch, standing.best)
    state = {name: value.detach().clone().numpy() for name, value in network.state_dict().items()}
    return Standing(epochs, number, state)


def _pass(
    network: FusionNetwork,
    optimizer: torch.optim.Optimizer,
    material: Material,
    pieces: Sequence[Window],
    config: FusionConfig,
    number: int,
    bar: tqdm,
) -> dict[str, float]:
    """One pass over all windows: the weighted terms, means over the steps."""
    # Drawn from seed and number alone: an epoch is the same whether or not a run was interrupted.
    torch.manual_seed(int(np.random.SeedSequence((config.seed, number)).generate_state(1)[0]))
    draw = np.random.default_rng((config.seed, number))
    order = draw.permutation(len(pieces))
    starts = range(0, len(order), config.batch_size)
    sums: dict[str, float] = {}
    network.train()
    for step, start in enumerate(starts, 1):
        some = [pieces[place] for place in order[start : start + config.batch_size]]
        terms = weighted_terms(network, material, some, config, draw)
        loss = sum_of(terms)
        if not torch.isfinite(loss):
            raise ModelError(
                f"Training diverged: the loss of epoch {number}, step {step} is {loss.item()}.",
                hint=f"Lower learning_rate, which is {config.learning_rate}.",
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_STEP)
        optimizer.step()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item()
        bar.set_postfix_str(f"step {step} of {len(starts)}, loss {loss.item():.3f}")
    return {name: total / len(starts) for name, total in sums.items()}
