"""The state of a tuning, and a checkpoint from which a killed run resumes exactly.

A step's draws depend on the seed and its number alone, so no generator's state is saved.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.errors import StorageError
from llmrec.items.fusion.fusion_files import read_tensors, write_tensors

_KIND = "tuning checkpoint"
_UNKNOWN = 1.0
"""A prior that is not known, as files hold finite numbers alone; a log-probability is below 0."""
_MARGIN = 0.9
"""Share of the time left that steps are fitted to."""
_HINT = "Delete the file to start again, or name another folder."


@dataclass
class TuningState:
    """What steps and validations change, beside the trained weights and the optimizer.

    Attributes:
        step: Steps taken.
        steps: Steps of the whole training; 0 before it begins.
        every: Steps from one validation to the next.
        judging: Seconds of a validation.
        validation_lists: Validation lists that are judged, the first ones; None for all.
        best: The step of the best validation, 0 before the first.
        ndcg: nDCG@10 of the gated validation lists, by step.
        control: The same without a language model.
        gate: Weights of the gate at the best step, by feature.
        fallbacks: Counts of what did not go as usual.
        seconds: Time spent.
        collapsed: All candidates had one score: no further step is taken.
        best_weights: Trained weights of the best step, by name.
        priors: Log-probability of each item's title by the untuned model without a history,
            [n_items]; NaN where no list had the title yet.
    """

    step: int = 0
    steps: int = 0
    every: int = 0
    judging: float = 0.0
    validation_lists: int | None = None
    best: int = 0
    ndcg: dict[int, float] = field(default_factory=dict)
    control: float = 0.0
    gate: dict[str, float] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    collapsed: bool = False
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    priors: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def count(self, fallback: str, times: int = 1) -> None:
        """Count a fallback."""
        if times:
            self.fallbacks[fallback] = self.fallbacks.get(fallback, 0) + times

    def ended(self, patience: int) -> bool:
        """Whether it collapsed, or ``patience`` validations (0: any number) brought no gain."""
        waited = sum(step > self.best for step in self.ndcg)
        return self.collapsed or 0 < patience <= waited

    def plan(self, left: float, seconds: float, validations: int) -> None:
        """Take only the steps that fit into the time.

        Args:
            left: Seconds that are left; validations may take a third of them.
            seconds: Seconds of a step.
            validations: Most validations.
        """
        validations = max(1, min(validations, int(left / 3 / max(self.judging, 1e-3))))
        fitting = int(_MARGIN * (left - validations * self.judging) / seconds)
        self.steps = min(self.steps, self.step + max(1, fitting))
        self.every = max(1, math.ceil(self.steps / validations))


def save_state(
    path: Path,
    state: TuningState,
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, Any],
) -> None:
    """Replace the checkpoint in one move.

    Raises:
        StorageError: It cannot be written.
    """
    tensors = {f"now.{name}": _array(value) for name, value in trained.items()}
    tensors |= {f"best.{name}": _array(value) for name, value in state.best_weights.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{number}.{name}": _array(value) for name, value in moments.items()}
    tensors["priors"] = np.nan_to_num(state.priors, nan=_UNKNOWN)
    kept = asdict(replace(state, best_weights={}, priors=np.empty(0)))
    del kept["best_weights"], kept["priors"]
    kept["ndcg"] = [[step, value] for step, value in state.ndcg.items()]
    write_tensors(path, {"kind": _KIND, "training": dict(settings), "state": kept}, tensors)


def load_state(
    path: Path,
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    restart: Collection[str] = (),
) -> TuningState:
    """Load the checkpoint, where there is one, into weights and optimizer.

    One that differs by settings named in ``restart`` alone counts as none.

    Raises:
        StorageError: It is damaged, or of a tuning with another base, data or settings.
    """
    if not path.exists():
        return TuningState()
    about, tensors = read_tensors(path, _KIND, _HINT)
    differing = [n for n, value in settings.items() if about["training"].get(n) != value]
    if differing and set(differing) <= set(restart):
        return TuningState()
    if differing:
        raise StorageError(
            f"{path} is the checkpoint of another training: {', '.join(differing)} differ.",
            hint=_HINT,
        )
    parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "moment": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = torch.from_numpy(value)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(parts["now"][name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, moment in parts["moment"].items():
        number, _, which = name.partition(".")
        moments.setdefault(int(number), {})[which] = moment
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    kept = dict(about["state"])
    kept["ndcg"] = {int(step): float(value) for step, value in kept["ndcg"]}
    priors = np.where(tensors["priors"] == _UNKNOWN, np.nan, tensors["priors"])
    return TuningState(**kept, best_weights=parts["best"], priors=priors)


def _array(value: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = value.detach().float().cpu().numpy()
    return array
