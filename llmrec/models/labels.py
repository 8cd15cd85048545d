"""Labels that are one token of a model, and orders of labels as patterns for constrained output.

An order is written ``[B] > [A] > [C]``. For up to `SPELLED_OUT` labels a pattern lists every order,
so that no label is missing or repeated. For more labels, n! orders are too many: the pattern fixes
the number of labels and which are allowed, but labels may repeat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import permutations
from string import ascii_lowercase, ascii_uppercase

from llmrec.errors import ModelError, OptionError
from llmrec.models.protocol import TextTokenizer

MOST_LABELS = 26
"""Candidates that one prompt can label with a letter each."""
OPEN, BETWEEN, CLOSE = "[", "] > [", "]"
SPELLED_OUT = 4
"""The most labels of which a pattern lists every order."""


def spellings(label: str) -> tuple[str, ...]:
    """Accepted spellings of a label: with and without a leading space; words also in other cases.

    A letter counts only as written, since "a" is a word of its own.
    """
    words = (label, label.lower(), label.upper()) if len(label) > 1 else (label,)
    return tuple(dict.fromkeys(space + word for word in words for space in ("", " ")))


def label_tokens(tokenizer: TextTokenizer, label: str) -> tuple[int, ...]:
    """The spellings of a label that are a single token, without repeats.

    Raises:
        ModelError: There is none.
    """
    encoded = [tokenizer.encode(spelling) for spelling in spellings(label)]
    tokens = dict.fromkeys(some[0] for some in encoded if len(some) == 1)
    if not tokens:
        raise ModelError(
            f"The model has no single token for {label!r} in any spelling.",
            hint="Use the likelihood strategy, which needs no labels.",
        )
    return tuple(tokens)


def labels_for(tokenizer: TextTokenizer, n: int) -> tuple[str, ...]:
    """``n`` labels that are each one token of their own: letters, else numbers.

    Raises:
        OptionError: More than `MOST_LABELS` are asked for.
        ModelError: The tokenizer has no such ``n`` labels.
    """
    if not 1 <= n <= MOST_LABELS:
        raise OptionError(f"{n} labels: allowed is 1 to {MOST_LABELS}.")
    numbers = tuple(str(number) for number in range(1, n + 1))
    for labels in (tuple(ascii_uppercase[:n]), tuple(ascii_lowercase[:n]), numbers):
        tokens = [tuple(tokenizer.encode(label)) for label in labels]
        if all(len(some) == 1 for some in tokens) and len(set(tokens)) == n:
            return labels
    raise ModelError(
        f"The model has no {n} letters or numbers that are one token each.",
        hint="Use the likelihood strategy, or pointwise, which needs Yes and No alone.",
    )


def write_order(order: Sequence[str]) -> str:
    """An order of labels as text: ``[B] > [A] > [C]``."""
    return OPEN + BETWEEN.join(order) + CLOSE


def order_regex(labels: Sequence[str]) -> str:
    """A regular expression for an order, without anchors or capturing groups."""
    if len(labels) <= SPELLED_OUT:
        every = "|".join(re.escape(write_order(order)) for order in permutations(labels))
        return f"(?:{every})".replace(r"\ ", " ").replace(r"\>", ">")
    label = rf"\[(?:{'|'.join(map(re.escape, labels))})\]"
    return f"{label}(?: > {label}){{{len(labels) - 1}}}"


def order_grammar(labels: Sequence[str]) -> str:
    """The same in GBNF, llama.cpp's grammar format."""
    if len(labels) <= SPELLED_OUT:
        return f"root ::= {' | '.join(json.dumps(write_order(o)) for o in permutations(labels))}"
    label = " | ".join(json.dumps(label) for label in labels)
    more = len(labels) - 1
    return f'root ::= "[" label "]" (" > [" label "]"){{{more}}}\nlabel ::= {label}'
