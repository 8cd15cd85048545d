"""Explanations: evidence, a text of it, and the check of the text against the evidence."""

from __future__ import annotations

from llmrec.explaining.check import check_text
from llmrec.explaining.entailment import Entailment
from llmrec.explaining.evidence import EvidenceLimits, gather_evidence
from llmrec.explaining.explainer import Explainer
from llmrec.explaining.titles import Titles

__all__ = ["Entailment", "EvidenceLimits", "Explainer", "Titles", "check_text", "gather_evidence"]
