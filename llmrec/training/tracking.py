"""Experiment trackers: TensorBoard, Weights & Biases, or one of your own.

Both packages are imported on use. Weights & Biases follows its own environment:
``WANDB_MODE=offline`` keeps the run in a folder, to be sent with ``wandb sync``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from llmrec.errors import LlmrecError, OptionError, nearest

PROJECT = "llmrec"
"""The project that runs are filed under at Weights & Biases."""


class Tracker(Protocol):
    """Receives the metrics of a training."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Take the metrics of a step, counted from 1."""
        ...

    def close(self) -> None:
        """End the run."""
        ...


class _TensorBoard:
    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        _need("tensorboard")
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        self._writer = SummaryWriter(str(folder))
        text = "\n".join(f"    {name} = {value}" for name, value in settings.items())
        self._writer.add_text("settings", text)

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        wandb = _need("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(project=PROJECT, dir=str(folder), config=dict(settings))
        except wandb.Error as error:  # no key, no network
            why = str(error).splitlines()[0].rstrip(".")
            raise LlmrecError(
                f"Weights & Biases cannot be used: {why}.",
                hint="Run `wandb login`, or set WANDB_MODE=offline, which needs no key.",
            ) from error

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
}
"""Trackers by the name that ``--track`` takes."""


def open_tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """Open a tracker by name.

    Args:
        name: One of ``TRACKERS``.
        folder: Folder for its files.
        settings: Settings of the run.

    Raises:
        OptionError: There is none of that name.
        LlmrecError: Its package is not installed, or it cannot start a run (no key, no network).
    """
    if name not in TRACKERS:
        raise OptionError(
            f"There is no tracker {name!r}; allowed are {', '.join(TRACKERS)}.",
            hint=nearest(name, TRACKERS),
        )
    return TRACKERS[name](folder, settings)


def _need(package: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        raise LlmrecError(
            f"{package} is not installed.", hint="Install it: pip install 'llmrec[tracking]'."
        ) from error
