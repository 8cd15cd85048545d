"""Language models behind an OpenAI-compatible server."""

from __future__ import annotations

from llmrec.models.openai.capabilities import Capabilities
from llmrec.models.openai.prices import Prices
from llmrec.models.openai.server_model import OpenAIServerModel

__all__ = ["Capabilities", "OpenAIServerModel", "Prices"]
