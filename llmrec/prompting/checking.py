"""What is wrong with a template: for ``llmrec prompts check``."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from jinja2 import TemplateSyntaxError

from llmrec.errors import PromptError
from llmrec.prompting import sandbox, structure
from llmrec.prompting.budget import TextTokenizer
from llmrec.prompting.examples import (
    FAULT,
    LONG_ITEM,
    LONG_USER,
    NEWCOMER,
    TITLES,
    FourCharacters,
    examples,
)
from llmrec.prompting.prompt import Prompt
from llmrec.prompting.templates import Template, load_template, read_source, template_path

_LONG_PROMPT = 2048  # tokens; a small model reads no more, and a CPU takes seconds for as many


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a template: an error makes it unusable. Lines count from 1."""

    level: Literal["error", "warning"]
    line: int
    message: str


class _Rules(NamedTuple):
    """What a template of one strategy must read, should read and must not read."""

    must: frozenset[str]
    should: frozenset[str]
    must_not: frozenset[str]
    why_not: str


_EACH = "it is rendered once for each candidate, which it sees as 'item'"
_GIVES_AWAY = "target leakage, since the candidate's title is what is to be predicted"
_RULES = {
    "pointwise": _Rules(frozenset({"item"}), frozenset({"history"}), frozenset({"items"}), _EACH),
    "likelihood": _Rules(
        frozenset(), frozenset({"history"}), frozenset({"item", "items"}), _GIVES_AWAY
    ),
    "explain": _Rules(
        frozenset({"item", "evidence"}), frozenset({"fault"}), frozenset({"items"}), _EACH
    ),
}


def check_template(
    template: str | Path | Template, tokenizer: TextTokenizer | None = None
) -> tuple[Finding, ...]:
    """Say all that is wrong with a template, by line.

    Args:
        template: A name, the path of a ``.jinja`` file, or a loaded template.
        tokenizer: Of the model in mind; without one, a token is taken to be four characters.

    Raises:
        PromptError: There is no such template, or its file cannot be read.
    """
    path = template.path if isinstance(template, Template) else template_path(template)
    source = template.source if isinstance(template, Template) else read_source(path)
    try:
        tree = sandbox.parse(source)
    except TemplateSyntaxError as error:
        message = error.message or "cannot be read"
        return (Finding("error", error.lineno, f"{message}. {sandbox.syntax_hint(message)}"),)
    if faults := structure.faults_of(tree):
        return tuple(
            Finding("error", fault.line, f"{fault.message}. {fault.hint}".rstrip())
            for fault in faults
        )
    usable = template if isinstance(template, Template) else load_template(path)
    found = [*_read(usable), *_rendered(usable, tokenizer or FourCharacters())]
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.level, finding.message)))


def _read(template: Template) -> Iterator[Finding]:
    if not template.summary:
        yield Finding("warning", 1, "no {# comment #} at the beginning says what it is for")
    rules = _RULES.get(template.strategy)
    if rules is None:
        yield Finding(
            "warning",
            1,
            f"lies in a folder {template.strategy!r}, which is no strategy: what "
            f"{', '.join(_RULES)} need was not checked",
        )
        return
    for name in sorted(rules.must - template.variables):
        yield Finding("error", 1, f"a {template.strategy} template must read {name!r}")
    for name in sorted(rules.should - template.variables):
        yield Finding("warning", 1, f"a {template.strategy} template does better with {name!r}")
    for name in sorted(rules.must_not & template.variables):
        yield Finding(
            "error",
            1,
            f"a {template.strategy} template must not read {name!r}: {rules.why_not}",
        )


def _rendered(template: Template, tokenizer: TextTokenizer) -> Iterator[Finding]:
    """What shows only in rendered prompts: of a user, of one without history, of long fields."""
    try:
        prompts = examples(template, tokenizer)
        (newcomer, *_) = examples(template, tokenizer, user=NEWCOMER, fault=FAULT)
        (longest, *_) = examples(
            template, tokenizer, user=LONG_USER, candidates=(LONG_ITEM,), fault=FAULT
        )
    except PromptError as error:
        code = sandbox.compiled(template.source, str(template.path))
        line = sandbox.line_of(code, error.__cause__) if error.__cause__ else 1
        yield Finding("error", line, str(error))
        return
    if not _text(newcomer).strip():
        yield Finding("error", 1, "renders nothing for a user without history")
    text = _text(prompts[0])
    if template.strategy == "pointwise":
        if not ("Yes" in text and "No" in text):
            yield Finding("warning", 1, "does not say that the answer is Yes or No")
        # It compares characters, which is what is wanted here.
        shared = os.path.commonprefix([_text(prompt) for prompt in prompts])  # noqa: RUF071
        if any(title in text and title not in shared for title in TITLES):
            yield Finding(
                "warning",
                1,
                "shows the candidate before the end of the history: the prompts of one user share "
                f"only their first {len(shared)} characters, and each history is read again",
            )
    n_tokens = len(tokenizer.encode(_text(longest)))
    if n_tokens > _LONG_PROMPT:
        about = "about " if isinstance(tokenizer, FourCharacters) else ""
        yield Finding(
            "warning",
            1,
            f"takes {about}{n_tokens:,} tokens where every field fills its budget; from "
            f"{_LONG_PROMPT:,} on the oldest history may have to go, and every answer is slow",
        )


def _text(prompt: Prompt) -> str:
    return prompt.text if prompt.text is not None else f"{prompt.system}\n{prompt.user}"
