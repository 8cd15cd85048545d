"""Train a fusion on interactions, with early stopping and checkpoints that resume exactly."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from llmrec.catalog import Catalog
from llmrec.errors import DivergedError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import Fusion, FusionConfig
from llmrec.items.fusion.network import FusionNetwork
from llmrec.records import Interaction
from llmrec.training.checkpoints import (
    Epoch,
    Trained,
    TrainingState,
    as_array,
    checkpoint_settings,
    resume,
    save_checkpoint,
)
from llmrec.training.dataset import FusionDataset, batches, build_dataset, histories_of, windows
from llmrec.training.objective import batch_loss, described_softmax
from llmrec.training.tracking import Tracker
from llmrec.training.validation import ValidationUsers, validation_users

logger = logging.getLogger(__name__)

_MAX_GRADIENT_NORM = 1.0
_STEPS, _LEAST_BATCH = 64, 64
"""Steps an epoch has at least, and the interactions down to which batches shrink for that."""
_AVERAGED_STEPS = 100
"""Steps that the average of parameters remembers."""
_USERS_AT_ONCE, _ITEMS_AT_ONCE = 64, 65_536
"""Users and items encoded at once in validation: bounds memory, not results."""


@dataclass(frozen=True)
class TrainedFusion:
    """A fusion with the averaged parameters of its best epoch, and the metrics of all epochs."""

    fusion: Fusion
    epochs: tuple[Epoch, ...]
    best_epoch: int
    config: FusionConfig

    @property
    def best(self) -> Epoch:
        """The best epoch."""
        return self.epochs[self.best_epoch - 1]


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

    What is validated and kept is the exponential average of the parameters over the last steps:
    it does what a falling learning rate does, without a number of epochs to be set beforehand.

    Args:
        training: Items, and the interactions to train on, without the validation rows.
        modalities: Vectors of the items, rows in the order of ``training.items``.
        validation: User id -> target, for early stopping and the choice of the best epoch. Empty:
            train ``config.epochs`` epochs and take the last.
        config: The settings; None takes the defaults.
        out: A folder for the fusion and a checkpoint after every epoch: the same call on the same
            folder resumes a killed run and ends with the same bytes.
        progress: Show bars on stderr, where that is a terminal.
        tracker: Receives each epoch's metrics.

    Raises:
        DataError, OptionError: See :func:`~llmrec.training.dataset.build_dataset`.
        DivergedError: The loss is not finite.
        StorageError: The folder cannot be used, or holds the checkpoint of another training.
    """
    config = config or FusionConfig()
    dataset = build_dataset(training, modalities, validation, config)
    settings = checkpoint_settings(config, dataset.digest())
    judges = None
    if dataset.targets:
        judges = validation_users(training, modalities, dataset.targets, config.seed)
    logger.info("%d items: %s.", len(dataset.item_ids), described_softmax(dataset))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with reproducible(config.seed):
        network = FusionNetwork(
            dataset.dimensions(), len(dataset.known_ids), len(dataset.profile_values), config
        )
        if network.items.identities is not None:
            weight = network.items.identities.weight
            weight.data.copy_(initial_identities(dataset, weight.detach()))
        network.to(device)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        average = AveragedModel(network, multi_avg_fn=move)
        parts = Trained(network, average, optimizer)
        state = resume(out, parts, settings) if out else TrainingState()
        on_device = dataset.to(device)
        bar = tqdm(
            total=config.epochs,
            initial=len(state.epochs),
            desc="Training",
            unit="epoch",
            disable=None if progress else True,
        )
        with bar:
            while not _finished(state, config):
                state = _next_epoch(state, parts, on_device, judges, config, bar)
                if out:
                    save_checkpoint(out, state, parts, settings)
                if tracker:
                    tracker.log(state.epochs[-1].metrics(), step=len(state.epochs))
    fusion = Fusion(
        config,
        dataset.encoders,
        dataset.known_ids,
        dataset.profile_values,
        dict(state.best or {}),
    )
    if out:
        fusion.save(out)
    return TrainedFusion(fusion, state.epochs, state.best_epoch, config)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch and use deterministic algorithms inside; torch's own generator is unchanged."""
    # Without it products of a GPU are refused; it is read when the first of them is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def initial_identities(dataset: FusionDataset, random: Tensor) -> Tensor:
    """Return item factors of the training rows, [n_known, d], in place of ``random`` vectors.

    The user-item matrix is divided by the roots of each user's and each item's number of
    interactions, so that inner products of the factors approximate the cosine of item-kNN
    (PureSVD, Cremonesi et al. 2010, on normalised rows). Columns beyond its rank stay ``random``,
    and the scale is that of ``random``.
    """
    rows = dataset.identities.numpy()
    columns = [rows[history.items] for history in dataset.histories.values()]
    users = np.repeat(np.arange(len(columns)), [len(some) for some in columns])
    pairs = np.unique(np.stack([users, np.concatenate(columns)]), axis=1)
    shape = (len(columns), len(random))
    rank = min(random.shape[1], min(shape) - 1)
    if rank < 1:
        return random
    by_user, by_item = (
        np.bincount(pairs[axis], minlength=shape[axis]).astype(np.float64) for axis in (0, 1)
    )
    values = 1 / np.sqrt(by_user[pairs[0]] * by_item[pairs[1]])
    matrix = coo_array((values, (pairs[0], pairs[1])), shape=shape).tocsr()
    # A given first vector: ARPACK draws a random one otherwise, which differs in every run.
    first = np.random.default_rng(0).normal(size=min(shape))
    _, sizes, directions = svds(matrix, k=rank, v0=first)
    factors = (directions * np.sqrt(np.maximum(sizes, 0))[:, None]).T
    scale = float(random.std()) / max(float(np.sqrt((factors**2).mean())), 1e-12)
    made = random.clone()
    made[:, :rank] = torch.tensor(factors * scale, dtype=random.dtype)
    return made


