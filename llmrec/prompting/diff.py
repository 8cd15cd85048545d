"""Two templates side by side: the fields each reads, and what each renders for one made-up user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, Protocol

from llmrec.models import TextTokenizer
from llmrec.prompting.check_template import FourCharacters, example
from llmrec.prompting.template import Template, fields_read
from llmrec.records import Prompt

Mark = Literal["", "changed", "first", "second"]


class PromptCounter(TextTokenizer, Protocol):
    """A tokenizer that also counts the tokens of a whole prompt."""

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, those of the chat template included."""


@dataclass(frozen=True, slots=True)
class ComparedTemplate:
    """One of the two templates.

    ``reads`` names variables and their fields (``history.title``). ``tokens`` are the model's, or
    four characters each without a model.
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
    """Two lines side by side; None where the other prompt has none.

    ``mark`` is empty for equal lines; ``changed``, or the only prompt that has the line.
    """

    block: str
    mark: Mark
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class TemplateDiff:
    """Two templates compared; ``counted`` says whether ``tokens`` are a model's own."""

    first: ComparedTemplate
    second: ComparedTemplate
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    both: tuple[str, ...]
    lines: tuple[LinePair, ...]
    counted: bool


def compare_templates(
    first: Template, second: Template, counter: PromptCounter | None = None
) -> TemplateDiff:
    """Render two templates for the same made-up user and candidates, and compare the lines.

    Args:
        first: A loaded template.
        second: Another one, or the same one.
        counter: The tokenizer of the intended model; by default a token is four characters.

    Raises:
        PromptError: A template cannot be rendered.
    """
    one, other = _compared(first, counter), _compared(second, counter)
    reads = set(one.reads), set(other.reads)
    return TemplateDiff(
        one,
        other,
        tuple(sorted(reads[0] - reads[1])),
        tuple(sorted(reads[1] - reads[0])),
        tuple(sorted(reads[0] & reads[1])),
        tuple(_lines(one.prompt, other.prompt)),
        counter is not None,
    )


def _compared(template: Template, counter: PromptCounter | None) -> ComparedTemplate:
    prompt = example(template, counter)
    texts = [text for _, text in blocks_of(prompt)]
    estimated = sum(len(FourCharacters().encode(text)) for text in texts)
    return ComparedTemplate(
        template.name,
        template.strategy,
        template.sha256,
        tuple(sorted(fields_read(template.source))),
        prompt,
        sum(map(len, texts)),
        estimated if counter is None else counter.count_tokens([prompt])[0],
    )


def blocks_of(prompt: Prompt) -> list[tuple[str, str]]:
    """A prompt's texts by the names of their blocks, in reading order."""
    if prompt.text is not None:
        return [("text", prompt.text)]
    return [("system", prompt.system), ("user", prompt.user)]


def _lines(first: Prompt, second: Prompt) -> Iterator[LinePair]:
    """Pair lines block by block if both have the same blocks, else those of the whole prompts."""
    one, other = blocks_of(first), blocks_of(second)
    if [name for name, _ in one] != [name for name, _ in other]:
        one = [("", "\n".join(text for _, text in one))]
        other = [("", "\n".join(text for _, text in other))]
    for (block, text), (_, text_of_other) in zip(one, other, strict=True):
        lines, others = text.split("\n"), text_of_other.split("\n")
        matcher = SequenceMatcher(None, lines, others, autojunk=False)
        for kind, start, end, other_start, other_end in matcher.get_opcodes():
            for line, other_line in zip_longest(lines[start:end], others[other_start:other_end]):
                mark: Mark = "" if kind == "equal" else "changed"
                if line is None or other_line is None:
                    mark = "second" if line is None else "first"
                yield LinePair(block, mark, line, other_line)
