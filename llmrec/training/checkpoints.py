"""Where training stands, after every epoch, so that a killed run goes on and ends the same.

What an epoch draws depends on the seed and the epoch's number alone, so that no generator's state
has to be kept: parameters, AdamW's moments, the best parameters so far and the record are all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec.errors import StorageError
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.storage import read_tensors, write_tensors
from llmrec.training.trained import Epoch

_FILE = "checkpoint.safetensors"
_KIND = "checkpoint"
_FORMAT = 1
_ANEW = "Delete the file to train anew, or name another folder."
_LENGTH_OF_RUN = ("epochs", "patience")
"""Settings that say when training ends, not what an epoch does: they may differ on resuming."""


@dataclass(frozen=True)
class Standing:
    """Where training stands: the epochs that are done, the best of them and its parameters."""

    epochs: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    best: Mapping[str, np.ndarray] | None = None


def keep(
    folder: Path,
    standing: Standing,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Mapping[str, Any],
) -> None:
    """Write a checkpoint in place of the last one.

    Args:
        folder: Where to.
        standing: The epochs so far.
        network: With the parameters of the last epoch.
        optimizer: With its moments.
        training: What tells this training from another, see :func:`described`.

    Raises:
        StorageError: The folder cannot be written.
    """
    tensors = {f"now.{name}": _array(value) for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (standing.best or {}).items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{number}.{name}": _array(value) for name, value in state.items()}
    about = {
        "kind": _KIND,
        "format": _FORMAT,
        "training": dict(training),
        "best_epoch": standing.best_epoch,
        "epochs": [asdict(epoch) for epoch in standing.epochs],
    }
    write_tensors(folder / _FILE, about, tensors)


def resume(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Mapping[str, Any],
) -> Standing:
    """Load the checkpoint of a folder into network and optimizer; without one, nothing is done.

    Raises:
        StorageError: The checkpoint is damaged, or that of another training.
    """
    path = folder / _FILE
    if not path.exists():
        return Standing()
    about, tensors = read_tensors(path, _KIND, _ANEW)
    differing = [
        name for name, value in training.items() if about.get("training", {}).get(name) != value
    ]
    if about.get("format") != _FORMAT or differing:
        what = ", ".join(differing) or "format"
        raise StorageError(
            f"{path} is the checkpoint of another training: {what} differ.", hint=_ANEW
        )
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("moment."):
            _, number, field = name.split(".")
            moments.setdefault(int(number), {})[field] = torch.tensor(value)
    try:
        network.load_state_dict(
            {name: torch.tensor(value) for name, value in _under("now.", tensors).items()}
        )
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        epochs = tuple(Epoch(**epoch) for epoch in about["epochs"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(f"{path} is damaged: {error}.", hint=_ANEW) from error
    return Standing(epochs, about["best_epoch"], _under("best.", tensors))


def described(config: FusionConfig, digest: str) -> dict[str, Any]:
    """What tells one training from another: the data's digest and what an epoch depends on."""
    settings = {**asdict(config), "augmentation": list(config.augmentation)}
    kept = {name: value for name, value in settings.items() if name not in _LENGTH_OF_RUN}
    return {"data": digest, "torch": torch.__version__, **kept}


def _under(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _array(value: torch.Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().clone().numpy()
    return array
