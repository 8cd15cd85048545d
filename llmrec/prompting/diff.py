"""Two templates beside each other: what each reads, and what each says of the same made-up user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, Protocol

from llmrec.models import TextTokenizer
from llmrec.prompting import sandbox, structure
from llmrec.prompting.examples import FourCharacters, example
from llmrec.prompting.template import Template
from llmrec.records import Prompt

Mark = Literal["", "changed", "first", "second"]


class PromptReader(TextTokenizer, Protocol):
    """A tokenizer that knows what its model makes of a whole prompt."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, those of the chat template among them."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two templates.

    ``reads`` names variables and their fields (``history.title``). ``tokens`` are the model's where
    there is one; else of a token for four characters.
    """

    name: str
    strategy: str
    sha256: str
    reads: tuple[str, ...]
    prompt: Prompt
    characters: int
    tokens: int


@dataclass(frozen=True, slots=True)
class LinePair:
    """Two lines that stand beside each other; None where the other prompt has none.

    ``mark`` says whether they are the same (empty), differ, or stand in one of them alone.
    """

    block: str
    mark: Mark
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class TemplateDiff:
    """Two templates compared; ``counted`` says that a model's own tokens were counted."""

    first: Side
    second: Side
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    both: tuple[str, ...]
    lines: tuple[LinePair, ...]
    counted: bool


def compare_templates(
    first: Template, second: Template, reader: PromptReader | None = None
) -> TemplateDiff:
    """Render two templates for the same made-up user and candidates, and lay them side by side.

    Args:
        first: A loaded template.
        second: Another one, or the same one.
        reader: Of the model in mind; without one, a token is taken to be four characters.

    Raises:
        PromptError: A template cannot be rendered.
    """
    one, other = _side(first, reader), _side(second, reader)
    reads = set(one.reads), set(other.reads)
    return TemplateDiff(
        one,
        other,
        tuple(sorted(reads[0] - reads[1])),
        tuple(sorted(reads[1] - reads[0])),
        tuple(sorted(reads[0] & reads[1])),
        tuple(_lines(one.prompt, other.prompt)),
        reader is not None,
    )


def _side(template: Template, reader: PromptReader | None) -> Side:
    prompt = example(template, reader)
    texts = [text for _, text in blocks_of(prompt)]
    estimated = sum(len(FourCharacters().encode(text)) for text in texts)
    return Side(
        template.name,
        template.strategy,
        template.sha256,
        tuple(sorted(structure.fields_read(sandbox.parse(template.source)))),
        prompt,
        sum(map(len, texts)),
        estimated if reader is None else reader.count_tokens(prompt),
    )


def blocks_of(prompt: Prompt) -> list[tuple[str, str]]:
    """A prompt's texts by the names of their blocks, in the order in which they are read."""
    if prompt.text is not None:
        return [("text", prompt.text)]
    return [("system", prompt.system), ("user", prompt.user)]


def _lines(first: Prompt, second: Prompt) -> Iterator[LinePair]:
    """Block by block where both have the same blocks, else the whole of the one and the other."""
    one, other = blocks_of(first), blocks_of(second)
    if [name for name, _ in one] != [name for name, _ in other]:
        one = [("", "\n".join(text for _, text in one))]
        other = [("", "\n".join(text for _, text in other))]
    for (block, text), (_, text_of_other) in zip(one, other, strict=True):
        yield from _pairs(block, text.split("\n"), text_of_other.split("\n"))


def _pairs(block: str, one: list[str], other: list[str]) -> Iterator[LinePair]:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for kind, start, end, start_of_other, end_of_other in matcher.get_opcodes():
        rows = zip_longest(one[start:end], other[start_of_other:end_of_other])
        for line, line_of_other in rows:
            mark: Mark = "" if kind == "equal" else "changed"
            if line is None:
                mark = "second"
            elif line_of_other is None:
                mark = "first"
            yield LinePair(block, mark, line, line_of_other)
