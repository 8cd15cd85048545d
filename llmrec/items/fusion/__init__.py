"""Fusion: one vector per item from all modalities, one per user from a history."""

from __future__ import annotations

from llmrec.items.fusion.config import FusionConfig
from llmrec.items.fusion.fusion import Fusion

__all__ = ["Fusion", "FusionConfig"]
