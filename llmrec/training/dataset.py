"""What a fusion is trained on: item vectors, user histories, and windows cut from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.catalog import Catalog, liked
from llmrec.errors import DataError, OptionError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.fusion_files import content_digest
from llmrec.records import Interaction

Rows = NDArray[np.int64]

_CROPPED = _REORDERED = 0.6
_MASKED = 0.3
"""Shares of a history that are kept, shuffled and masked, as in CL4SRec."""


@dataclass(frozen=True, eq=False)
class UserHistory:
    """One user's history: item rows [t], oldest first, and which of them were liked, bool [t]."""

    items: Rows
    liked: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of a history, and the targets at each of its positions; a batch has a first axis b.

    ``items`` and ``liked`` are [t]. ``targets`` and ``given`` are [t + 1, horizon]: position p is
    before item p of the window, sees the items before it, and predicts item p and those that
    follow; ``given`` is False where there is none, or where an earlier window has the target.
    """

    items: Rows
    liked: NDArray[np.bool_]
    targets: Rows
    given: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FusionDataset:
    """Items, their vectors, and the histories to train on.

    Attributes:
        item_ids: All items, in the order of the catalogue.
        encoders: Modality -> the encoder that made its vectors.
        vectors: Modality -> float32 [n, its dimension].
        present: Modality -> bool [n].
        identities: int64 [n]: row of the learned vector of each item in a training history; -1 for
            all other items.
        counts: int64 [n]: training interactions of each item.
        histories: User -> history.
        targets: User -> item row of the validation target.
    """

    item_ids: tuple[str, ...]
    encoders: Mapping[str, str]
    vectors: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    identities: Tensor
    counts: Tensor
    histories: Mapping[str, UserHistory]
    targets: Mapping[str, int]

    @property
    def known_ids(self) -> tuple[str, ...]:
        """The items that have a learned vector, in the order of its rows."""
        rows = zip(self.item_ids, self.identities.tolist(), strict=True)
        return tuple(item_id for item_id, row in rows if row >= 0)

    def dimensions(self) -> dict[str, int]:
        """The length of the vectors of each modality."""
        return {name: rows.shape[1] for name, rows in self.vectors.items()}

    def digest(self) -> str:
        """The sha256, in hex, of the whole data set."""
        arrays = {f"vectors.{name}": rows.numpy() for name, rows in self.vectors.items()}
        arrays |= {f"present.{name}": rows.numpy() for name, rows in self.present.items()}
        for user, history in self.histories.items():
            arrays |= {f"items.{user}": history.items, f"liked.{user}": history.liked}
        about = {
            "item_ids": self.item_ids,
            "encoders": dict(self.encoders),
            "targets": dict(self.targets),
        }
        return content_digest(about, arrays)


def build_dataset(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    validation: Mapping[str, Interaction],
    config: FusionConfig,
) -> FusionDataset:
    """Check the input of a training and turn it into tensors.

    Raises:
        DataError: There are no interactions, vectors do not fit the items or are not finite, or a
            validation row is among the training rows or names an unknown item.
        OptionError: A modality is given twice, or there is neither a modality nor ``identities``.
    """
    items = tuple(training.items)
    names = [given.name for given in modalities]
    if len(set(names)) < len(names):
        raise OptionError(f"Modalities are {', '.join(names)}; allowed is each once.")
    if not names and not config.identities:
        raise OptionError(
            "There is no modality and identities is False: all items would be the same.",
            hint="Give a modality, or set identities.",
        )
    for given in modalities:
        if len(given.vectors) != len(items):
            raise DataError(
                f"The modality {given.name!r} has {len(given.vectors):,} rows for {len(items):,} "
                "items.",
                hint="Give one row an item, in the order of the catalogue.",
            )
        if not np.isfinite(given.vectors).all():
            raise DataError(f"The modality {given.name!r} has values that are not finite.")
    histories = user_histories(training)
    if not histories:
        raise DataError("There are no interactions to train on.", hint="Add an interactions file.")
    counts = np.bincount(
        np.concatenate([history.items for history in histories.values()]), minlength=len(items)
    )
    known = counts > 0 if config.identities else np.zeros(len(items), dtype=bool)
    return FusionDataset(
        items,
        {given.name: given.encoder for given in modalities},
        {given.name: torch.tensor(given.vectors, dtype=torch.float32) for given in modalities},
        {given.name: torch.tensor(given.present, dtype=torch.bool) for given in modalities},
        torch.tensor(np.where(known, np.cumsum(known) - 1, -1)),
        torch.tensor(counts),
        histories,
        _targets(histories, items, validation),
    )


def _targets(
    histories: Mapping[str, UserHistory],
    items: Sequence[str],
    validation: Mapping[str, Interaction],
) -> dict[str, int]:
    row = {item_id: number for number, item_id in enumerate(items)}
    targets: dict[str, int] = {}
    for user_id, interaction in validation.items():
        target = row.get(interaction.item_id)
        if target is None:
            raise DataError(
                f"The validation row of user {user_id!r} has the item {interaction.item_id!r}, "
                "which is not in the catalogue."
            )
        if user_id in histories and target in histories[user_id].items:
            raise DataError(
                f"User {user_id!r} has the validation item {interaction.item_id!r} in training.",
                hint="Give training rows without it, as `leave_one_out` makes them.",
            )
        if user_id in histories:
            targets[user_id] = target
    return targets


def user_histories(training: Catalog) -> dict[str, UserHistory]:
    """Each user's history as rows of ``training.items``; users without one are left out."""
    row = {item_id: number for number, item_id in enumerate(training.items)}
    found: dict[str, UserHistory] = {}
    for user_id in training.user_ids:
        history = [each for each in training.user(user_id).history if each.item_id in row]
        if history:
            items = np.array([row[each.item_id] for each in history], dtype=np.int64)
            opinions = np.array(liked(history, training.neutral), dtype=bool)
            found[user_id] = UserHistory(items, opinions)
    return found


