"""Settings of a fusion: architecture and training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from llmrec.errors import OptionError, nearest, shown

_INTEGERS = {
    "dimension": range(1, 4_097), "layers": range(65), "heads": range(1, 65),
    "history": range(1, 10_001), "epochs": range(1, 1_000_001), "patience": range(1_000_001),
    "batch_size": range(1, 10_000_001), "seed": range(2**63),
}  # fmt: skip
"""The values that are allowed: a fusion file may come from a stranger."""
_SHARES = ("dropout", "modality_dropout", "identity_dropout")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Everything that decides, with the data, what a fusion becomes.

    The defaults were chosen on validation targets of dense and sparse data sets.

    Args:
        dimension: d of the joint space; a multiple of ``heads``.
        layers: Transformer layers over the history; 0 leaves the recency-weighted mean alone.
        heads: Attention heads.
        history: The most recent interactions that a user vector is made of.
        identities: A learned vector per item as one more modality: what interactions say of items
            that training met.
        dropout: Share of activations dropped in training.
        modality_dropout: Chance that an item's modality, or a user's profile, is hidden for a
            training step.
        identity_dropout: The same for the learned vector of an item (DropoutNet, Volkovs et al.
            2017): it makes an item that training never met usable.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        batch_size: Interactions a step, at most; fewer where an epoch would have under 64 steps.
        epochs: Maximum epochs.
        patience: Stop after so many epochs without a better validation score; 0 never stops early.
        seed: Random seed.

    Raises:
        OptionError: A value that is not allowed.
    """

    dimension: int = 64
    layers: int = 2
    heads: int = 2
    history: int = 200
    identities: bool = True
    dropout: float = 0.2
    modality_dropout: float = 0.1
    identity_dropout: float = 0.1
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    batch_size: int = 4096
    epochs: int = 100
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
                span = f"{allowed.start} to {allowed.stop - 1}"
                raise _refused(name, value, f"a whole number from {span}")
        for name in _SHARES:
            if not 0 <= _number(name, getattr(self, name)) < 1:
                raise _refused(name, getattr(self, name), "0 or more and below 1")
        if not _number("learning_rate", self.learning_rate) > 0:
            raise _refused("learning_rate", self.learning_rate, "more than 0")
        if not _number("weight_decay", self.weight_decay) >= 0:
            raise _refused("weight_decay", self.weight_decay, "0 or more")
        if not isinstance(self.identities, bool):
            raise _refused("identities", self.identities, "True or False")
        if self.dimension % self.heads:
            raise _refused("dimension", self.dimension, f"a multiple of heads, {self.heads}")

    def with_texts(self, settings: Mapping[str, str]) -> FusionConfig:
        """Change settings given as texts, ``{"dimension": "128"}``.

        Raises:
            OptionError: A setting is unknown, or its value cannot be read or is not allowed.
        """
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name, text in settings.items():
            if name not in values:
                raise OptionError(
                    f"There is no setting {name!r}; there are {', '.join(sorted(values))}.",
                    hint=nearest(name, values),
                )
            values[name] = _read(name, text, values[name])
        return FusionConfig(**values)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refused(name, value, "a number")
    return value


def _read(name: str, text: str, now: bool | float) -> bool | float:
    try:
        if isinstance(now, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(now)(text)
    except (ValueError, KeyError) as error:
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise _refused(name, text, kinds[type(now)]) from error


def _refused(name: str, value: object, allowed: str) -> OptionError:
    return OptionError(f"{name} is {shown(value)}; allowed is {allowed}.")
