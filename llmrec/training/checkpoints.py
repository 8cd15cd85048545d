"""A checkpoint after every epoch, from which a killed run resumes and ends with the same bytes.

An epoch's random draws depend on the seed and its number alone, so no generator's state is saved:
parameters, their average, AdamW's moments, the best parameters so far and the epochs' metrics
suffice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import TypeAdapter
from torch.optim.swa_utils import AveragedModel

from llmrec.errors import StorageError, naming
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.fusion_files import read_tensors, write_tensors
from llmrec.items.fusion.network import FusionNetwork

_FILE = "checkpoint.safetensors"
_KIND = "checkpoint"
_FORMAT = 3
_HINT = "Delete the file to start training again, or name another folder."
_LENGTH_OF_RUN = ("epochs", "patience")
"""Settings that end a training and do not change an epoch: they may differ on resuming."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Metrics of one pass over the training windows.

    ``recall`` is recall@10 and ``ndcg`` nDCG@10 of the validation targets among all items but the
    history's, by the fusion alone; ``hybrid`` is nDCG@10 with the retriever's other signals,
    weighted anew. None without validation.
    """

    number: int
    loss: float
    recall: float | None
    ndcg: float | None
    hybrid: float | None
    seconds: float

    @property
    def score(self) -> float:
        """The hybrid's nDCG@10, which chooses the best epoch; without validation the number."""
        return float(self.number) if self.hybrid is None else self.hybrid

    def metrics(self) -> dict[str, float]:
        """All metrics by name, as a tracker logs them."""
        validation = {
            "validation/recall@10": self.recall,
            "validation/ndcg@10": self.ndcg,
            "validation/hybrid_ndcg@10": self.hybrid,
        }
        return {
            "loss": self.loss,
            **{name: value for name, value in validation.items() if value is not None},
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class TrainingState:
    """The epochs so far, and the number and parameters of the best of them."""

    epochs: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    best: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """What a step of training changes: the network, its averaged copy and the optimizer."""

    network: FusionNetwork
    average: AveragedModel
    optimizer: torch.optim.Optimizer

    @property
    def averaged(self) -> FusionNetwork:
        """The network with averaged parameters."""
        return cast("FusionNetwork", self.average.module)


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    parts: Trained,
    settings: Mapping[str, Any],
) -> None:
    """Replace the folder's checkpoint; ``settings`` are those of :func:`checkpoint_settings`.

    Raises:
        StorageError: The folder cannot be written.
    """
    tensors = {f"now.{name}": as_array(v) for name, v in parts.network.state_dict().items()}
    tensors |= {f"average.{name}": as_array(v) for name, v in parts.average.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (state.best or {}).items()}
    for number, moments in parts.optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{number}.{name}": as_array(value) for name, value in moments.items()}
    about = {
        "kind": _KIND,
        "format": _FORMAT,
        "training": dict(settings),
        "best_epoch": state.best_epoch,
        "epochs": [asdict(epoch) for epoch in state.epochs],
    }
    write_tensors(folder / _FILE, about, tensors)


def resume(folder: Path, parts: Trained, settings: Mapping[str, Any]) -> TrainingState:
    """Load the folder's checkpoint, where there is one, into what is trained.

    Raises:
        StorageError: The checkpoint is damaged, or of a training with other data or settings.
    """
    path = folder / _FILE
    if not path.exists():
        return TrainingState()
    about, tensors = read_tensors(path, _KIND, _HINT)
    saved = dict(about["training"]) if isinstance(about.get("training"), dict) else {}
    differing = [name for name, value in settings.items() if saved.get(name) != value]
    if about.get("format") != _FORMAT or differing:
        what = ", ".join(differing) or "format"
        raise StorageError(
            f"{path} is the checkpoint of another training: {what} differ.", hint=_HINT
        )
    moments: dict[int, dict[str, torch.Tensor]] = {}
    with naming(f"{path} is damaged", StorageError, hint=_HINT):
        for name, value in _under("moment.", tensors).items():
            number, field = name.split(".")
            moments.setdefault(int(number), {})[field] = torch.tensor(value)
        for prefix, module in (("now.", parts.network), ("average.", parts.average)):
            given = _under(prefix, tensors)
            module.load_state_dict({name: torch.tensor(v) for name, v in given.items()})
        parts.optimizer.load_state_dict({**parts.optimizer.state_dict(), "state": moments})
        epochs = TypeAdapter(tuple[Epoch, ...]).validate_python(about["epochs"])
        return TrainingState(epochs, int(about["best_epoch"]), _under("best.", tensors))


def checkpoint_settings(config: FusionConfig, digest: str) -> dict[str, Any]:
    """Return what an epoch depends on: the data set's digest, torch's version and the settings."""
    kept = {name: value for name, value in asdict(config).items() if name not in _LENGTH_OF_RUN}
    return {"data": digest, "torch": torch.__version__, **kept}


def _under(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def as_array(value: torch.Tensor) -> np.ndarray:
    """Copy a tensor to the processor's memory."""
    array: np.ndarray = value.detach().cpu().clone().numpy()
    return array
