"""Loss of a list: a softmax over its candidates, with the gate's other features as an offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from llmrec.reranking.gate import RETRIEVAL
from llmrec.training.gated_validation import columns, gate_features, gate_lists
from llmrec.training.packed_rows import Segment
from llmrec.training.tuning_data import TuningData, TuningList
from llmrec.training.tuning_settings import TuningSettings

_NEVER = -1e9
"""Logit of a place without a candidate; minus infinity times no wish would be NaN."""


class ListLoss(nn.Module):
    """Cross-entropy of the wished candidates; the offset's weights are learned beside the model.

    ``fixed`` are those of features that the model does not change, ``learned`` those of its score.
    """

    def __init__(self, data: TuningData, settings: TuningSettings) -> None:
        super().__init__()
        self.data, self.settings = data, settings
        self.names = gate_features(data.strategy)
        fixed, learned = self.names
        self.fixed = nn.Parameter(torch.zeros(len(fixed)))
        self.learned = nn.Parameter(torch.zeros(len(learned)))

    def start(self, weights: Mapping[str, float]) -> None:
        """Begin at the gate of the untuned model."""
        with torch.no_grad():
            for part, names in zip((self.fixed, self.learned), self.names, strict=True):
                part.copy_(torch.tensor([weights[name] for name in names]))

    def weights(self) -> dict[str, float]:
        """The weights that are in use, by feature."""
        if not self.settings.on_lists or self.settings.offset == "none":
            return {}
        fixed, learned = self.names
        found = dict(zip(fixed, self.fixed.tolist(), strict=True))
        if self.settings.offset == "retriever":
            return {RETRIEVAL: found[RETRIEVAL]}
        return {**found, **dict(zip(learned, self.learned.tolist(), strict=True))}

    def forward(
        self,
        scores: Sequence[Tensor],
        entries: Sequence[TuningList],
        segments: Sequence[Segment],
        priors: NDArray[np.float64],
    ) -> Tensor:
        """The sum over lists."""
        device, offset = scores[0].device, self.settings.offset
        lists = gate_lists(self.data, entries, segments, priors)
        there = torch.from_numpy(lists.there).to(device)
        logits = pad_sequence(list(scores), batch_first=True)
        if offset != "none":
            table = columns(self.data, lists, self.names[0])
            known = torch.from_numpy(table).float().to(device)
        if offset == "retriever":
            logits = logits + known[..., 0] * self.fixed[0]
        elif offset == "gate":
            popular = (np.log1p(lists.popularity) - self.data.scale[0]) / self.data.scale[1]
            rarity = torch.from_numpy(np.nan_to_num(popular)).float().to(device)
            sizes = there.sum(1, keepdim=True)
            centred = (logits - logits.sum(1, keepdim=True) / sizes) * there
            spread = (centred.square().sum(1, keepdim=True) / sizes).sqrt().clamp_min(1e-6)
            main, product = self.learned
            logits = known @ self.fixed + centred / spread * (main + product * rarity)
        wished = [torch.from_numpy(e.wished(self.settings.temperature)) for e in entries]
        wish = pad_sequence(wished, batch_first=True).float().to(device)
        return -(wish * logits.masked_fill(~there, _NEVER).log_softmax(1)).sum()
