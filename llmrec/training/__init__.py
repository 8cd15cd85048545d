"""Training of the fusion of all modalities."""

from __future__ import annotations

from llmrec.training.checkpoints import Epoch
from llmrec.training.dataset import hold_out_last_rows
from llmrec.training.train_fusion import TrainedFusion, train_fusion

__all__ = ["Epoch", "TrainedFusion", "hold_out_last_rows", "train_fusion"]