def move(mean: Sequence[Tensor], now: Sequence[Tensor], steps: Tensor | int) -> None:
    """Move an average of parameters towards those of now; after few steps it remembers fewer."""
    share = max(1 / _AVERAGED_STEPS, 9 / (int(steps) + 10))
    for average, value in zip(mean, now, strict=True):
        average.lerp_(value, share)


def validation_scores(
    network: FusionNetwork, dataset: FusionDataset, user_ids: Sequence[str], longest: int
) -> NDArray[np.float32]:
    """Score all items for users: float32 [n, n_items]."""
    network.eval()
    made = np.empty((len(user_ids), len(dataset.item_ids)), dtype=np.float32)
    histories = [dataset.histories[user_id] for user_id in user_ids]
    order = np.argsort([min(longest, len(history.items)) for history in histories], kind="stable")
    device = dataset.identities.device
    with torch.inference_mode():
        starts = range(0, len(dataset.item_ids), _ITEMS_AT_ONCE)
        items = torch.cat(
            [network.items(*dataset.of_items(slice(at, at + _ITEMS_AT_ONCE))) for at in starts]
        )
        for start in range(0, len(order), _USERS_AT_ONCE):
            rows = order[start : start + _USERS_AT_ONCE]
            some = [histories[row] for row in rows]
            given = histories_of(some, [slice(-longest, None)] * len(some)).to(device)
            encoded = network.users(items[given.items], given)
            ends = torch.tensor([min(longest, len(history.items)) for history in some])
            last = encoded[torch.arange(len(some)), ends]
            made[rows] = (last @ items.T).cpu().numpy()
    return made


def _finished(state: TrainingState, config: FusionConfig) -> bool:
    done = len(state.epochs)
    waited = done - state.best_epoch
    return done >= config.epochs or bool(config.patience and waited >= config.patience)


def _next_epoch(
    state: TrainingState,
    parts: Trained,
    dataset: FusionDataset,
    judges: ValidationUsers | None,
    config: FusionConfig,
    bar: tqdm,
) -> TrainingState:
    """Train on all interactions once, and rank the validation targets."""
    number, began = len(state.epochs) + 1, time.perf_counter()
    network, optimizer = parts.network, parts.optimizer
    # Seed and number alone decide the draws: an epoch is the same in a resumed run.
    torch.manual_seed(int(np.random.SeedSequence((config.seed, number)).generate_state(1)[0]))
    draw = np.random.default_rng((config.seed, number))
    histories = tuple(dataset.histories.values())
    cut = windows([len(history.items) for history in histories], config.history, draw)
    network.train()
    total = steps = 0.0
    events = int(dataset.counts.sum())
    size = min(config.batch_size, max(_LEAST_BATCH, events // _STEPS))
    for step, some in enumerate(batches(cut, size, draw), 1):
        loss = batch_loss(network, dataset, histories, some, draw)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(
                f"Training diverged: the loss of epoch {number}, step {step} is {value}.",
                hint=f"Lower learning_rate, which is {config.learning_rate}.",
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
        optimizer.step()
        parts.average.update_parameters(network)
        total, steps = total + value, steps + 1
        bar.set_postfix_str(f"step {step}, loss {value:.3f}")
    recall = ndcg = hybrid = None
    if judges:
        scores = validation_scores(parts.averaged, dataset, judges.user_ids, config.history)
        recall, ndcg, hybrid = judges.metrics(scores)
    epoch = Epoch(number, total / steps, recall, ndcg, hybrid, time.perf_counter() - began)
    logger.info("epoch %d: %s", number, epoch.metrics())
    bar.update()
    epochs = (*state.epochs, epoch)
    if state.best_epoch and epoch.score <= state.epochs[state.best_epoch - 1].score:
        return TrainingState(epochs, state.best_epoch, state.best)
    best = {name: as_array(value) for name, value in parts.averaged.state_dict().items()}
    return TrainingState(epochs, number, best)
