"""A model that is asked for the same labels once: calibrated rows hold the plain rows' prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec import TransformersModel, Usage
from llmrec.models import LabelRequest, LogProbs


@dataclass(frozen=True)
class Remembering:
    """What it remembers counts as nothing spent, so costs are measured without it."""

    model: TransformersModel
    known: dict[LabelRequest, tuple[NDArray[np.float64], int]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the model has
        """Everything else is the model's."""
        return getattr(self.model, name)

    def session(self) -> Remembering:
        """The model of one conversation, with what is remembered."""
        return replace(self, model=self.model.session())

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Ask for what is not known yet."""
        new = [request for request in dict.fromkeys(requests) if request not in self.known]
        asked = self.model.label_log_probs(new) if new else LogProbs((), Usage())
        self.known.update(zip(new, zip(asked.values, asked.tokens, strict=True), strict=True))
        found = [self.known[request] for request in requests]
        values, tokens = tuple(v for v, _ in found), tuple(n for _, n in found)
        return LogProbs(values, asked.usage, asked.fallbacks, tokens)
