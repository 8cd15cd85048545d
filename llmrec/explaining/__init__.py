"""Why an item is for a user: evidence, a model's text, and the check of the one by the other."""

from __future__ import annotations

from llmrec.explaining.check import check_text
from llmrec.explaining.evidence import EvidenceLimits, gather_evidence
from llmrec.explaining.explainer import Explainer
from llmrec.explaining.titles import Titles

__all__ = ["EvidenceLimits", "Explainer", "Titles", "check_text", "gather_evidence"]