def windows(history: UserHistory, length: int, horizon: int) -> list[Window]:
    """Cut a history into windows of at most ``length`` items that overlap by half.

    Every item of the history is exactly once the next item of a position. The position sees all
    items before it, in a later window at least half a window of them.
    """
    total, covered, start = len(history.items), 0, 0
    made: list[Window] = []
    while covered < total:
        stop = min(start + length, total - 1)
        positions = np.arange(start, stop + 1)
        ahead = positions[:, None] + np.arange(horizon)
        given = (ahead < total) & (positions >= covered)[:, None]
        targets = history.items[np.minimum(ahead, total - 1)]
        made.append(Window(history.items[start:stop], history.liked[start:stop], targets, given))
        covered, start = stop + 1, start + max(1, length // 2)
    return made


def batch_of(some: Sequence[Window], filler: int) -> Window:
    """Stack windows to a batch, padded at the end with the item row ``filler``."""
    return Window(
        padded([window.items for window in some], filler),
        padded([window.liked for window in some], True),
        padded([window.targets for window in some], 0),
        padded([window.given for window in some], False),
    )


def padded(arrays: Sequence[np.ndarray], fill: int | bool) -> np.ndarray:
    """Stack arrays along a new first axis, each padded with ``fill`` up to the longest."""
    shape = (len(arrays), max(map(len, arrays)), *arrays[0].shape[1:])
    stacked = np.full(shape, fill, dtype=arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def vary(window: Window, kinds: Sequence[str], mask: int, draw: np.random.Generator) -> Window:
    """Return a variant of a window (CL4SRec, Xie et al. 2022).

    Args:
        window: Any window; one of fewer than two items is returned as it is.
        kinds: One is drawn: ``crop`` keeps a run of 60 % of the items, ``reorder`` shuffles a run
            of 60 %, ``mask`` puts ``mask`` in the place of 30 %.
        mask: Item row of a masked item.
        draw: Random generator.
    """
    n = len(window.items)
    if n < 2:
        return window
    kind = kinds[int(draw.integers(len(kinds)))]
    if kind == "mask":
        items = window.items.copy()
        items[draw.permutation(n)[: int(_MASKED * n)]] = mask
        return replace(window, items=items)
    if kind == "crop":
        length = max(1, int(_CROPPED * n))
        start = int(draw.integers(n - length + 1))
        run, positions = slice(start, start + length), slice(start, start + length + 1)
        return Window(
            window.items[run], window.liked[run], window.targets[positions], window.given[positions]
        )
    length = int(_REORDERED * n)
    start = int(draw.integers(n - length + 1))
    order = np.arange(n)
    order[start : start + length] = start + draw.permutation(length)
    return replace(window, items=window.items[order], liked=window.liked[order])
