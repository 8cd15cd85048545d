"""Gates for strategies that nothing was fitted for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llmrec.reranking.gate import Gate

DEFAULT_GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "likelihood": Gate(
            {
                "retrieval": 0.59,
                "likelihood.conditional": 0.27,
                "likelihood.prior": -0.18,
                "likelihood.conditional x popularity": -0.16,
                "likelihood.prior x popularity": 0.13,
            },
            source="default: SmolLM2-135M-Instruct on amazon_beauty_seq and another sparse set",
        ),
    }
)
"""By strategy: weights learned across data sets (``python eval/gate_defaults.py``)."""
