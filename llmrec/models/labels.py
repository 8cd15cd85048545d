"""Labels that are one token of a model: what it answers with where one forward has to do."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase

from llmrec.errors import ModelError, OptionError
from llmrec.models.protocol import TextTokenizer

MOST_LABELS = 26
"""Candidates that one prompt can label with a letter each."""
_ALPHABETS = (
    ascii_uppercase,
    ascii_lowercase,
    tuple(str(number) for number in range(1, MOST_LABELS + 1)),
)


def spellings(label: str) -> tuple[str, ...]:
    """What counts as a label: with and without a space before it; a word also in other cases.

    A letter only as it is written, since "a" is a word of its own.
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
        ModelError: The tokenizer has no alphabet of so many.
    """
    if not 1 <= n <= MOST_LABELS:
        raise OptionError(f"{n} labels: allowed is 1 to {MOST_LABELS}.")
    for alphabet in _ALPHABETS:
        labels = tuple(alphabet[:n])
        tokens = [tuple(tokenizer.encode(label)) for label in labels]
        if all(len(some) == 1 for some in tokens) and len(set(tokens)) == n:
            return labels
    raise ModelError(
        f"The model has no {n} letters or numbers that are one token each.",
        hint="Use the likelihood strategy, or pointwise, which needs Yes and No alone.",
    )
