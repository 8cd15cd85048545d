"""A trained fusion: vectors of all modalities become one an item, a history becomes one a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from llmrec.errors import DataError, ModelError, OptionError, StorageError, naming, shown
from llmrec.items.fusion.config import FusionConfig
from llmrec.items.fusion.fusion_files import (
    content_digest,
    pack_tensors,
    read_tensors,
    unpack_tensors,
    write_tensors,
)
from llmrec.items.fusion.user_features import opinions_and_times, profile_vectors
from llmrec.items.modality import ModalityVectors
from llmrec.records import User

if TYPE_CHECKING:
    from llmrec.items.fusion.network import FusionNetwork

_FILE = "fusion.safetensors"
_KIND = "fusion"
_FORMAT = 2
_AGAIN = "Train it again with `llmrec train fusion`."
_ROWS = 4096
"""Items, or users, that are forwarded at once."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """One vector per item from all its modalities, one per user from a history.

    The score of an item for a user is the inner product of the two, higher is better. Item vectors
    are unit vectors, float32; user vectors have the length of the learned scale.

    Args:
        config: Settings of architecture and training.
        modalities: Name of each modality it reads -> name of the encoder that made the vectors.
        item_ids: The items that training met: the rows of the learned vectors; may be empty.
        profile_values: The values of users' profiles that training met, ``column=value``.
        tensors: The network's parameters by name.
    """

    config: FusionConfig
    modalities: Mapping[str, str]
    item_ids: tuple[str, ...]
    profile_values: tuple[str, ...]
    tensors: Mapping[str, np.ndarray]

    @cached_property
    def name(self) -> str:
        """``fusion@`` and the first 16 hex digits of the sha256 of all that it holds."""
        return f"fusion@{content_digest(self._about, self.tensors)[:16]}"

    @property
    def dimension(self) -> int:
        """The length d of its vectors."""
        return self.config.dimension

    def dimensions(self) -> dict[str, int]:
        """The length of the vectors of each modality."""
        return {
            name: len(self.tensors[f"items.projections.{name}.0.weight"])
            for name in self.modalities
        }

    def save(self, folder: Path) -> None:
        """Write it to a folder, in one move.

        Raises:
            StorageError: The folder cannot be written.
        """
        write_tensors(folder / _FILE, self._about, self.tensors)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a fusion that :meth:`save` wrote.

        Raises:
            StorageError: There is none, or it is damaged or of another format.
        """
        path = folder / _FILE
        opened = cls._of(path, *read_tensors(path, _KIND, _AGAIN))
        with naming(f"{path} is damaged", StorageError, hint=_AGAIN):
            opened.network  # noqa: B018 (built now, so that what does not fit shows now)
        return opened

    def to_bytes(self) -> bytes:
        """Write it as one safetensors file, for a place inside an index."""
        return pack_tensors(self._about, self.tensors)

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> Self:
        """Read what :meth:`to_bytes` wrote; ``path`` is where it came from.

        Raises:
            StorageError: It is damaged or of another format.
        """
        return cls._of(path, *unpack_tensors(content, path, _KIND, _AGAIN))

    @classmethod
    def _of(cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Self:
        if about.get("format") != _FORMAT:
            raise StorageError(
                f"{path} has format {shown(about.get('format'))}; this llmrec reads format "
                f"{_FORMAT}.",
                hint=_AGAIN,
            )
        try:
            with naming(f"{path} is damaged", StorageError, hint=_AGAIN):
                return cls(
                    FusionConfig(**about["config"]),
                    {str(name): str(encoder) for name, encoder in about["modalities"].items()},
                    tuple(map(str, about["item_ids"])),
                    tuple(map(str, about["profile_values"])),
                    tensors,
                )
        except OptionError as error:
            raise StorageError(f"{path} is damaged: {error.message}", hint=_AGAIN) from error

    def item_vectors(
        self, modalities: Sequence[ModalityVectors], item_ids: Sequence[str]
    ) -> np.ndarray:
        """Fuse items: float32 [n, d], a row an item.

        A modality may be missing on some items, on all, or not be given at all; an item need not
        be one that training met. An item without anything gets one learned vector.

        Args:
            modalities: Of those the fusion was trained with; rows in the order of ``item_ids``.
            item_ids: The items.

        Raises:
            ModelError: A modality, its encoder or its dimension is not what the fusion was trained
                with.
            DataError: The rows are not as many as the items, or not finite.
            OptionError: A modality is given twice.
        """
        import torch  # noqa: PLC0415 (opening an index needs none)

        self.check(modalities)
        for given in modalities:
            if len(given.vectors) != len(item_ids):
                raise DataError(
                    f"The modality {given.name!r} has {len(given.vectors):,} rows for "
                    f"{len(item_ids):,} items.",
                    hint="Give one row an item, in the same order.",
                )
        rows = self._rows
        known = np.array([rows.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
        made = np.empty((len(item_ids), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(item_ids), _ROWS):
                part = slice(start, start + _ROWS)
                vectors = {m.name: torch.tensor(m.vectors[part]).float() for m in modalities}
                present = {m.name: torch.tensor(m.present[part]) for m in modalities}
                made[part] = self.network.items(vectors, present, torch.tensor(known[part])).numpy()
        return made

    def user_vector(self, history: np.ndarray, user: User) -> np.ndarray:
        """Encode one user: float32 [d]. See :meth:`user_vectors`."""
        vector: np.ndarray = self.user_vectors([history], [user])[0]
        return vector

    def user_vectors(self, histories: Sequence[np.ndarray], users: Sequence[User]) -> np.ndarray:
        """Encode users: float32 [n, d]. The most recent ``config.history`` interactions count.

        Args:
            histories: Each float32 [h, d]: the rows of :meth:`item_vectors` of the items of the
                user's history, oldest first. A user without a history is described by the profile.
            users: Their opinions, times and profiles are read; times and profiles may be missing.

        Raises:
            DataError: A history's shape does not fit.
        """
        import torch  # noqa: PLC0415

        from llmrec.items.fusion.network import Histories  # noqa: PLC0415

        for history, user in zip(histories, users, strict=True):
            if history.shape != (len(user.history), self.dimension):
                raise DataError(
                    f"The history of user {user.user_id!r} has the shape {history.shape}; it must "
                    f"be [{len(user.history)}, {self.dimension}].",
                    hint="Give rows of item_vectors of this same fusion.",
                )
        longest = self.config.history
        places = {value: place for place, value in enumerate(self.profile_values)}
        made = np.empty((len(histories), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for row, (history, user) in enumerate(zip(histories, users, strict=True)):
                items = torch.tensor(np.asarray(history[-longest:], dtype=np.float32))[None]
                opinions, times = opinions_and_times(user.history, user.neutral_rating)
                given = Histories(
                    torch.zeros(items.shape[:2], dtype=torch.int64),
                    torch.tensor(opinions[-longest:])[None],
                    torch.tensor(times[-longest:])[None],
                    torch.tensor(profile_vectors([user.profile], places)),
                )
                made[row] = self.network.users(items, given, last=True)[0, 0].numpy()
        return made

    def check(self, modalities: Sequence[ModalityVectors]) -> None:
        """Refuse vectors that the fusion was not trained with; see :meth:`item_vectors`."""
        names = [given.name for given in modalities]
        if len(set(names)) < len(names):
            raise OptionError(f"Modalities are {', '.join(names)}; allowed is each once.")
        dimensions = self.dimensions()
        for given in modalities:
            if given.name not in self.modalities:
                raise ModelError(
                    f"{self.name} was trained with the modalities {', '.join(self.modalities)}, "
                    f"not with {given.name!r}.",
                    hint="Leave it out, or train a fusion with it: `llmrec train fusion`.",
                )
            trained, size = self.modalities[given.name], dimensions[given.name]
            if given.encoder != trained:
                raise ModelError(
                    f"{self.name} was trained with {given.name} vectors of {trained}, not of "
                    f"{given.encoder}.",
                    hint=f"Embed with {trained}, or train a fusion for {given.encoder}.",
                )
            if given.vectors.shape[1] != size:
                raise ModelError(
                    f"{self.name} was trained with {given.name} vectors of length {size}, not "
                    f"{given.vectors.shape[1]}.",
                    hint=f"Embed with {trained} at that length.",
                )
            if not np.isfinite(given.vectors).all():
                raise DataError(f"The modality {given.name!r} holds values that are not finite.")

    @cached_property
    def network(self) -> FusionNetwork:
        """The network with these parameters, for inference."""
        import torch  # noqa: PLC0415

        from llmrec.items.fusion.network import FusionNetwork  # noqa: PLC0415

        with torch.device("meta"):  # no memory is taken before the sizes are compared
            built = FusionNetwork(
                self.dimensions(), len(self.item_ids), len(self.profile_values), self.config
            )
        tensors = {name: torch.tensor(rows) for name, rows in self.tensors.items()}
        built.load_state_dict(tensors, assign=True)
        return built.eval()

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def _about(self) -> dict[str, Any]:
        return {
            "kind": _KIND,
            "format": _FORMAT,
            "config": asdict(self.config),
            "modalities": dict(self.modalities),
            "item_ids": list(self.item_ids),
            "profile_values": list(self.profile_values),
        }
