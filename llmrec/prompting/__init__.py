"""Prompts from a user, history and candidates: templates, budgets, safe item text."""

from __future__ import annotations

from llmrec.prompting.check_template import check_template, example, refuse_meaningless
from llmrec.prompting.context import Context, context_of
from llmrec.prompting.fields import Budget, check_budget, field_text
from llmrec.prompting.neutralise import neutralise
from llmrec.prompting.render import PromptWriter, Rendered
from llmrec.prompting.template import (
    DEFAULT_TEMPLATES,
    Finding,
    Template,
    list_templates,
    load_template,
    prompts_folder,
)

__all__ = [
    "DEFAULT_TEMPLATES",
    "Budget",
    "Context",
    "Finding",
    "PromptWriter",
    "Rendered",
    "Template",
    "check_budget",
    "check_template",
    "context_of",
    "example",
    "field_text",
    "list_templates",
    "load_template",
    "neutralise",
    "prompts_folder",
    "refuse_meaningless",
]
