"""What a fusion is trained on: item vectors, user histories, and windows cut from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.catalog import Catalog, leave_one_out
from llmrec.errors import DataError, OptionError
from llmrec.evaluation import training_catalog
from llmrec.items import ModalityVectors
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.fusion_files import content_digest
from llmrec.items.fusion.network import Histories
from llmrec.items.fusion.user_features import (
    opinions_and_times,
    profile_values,
    profile_vectors,
)
from llmrec.records import Interaction

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UserHistory:
    """One user's history, oldest first.

    Attributes:
        items: Item rows, int64 [t].
        liked: Whether each was liked, bool [t].
        times: Seconds, int64 [t], -1 where unknown.
        profile: Which of the data set's profile values the user has, float32 [p].
    """

    items: Rows
    liked: NDArray[np.bool_]
    times: Rows
    profile: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A run of a user's history: the items from ``start`` to before ``stop`` are the targets.

    The item before ``start`` is read too, so that each target but a history's first has a context.
    """

    user: int
    start: int
    stop: int

    @property
    def read(self) -> slice:
        """The places that are read: all but the last target."""
        return slice(max(0, self.start - 1), self.stop - 1)


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
        profile_values: The values of users' profiles, ``column=value``.
        histories: User -> history.
        targets: User -> item row of the validation target.
    """

    item_ids: tuple[str, ...]
    encoders: Mapping[str, str]
    vectors: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    identities: Tensor
    counts: Tensor
    profile_values: tuple[str, ...]
    histories: Mapping[str, UserHistory]
    targets: Mapping[str, int]

    @property
    def known_ids(self) -> tuple[str, ...]:
        """The items that have a learned vector, in the order of its rows."""
        rows = zip(self.item_ids, self.identities.tolist(), strict=True)
        return tuple(item_id for item_id, row in rows if row >= 0)

    def of_items(self, rows: Tensor | slice) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return vectors and presence by modality, and the rows of learned vectors, of items."""
        return (
            {name: vectors[rows] for name, vectors in self.vectors.items()},
            {name: present[rows] for name, present in self.present.items()},
            self.identities[rows],
        )

    def dimensions(self) -> dict[str, int]:
        """The length of the vectors of each modality."""
        return {name: rows.shape[1] for name, rows in self.vectors.items()}

    def to(self, device: torch.device) -> FusionDataset:
        """Return the data set with the tensors of its items on a device."""
        return replace(
            self,
            vectors={name: rows.to(device) for name, rows in self.vectors.items()},
            present={name: rows.to(device) for name, rows in self.present.items()},
            identities=self.identities.to(device),
            counts=self.counts.to(device),
        )

    def digest(self) -> str:
        """The sha256, in hex, of the whole data set."""
        arrays = {f"vectors.{name}": rows.numpy() for name, rows in self.vectors.items()}
        arrays |= {f"present.{name}": rows.numpy() for name, rows in self.present.items()}
        for name in ("items", "liked", "times", "profile"):
            arrays |= {f"{name}.{u}": getattr(some, name) for u, some in self.histories.items()}
        about = {
            "item_ids": self.item_ids,
            "encoders": dict(self.encoders),
            "profile_values": self.profile_values,
            "targets": dict(self.targets),
        }
        return content_digest(about, arrays)


def hold_out_last_rows(catalog: Catalog) -> tuple[Catalog, Mapping[str, Interaction]]:
    """Hold out each user's last interaction, and its review, where a user has met four items.

    They are the same rows that `llmrec.retrieval.learn_weights` holds out: weights learned on an
    index of ``catalog`` are fair to a fusion that was trained on the rest.
    """
    split = leave_one_out(catalog, min_train=2)
    rows = (*split.train, *split.validation.values())
    return training_catalog(catalog, replace(split, train=rows)), split.test


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
    values = profile_values(training.profiles.values())
    histories = user_histories(training, values)
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
        values,
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


def user_histories(training: Catalog, values: Sequence[str]) -> dict[str, UserHistory]:
    """Each user's history as rows of ``training.items``; users without one are left out.

    Args:
        training: The catalogue.
        values: The values of profiles that count.
    """
    row = {item_id: number for number, item_id in enumerate(training.items)}
    places = {value: place for place, value in enumerate(values)}
    found: dict[str, UserHistory] = {}
    for user_id in training.user_ids:
        user = training.user(user_id)
        history = [each for each in user.history if each.item_id in row]
        if history:
            items = np.array([row[each.item_id] for each in history], dtype=np.int64)
            profile = profile_vectors([user.profile], places)[0]
            told = opinions_and_times(history, user.neutral_rating)
            found[user_id] = UserHistory(items, *told, profile)
    return found


def windows(lengths: Sequence[int], longest: int, draw: np.random.Generator) -> list[Window]:
    """Cut histories into windows of at most ``longest`` items, at places that are drawn.

    Each interaction is a target exactly once.
    """
    made = []
    for user, length in enumerate(lengths):
        first = int(draw.integers(1, longest + 1)) if length > longest else length
        stops = [*range(first, length, longest), length]
        made += [Window(user, a, b) for a, b in zip([0, *stops], stops, strict=False) if a < b]
    return made


def batches(some: Sequence[Window], size: int, draw: np.random.Generator) -> Iterator[list[Window]]:
    """Group windows of similar lengths to batches of about ``size`` items, in random order.

    Sorted by length, little has to be filled up.
    """
    lengths = np.array([window.stop - window.start for window in some])
    order = np.lexsort((draw.random(len(some)), lengths))
    groups: list[list[Window]] = [[]]
    for place in order:
        if groups[-1] and lengths[place] * (len(groups[-1]) + 1) > size:
            groups.append([])
        groups[-1].append(some[place])
    for group in draw.permutation(len(groups)):
        yield groups[group]


def histories_of(histories: Sequence[UserHistory], parts: Sequence[slice]) -> Histories:
    """Stack a part of each history to a batch, filled up at the end."""
    pairs = list(zip(histories, parts, strict=True))
    return Histories(
        torch.tensor(padded([history.items[part] for history, part in pairs], 0)),
        torch.tensor(padded([history.liked[part] for history, part in pairs], True)),
        torch.tensor(padded([history.times[part] for history, part in pairs], -1)),
        torch.tensor(np.array([history.profile for history in histories])),
    )


def targets_of(histories: Sequence[UserHistory], some: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Return the targets of a batch, int64 [b, t + 1], and which positions have one.

    Position p has read the first p items of the window, and predicts the next.
    """
    starts = [window.read.start for window in some]
    rows = [h.items[start : w.stop] for h, w, start in zip(histories, some, starts, strict=True)]
    given = [np.arange(start, w.stop) >= w.start for w, start in zip(some, starts, strict=True)]
    return torch.tensor(padded(rows, 0)), torch.tensor(padded(given, False))


def padded(arrays: Sequence[np.ndarray], fill: int | bool) -> np.ndarray:
    """Stack arrays along a new first axis, each padded with ``fill`` up to the longest."""
    stacked = np.full((len(arrays), max(map(len, arrays))), fill, dtype=arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked
