from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmrec.prompting import Context, PromptWriter, Rendered, Template
from llmrec.records import Item


def written(
    template: Template,
    candidates: Sequence[Item],
    *,
    per_candidate: bool = True,
    **about: Any,  # noqa: ANN401
) -> Rendered:
    """Write one user's prompts: one a candidate, one for all of them, or one that names none."""
    context = replace(about.pop("context", Context()), items=about.pop("items"))
    writer = PromptWriter(template=template, context=context, **about)
    if not per_candidate:
        return writer.for_groups([candidates])
    return writer.for_each(candidates) if candidates else writer.without_candidate()
