"""Variants of what is trained on: of histories (crop, mask, reorder) and of texts (other words)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from llmrec.errors import OptionError
from llmrec.training.sequences import Window

CROPPED = 0.6
MASKED = 0.3
REORDERED = 0.6
"""Shares of a history that are kept, hidden and shuffled, as CL4SRec tuned them."""

_WORD = re.compile(r"\w+")


def vary(window: Window, ways: Sequence[str], mask: int, draw: np.random.Generator) -> Window:
    """A variant of a window by one way, drawn of ``ways`` (CL4SRec, Xie et al. 2022)."""
    if len(window.items) < 2:
        return window
    return _WAYS[ways[int(draw.integers(len(ways)))]](window, mask, draw)


def crop(window: Window, mask: int, draw: np.random.Generator) -> Window:  # noqa: ARG001
    """Keep a run of 60 % of the items."""
    n = len(window.items)
    kept = max(1, int(CROPPED * n))
    start = int(draw.integers(n - kept + 1))
    part = slice(start, start + kept)
    return replace(window, items=window.items[part], liked=window.liked[part],
                   targets=window.targets[start : start + kept + 1],
                   given=window.given[start : start + kept + 1])  # fmt: skip


def mask(window: Window, mask: int, draw: np.random.Generator) -> Window:
    """Hide 30 % of the items: the row ``mask`` stands in their place."""
    n = len(window.items)
    hidden = draw.permutation(n)[: int(MASKED * n)]
    items = window.items.copy()
    items[hidden] = mask
    return replace(window, items=items)


def reorder(window: Window, mask: int, draw: np.random.Generator) -> Window:  # noqa: ARG001
    """Shuffle a run of 60 % of the items."""
    n = len(window.items)
    moved = int(REORDERED * n)
    start = int(draw.integers(n - moved + 1))
    order = np.arange(n)
    order[start : start + moved] = start + draw.permutation(moved)
    return replace(window, items=window.items[order], liked=window.liked[order])


_WAYS: Mapping[str, Callable[[Window, int, np.random.Generator], Window]] = {
    "crop": crop,
    "mask": mask,
    "reorder": reorder,
}


class Translator(Protocol):
    """What back-translation needs: your model or service."""

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> Sequence[str]:
        """Translate texts from one language to another, in the order given."""
        ...


Synonyms = Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]]
"""A word in lower case -> words that can stand for it; none where there are none."""


def replace_synonyms(text: str, synonyms: Synonyms, *, share: float, seed: int) -> str:
    """Put synonyms in the place of words (EDA, Wei & Zou 2019): before a text is embedded.

    Args:
        text: Any text; all but the words replaced stays as it is.
        synonyms: What can stand for a word: a mapping, or a function such as one over WordNet.
        share: Of the words that have synonyms, how many are replaced, 0 to 1.
        seed: Seed of the draws.

    Raises:
        OptionError: ``share`` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise OptionError(f"share is {share}; allowed is 0 to 1.")
    known = synonyms if callable(synonyms) else lambda word: synonyms.get(word, ())
    words = [(match, list(known(match.group().lower()))) for match in _WORD.finditer(text)]
    words = [(match, others) for match, others in words if others]
    draw = np.random.default_rng(seed)
    chosen = sorted(draw.permutation(len(words))[: round(share * len(words))], reverse=True)
    for number in chosen:
        match, others = words[number]
        other = others[draw.integers(len(others))]
        new = other.capitalize() if match.group()[0].isupper() else other
        text = text[: match.start()] + new + text[match.end() :]
    return text


def back_translate(
    texts: Sequence[str], translator: Translator, *, language: str, through: str
) -> list[str]:
    """Say texts in other words: into another language and back (Sennrich et al. 2016).

    Args:
        texts: In ``language``.
        translator: Yours; llmrec brings none.
        language: Language code of the texts.
        through: Language code of the detour.

    Raises:
        OptionError: The translator lost or added texts.
    """
    there = translator.translate(texts, source=language, target=through)
    back = list(translator.translate(there, source=through, target=language))
    if len(back) != len(texts):
        raise OptionError(
            f"The translator gave {len(back)} texts back for {len(texts)}; allowed is one each."
        )
    return back
