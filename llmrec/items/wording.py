"""What was understood, in short lines that a prompt can hold."""

from __future__ import annotations

from itertools import groupby

from llmrec.items.taste import Taste, Value
from llmrec.records import Aspect, Opinion

_ASPECTS = 3
_CLEARLY = 2
"""So many times as often must be spoken well of what is praised, and ill of what is criticised."""


def opinion_line(opinion: Opinion) -> str:
    """Say what reviewers think; aspects on which they are divided are left out.

    >>> from llmrec.records import SentimentSource
    >>> aspects = (Aspect("plot", 5, 1), Aspect("length", 0, 2))
    >>> opinion_line(Opinion(12, 0.75, (), (), aspects, SentimentSource.RATINGS))
    '75 % of 12 reviews positive; praised: plot; criticised: length'
    """
    reviews = "1 review" if opinion.n == 1 else f"{opinion.n} reviews"
    praised = [each for each in opinion.aspects if each.positive >= _CLEARLY * each.negative]
    criticised = [each for each in opinion.aspects if each.negative >= _CLEARLY * each.positive]
    parts = [f"{100 * opinion.share_positive:.0f} % of {reviews} positive"]
    parts += _aspects("praised", praised) + _aspects("criticised", criticised)
    return "; ".join(parts)


def taste_line(taste: Taste) -> str:
    """Say what a history tells of a user; empty where it tells nothing.

    >>> taste_line(Taste(favoured=(("genres", "War"), ("brand", "Acme"), ("genres", "Crime"))))
    'often genres War, Crime, brand Acme'
    """
    parts = [
        f"{word} {_by_name(values)}"
        for word, values in (("often", taste.favoured), ("rarely liked", taste.avoided))
        if values
    ]
    for words, aspects in (("enjoys", taste.enjoyed), ("put off by", taste.disliked)):
        if aspects:
            parts.append(f"{words} {', '.join(name for _, name in aspects)}")
    return "; ".join(parts)


def _aspects(word: str, aspects: list[Aspect]) -> list[str]:
    names = ", ".join(each.name for each in aspects[:_ASPECTS])
    return [f"{word}: {names}"] if names else []


def _by_name(values: tuple[Value, ...]) -> str:
    """Attribute by attribute, in the order in which the attributes first come."""
    first = {name: at for at, (name, _) in reversed(list(enumerate(values)))}
    ordered = sorted(values, key=lambda value: first[value[0]])
    return ", ".join(
        f"{name.replace('_', ' ')} {', '.join(text for _, text in group)}"
        for name, group in groupby(ordered, key=lambda value: value[0])
    )
