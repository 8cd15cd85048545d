"""Language models behind an OpenAI-compatible server."""

from __future__ import annotations

from llmrec.language_models.openai_server.capabilities import Capabilities
from llmrec.language_models.openai_server.model import OpenAIServerModel
from llmrec.language_models.openai_server.prices import Prices

__all__ = ["Capabilities", "OpenAIServerModel", "Prices"]
