"""What training leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmrec.items.fusion import Fusion, FusionConfig


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training windows.

    ``losses`` are the weighted terms, means over the steps; ``loss`` is their sum. ``recall`` is
    recall@20 and ``ndcg`` nDCG@10 of the validation targets among all items but the history's,
    None without validation.
    """

    number: int
    loss: float
    losses: Mapping[str, float]
    recall: float | None
    ndcg: float | None
    seconds: float

    @property
    def figure(self) -> float:
        """What the best epoch is chosen by: recall@20 + nDCG@10; without validation, the last."""
        if self.recall is None or self.ndcg is None:
            return float(self.number)
        return self.recall + self.ndcg

    def figures(self) -> dict[str, float]:
        """All figures by name, as a tracker logs them."""
        validation = {"validation/recall@20": self.recall, "validation/ndcg@10": self.ndcg}
        return {
            "loss": self.loss,
            **{f"loss/{name}": value for name, value in self.losses.items()},
            **{name: value for name, value in validation.items() if value is not None},
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class TrainedFusion:
    """A fusion with the parameters of its best epoch, and how it came to be."""

    fusion: Fusion
    epochs: tuple[Epoch, ...]
    best_epoch: int
    config: FusionConfig

    @property
    def best(self) -> Epoch:
        """The best epoch."""
        return self.epochs[self.best_epoch - 1]
