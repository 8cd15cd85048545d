"""What a fusion is trained on, checked and as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.catalog import Catalog
from llmrec.errors import DataError, OptionError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.storage import content_digest
from llmrec.records import Interaction
from llmrec.training.sequences import Met, histories, popularity


@dataclass(frozen=True, eq=False)
class Material:
    """Items, what is known of them, and who met them.

    Attributes:
        item_ids: All items, in the order of the catalogue.
        encoders: Modality -> the encoder that made its vectors.
        vectors: Modality -> float32 [n, its dimension].
        present: Modality -> bool [n].
        known: int64 [n]: a row for each item that training met, -1 for the others.
        counts: int64 [n]: how often training met each item.
        sequences: User -> history.
        targets: User -> the item row to foretell for the choice of the best epoch.
    """

    item_ids: tuple[str, ...]
    encoders: Mapping[str, str]
    vectors: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    known: Tensor
    counts: Tensor
    sequences: Mapping[str, Met]
    targets: Mapping[str, int]

    @property
    def met(self) -> tuple[str, ...]:
        """The items that training met, in the order of ``known``."""
        return tuple(
            item_id
            for item_id, row in zip(self.item_ids, self.known.tolist(), strict=True)
            if row >= 0
        )

    def dimensions(self) -> dict[str, int]:
        """The length of the vectors of each modality."""
        return {name: rows.shape[1] for name, rows in self.vectors.items()}

    def digest(self) -> str:
        """The sha256, in hex, of all of it."""
        arrays = {f"vectors.{name}": rows.numpy() for name, rows in self.vectors.items()}
        arrays |= {f"present.{name}": rows.numpy() for name, rows in self.present.items()}
        for user, history in self.sequences.items():
            arrays |= {f"items.{user}": history.items, f"liked.{user}": history.liked}
        about = {
            "item_ids": self.item_ids,
            "encoders": dict(self.encoders),
            "targets": dict(self.targets),
        }
        return content_digest(about, arrays)


def gather_material(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    validation: Mapping[str, Interaction],
    config: FusionConfig,
) -> Material:
    """Check and gather what a fusion is trained on.

    Raises:
        DataError: There are no interactions, rows do not fit the items, values are not finite, or
            a validation row is among the training rows or names an unknown item.
        OptionError: A modality is given twice, or there is neither a modality nor ``identities``.
    """
    items = tuple(training.items)
    names = [given.name for given in modalities]
    if len(set(names)) < len(names):
        raise OptionError(f"Modalities are {', '.join(names)}; allowed is each once.")
    if not names and not config.identities:
        raise OptionError(
            "There is no modality and identities is False: nothing tells one item from another.",
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
            raise DataError(f"The modality {given.name!r} holds values that are not finite.")
    sequences = histories(training)
    if not sequences:
        raise DataError(
            "No user met an item: there is nothing to train on.",
            hint="Add an interactions file.",
        )
    counts = popularity(sequences, len(items))
    known = np.where(counts > 0, np.cumsum(counts > 0) - 1, -1) if config.identities else None
    return Material(
        items,
        {given.name: given.encoder for given in modalities},
        {given.name: torch.tensor(given.vectors, dtype=torch.float32) for given in modalities},
        {given.name: torch.tensor(given.present, dtype=torch.bool) for given in modalities},
        torch.full((len(items),), -1) if known is None else torch.tensor(known),
        torch.tensor(counts),
        sequences,
        _targets(sequences, items, validation),
    )


def _targets(
    sequences: Mapping[str, Met], items: Sequence[str], validation: Mapping[str, Interaction]
) -> dict[str, int]:
    row = {item_id: number for number, item_id in enumerate(items)}
    targets: dict[str, int] = {}
    for user_id, interaction in validation.items():
        target = row.get(interaction.item_id)
        if target is None:
            raise DataError(
                f"The validation row of user {user_id!r} has the item {interaction.item_id!r}, "
                "which the catalogue does not hold."
            )
        if user_id in sequences and target in sequences[user_id].items:
            raise DataError(
                f"User {user_id!r} met the validation item {interaction.item_id!r} in training.",
                hint="Give training rows without it, as `leave_one_out` makes them.",
            )
        if user_id in sequences:
            targets[user_id] = target
    return targets
