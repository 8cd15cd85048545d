"""Gates for strategies that nothing was fitted for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llmrec.reranking.gate import Gate

DEFAULT_GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "likelihood": Gate(
            {
                "retrieval": 0.61,
                "likelihood.conditional": 0.31,
                "likelihood.prior": -0.21,
                "likelihood.conditional x popularity": -0.20,
                "likelihood.prior x popularity": 0.17,
            },
            limit=1.5,
            source="default: SmolLM2-135M-Instruct on amazon_beauty_seq and amazon_gift_cards",
        ),
    }
)
"""By strategy: weights learned across data sets (``python eval/gate_defaults.py``).

About the limit the products take a part's weight to 0 (0.31 / 0.20 is 1.55). Beyond it, for the
popular items of a dense data set, they would turn the model's judgement round.
"""
