"""Training: the fusion of all modalities, and the classic recommender it stands beside."""

from __future__ import annotations

from llmrec.training.fusion import train_fusion
from llmrec.training.trained import Epoch, TrainedFusion

__all__ = ["Epoch", "TrainedFusion", "train_fusion"]
