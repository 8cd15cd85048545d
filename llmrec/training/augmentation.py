"""Data augmentation: variants of histories (crop, mask, reorder) and of texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from llmrec.errors import OptionError
from llmrec.training.dataset import Window

_CROPPED = _REORDERED = 0.6
_MASKED = 0.3
"""Shares of a history that are kept, shuffled and masked, as in CL4SRec."""
_WORD = re.compile(r"\w+")


def vary(window: Window, kinds: Sequence[str], mask: int, draw: np.random.Generator) -> Window:
    """Return a variant of a window (CL4SRec, Xie et al. 2022).

    Args:
        window: Any window; one of fewer than two items is returned as it is.
        kinds: One is drawn: ``crop`` keeps a run of 60 % of the items, ``reorder`` shuffles a run
            of 60 %, ``mask`` puts ``mask`` in the place of 30 %.
        mask: Item row of a masked item.
        draw: Random generator.
    """
    n = len(window.items)
    if n < 2:
        return window
    kind = kinds[int(draw.integers(len(kinds)))]
    if kind == "mask":
        items = window.items.copy()
        items[draw.permutation(n)[: int(_MASKED * n)]] = mask
        return replace(window, items=items)
    if kind == "crop":
        length = max(1, int(_CROPPED * n))
        start = int(draw.integers(n - length + 1))
        run, positions = slice(start, start + length), slice(start, start + length + 1)
        return Window(
            window.items[run], window.liked[run], window.targets[positions], window.given[positions]
        )
    length = int(_REORDERED * n)
    start = int(draw.integers(n - length + 1))
    order = np.arange(n)
    order[start : start + length] = start + draw.permutation(length)
    return replace(window, items=window.items[order], liked=window.liked[order])


Synonyms = Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]]
"""A word in lower case -> its synonyms; none where there are none."""


def replace_synonyms(text: str, synonyms: Synonyms, *, share: float, seed: int) -> str:
    """Replace words by synonyms (EDA, Wei & Zou 2019), before a text is embedded.

    Args:
        text: Any text; all but the replaced words stays as it is.
        synonyms: A mapping, or a function such as one over WordNet.
        share: Share of the words with synonyms that are replaced, 0 to 1.
        seed: Random seed.

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


class Translator(Protocol):
    """A model or service of yours that translates; llmrec brings none."""

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> Sequence[str]:
        """Translate texts from one language to another, in the order given."""
        ...


def back_translate(
    texts: Sequence[str], translator: Translator, *, language: str, through: str
) -> list[str]:
    """Translate texts to the language ``through`` and back (Sennrich et al. 2016).

    Raises:
        OptionError: The translator returned another number of texts.
    """
    there = translator.translate(texts, source=language, target=through)
    back = list(translator.translate(there, source=through, target=language))
    if len(back) != len(texts):
        raise OptionError(
            f"The translator returned {len(back)} texts for {len(texts)}; allowed is one each."
        )
    return back
