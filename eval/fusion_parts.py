"""The fusion with one part taken out or replaced, for `ablate_fusion.py`.

A setting is changed by its name, data by what the fusion is not told, and what has no setting by
replacing the function that the package calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from peers.hstu import HstuLayer
from torch import Tensor
from torch.nn import functional

from llmrec import Catalog
from llmrec.catalog import Split
from llmrec.items.fusion import FusionConfig, network
from llmrec.records import Interaction
from llmrec.training import train_fusion
from llmrec.training.dataset import FusionDataset
from llmrec.training.objective import batch_loss

Data = tuple[Catalog, Split]


@dataclass(frozen=True)
class Part:
    """One change to the default.

    Attributes:
        settings: Of `FusionConfig`.
        told: Changes the catalogue and the split that the fusion learns from.
        modalities: Whether items have texts, reviews and pictures.
        replaced: Module and name in it -> what stands there.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    told: Callable[[Catalog, Split], Data] = lambda catalog, split: (catalog, split)
    modalities: bool = True
    replaced: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace what is replaced while this is open."""
        with ExitStack() as stack:
            for (module, name), other in self.replaced.items():
                stack.enter_context(patch.object(sys.modules[module], name, other))
            yield


def without_times(catalog: Catalog, split: Split) -> Data:
    """Keep the order of events and remove their times."""
    late = float("inf")
    order = sorted(catalog.interactions, key=lambda r: late if r.timestamp is None else r.timestamp)

    train = set(split.train)

    def bare(row: Interaction) -> Interaction:
        return replace(row, timestamp=None)

    told = replace(
        split,
        train=tuple(bare(row) for row in order if row in train),
        validation=MappingProxyType({u: bare(row) for u, row in split.validation.items()}),
        test=MappingProxyType({u: bare(row) for u, row in split.test.items()}),
        left_out=tuple(map(bare, split.left_out)),
    )
    return replace(catalog, interactions=tuple(map(bare, order))), told


def without_profiles(catalog: Catalog, split: Split) -> Data:
    """Remove the columns of users."""
    return replace(catalog, profiles={}), split


class WithoutRecentMean(network.HistoryEncoder):
    """The transformer alone: no mean by recency is added to its output."""

    def __init__(self, profile_values: int, config: FusionConfig) -> None:
        super().__init__(profile_values, config)
        self.recent.weight.data.zero_()
        self.recent.weight.requires_grad_(False)
        torch.nn.init.eye_(self.out.weight)


def as_they_are(rows: Tensor, dim: int) -> Tensor:  # noqa: ARG001 (called as `normalize` is)
    """Vectors of any length."""
    return rows


def as_drawn(dataset: FusionDataset, random: Tensor) -> Tensor:  # noqa: ARG001
    """Identities that know nothing at the start."""
    return random


def the_last(mean: Sequence[Tensor], now: Sequence[Tensor], steps: int) -> None:  # noqa: ARG001
    """No average."""
    for average, value in zip(mean, now, strict=True):
        average.copy_(value)


_FREE = SimpleNamespace(pad=functional.pad, normalize=as_they_are)
_NETWORK, _TRAINING = network.__name__, train_fusion.__module__
PARTS: Mapping[str, Part] = {
    "default": Part(),
    "HSTU's layers": Part(replaced={(_NETWORK, "Layer"): HstuLayer}),
    "no layers": Part({"layers": 0}),
    "no recency mean": Part(replaced={(_NETWORK, "HistoryEncoder"): WithoutRecentMean}),
    "histories of 50": Part({"history": 50}),
    "no times": Part(told=without_times),
    "no profiles": Part(told=without_profiles),
    "no modalities": Part(modalities=False),
    "no identities": Part({"identities": False}),
    "no identity dropout": Part({"identity_dropout": 0.0}),
    "half of the identities dropped": Part({"identity_dropout": 0.5}),
    "random identities at the start": Part(replaced={(_TRAINING, "initial_identities"): as_drawn}),
    "products without a temperature": Part(
        replaced={(_NETWORK, "functional"): _FREE, (_NETWORK, "_SCALE"): 1.0}
    ),
    "1,024 sampled items": Part(replaced={(batch_loss.__module__, "SAMPLED_ABOVE"): 1_024}),
    "no average of parameters": Part(replaced={(_TRAINING, "move"): the_last}),
    "a third of the learning rate": Part({"learning_rate": 0.001}),
    "128 dimensions": Part({"dimension": 128}),
}
