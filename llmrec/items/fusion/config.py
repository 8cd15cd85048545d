"""Settings of a fusion: architecture and training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from llmrec.errors import OptionError, nearest

AUGMENTATIONS = ("crop", "mask", "reorder")
"""Ways to vary a history (CL4SRec, Xie et al. 2022)."""

_INTEGERS = {
    "dimension": 1, "layers": 0, "heads": 1, "history": 1, "epochs": 1, "patience": 0,
    "batch_size": 1, "seed": 0, "horizon": 1, "sampled": 0,
}  # fmt: skip
_SHARES = ("dropout", "modality_dropout", "identity_dropout", "label_smoothing")
_POSITIVE = ("learning_rate", "temperature")
_WEIGHTS = (
    "weight_decay", "infonce", "bpr", "association", "alpha", "reconstruction", "contrast",
    "adversarial",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Everything that decides, with the data, what a fusion becomes.

    The defaults were chosen on validation targets of ``movielens_mm``, among few settings: most
    differences there are within noise.

    Args:
        dimension: d of the joint space; a multiple of ``heads``.
        layers: Transformer layers over the history; 0 leaves the recency-weighted mean alone.
        heads: Attention heads.
        history: The most recent interactions that a user vector is made of.
        identities: A learned vector an item as one more modality: collaborative strength for items
            that training met.
        warm_start: Start those vectors from a factorisation of who met what, not at random.
        dropout: Share of activations dropped in training.
        modality_dropout: Chance that an item's modality is hidden for a training step.
        identity_dropout: The same for the learned vector of an item (DropoutNet, Volkovs et al.
            2017): what makes an item that training never met usable.
        horizon: How many of the next items a position is to foretell.
        infonce: Weight of the softmax ranking loss.
        negatives: ``"full"``: all items; ``"batch"``: the batch's own targets, corrected for how
            often each comes up (needs no pass over the whole catalogue).
        sampled: Uniformly drawn further negatives beside the batch's own.
        temperature: Divisor of the scores in the softmax.
        label_smoothing: Share of the target spread evenly over the negatives.
        bpr: Weight of the pairwise ranking loss.
        association: Weight of <u, i> + alpha <t, v>.
        alpha: Weight of <t, v> in it.
        reconstruction: Weight of giving back each modality from the fused vector.
        contrast: Weight of telling two variants of one history from those of others; counts where
            ``augmentation`` names any.
        augmentation: Which variants: of ``crop``, ``mask``, ``reorder``.
        adversarial: Length of the perturbation of fused vectors (FGM, Miyato et al. 2017); 0 = off.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        batch_size: Windows of histories a step.
        epochs: At most so many passes.
        patience: Stop after so many epochs without a better validation figure; 0 never stops early.
        seed: Of everything drawn.

    Raises:
        OptionError: A value that is not allowed.
    """

    dimension: int = 64
    layers: int = 1
    heads: int = 2
    history: int = 50
    identities: bool = True
    warm_start: bool = True
    dropout: float = 0.3
    modality_dropout: float = 0.1
    identity_dropout: float = 0.1
    horizon: int = 1
    infonce: float = 1.0
    negatives: Literal["full", "batch"] = "full"
    sampled: int = 0
    temperature: float = 1.0
    label_smoothing: float = 0.0
    bpr: float = 0.0
    association: float = 0.0
    alpha: float = 1.0
    reconstruction: float = 0.0
    contrast: float = 0.1
    augmentation: tuple[str, ...] = ()
    adversarial: float = 0.0
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    batch_size: int = 64
    epochs: int = 40
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentation", tuple(self.augmentation))
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise _refused(name, value, f"a whole number of {least} or more")
        for name in (*_SHARES, *_POSITIVE, *_WEIGHTS):
            _check_number(name, getattr(self, name))
        for name in ("identities", "warm_start"):
            if not isinstance(getattr(self, name), bool):
                raise _refused(name, getattr(self, name), "True or False")
        if self.dimension % self.heads:
            raise _refused("dimension", self.dimension, f"a multiple of heads, {self.heads}")
        if self.negatives not in {"full", "batch"}:
            raise _refused("negatives", self.negatives, "'full' or 'batch'")
        for name in self.augmentation:
            if name not in AUGMENTATIONS:
                raise _refused("augmentation", name, f"any of {', '.join(AUGMENTATIONS)}")
        if not any((self.infonce, self.bpr, self.association)):
            raise _refused("infonce, bpr and association", 0, "more than 0 for at least one")

    def with_texts(self, settings: Mapping[str, str]) -> FusionConfig:
        """Change settings given as texts, ``{"dimension": "128"}``; a list is ``crop,mask``.

        Raises:
            OptionError: A setting is unknown, or its value cannot be read or is not allowed.
        """
        known = {entry.name for entry in fields(self)}
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name, text in settings.items():
            if name not in known:
                raise OptionError(
                    f"There is no setting {name!r}; there are {', '.join(sorted(known))}.",
                    hint=nearest(name, known),
                )
            values[name] = _read(name, text, values[name])
        return FusionConfig(**values)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refused(name, value, "a number")
    if name in _SHARES and not 0 <= value < 1:
        raise _refused(name, value, "0 or more and below 1")
    if name in _POSITIVE and not value > 0:
        raise _refused(name, value, "more than 0")
    if name in _WEIGHTS and not value >= 0:
        raise _refused(name, value, "0 or more")


def _read(name: str, text: str, now: object) -> object:
    try:
        if isinstance(now, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(now, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return type(now)(text) if isinstance(now, (int, float)) else text
    except (ValueError, KeyError) as error:
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise _refused(name, text, kinds[type(now)]) from error


def _refused(name: str, value: object, allowed: str) -> OptionError:
    return OptionError(f"{name} is {value!r}; allowed is {allowed}.")
