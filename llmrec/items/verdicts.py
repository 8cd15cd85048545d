"""What a sentence judges in so many words: "awful script", "the script is awful"."""

from __future__ import annotations

import re

from llmrec.items.readings import ReadSentence, valence

_STRONG = 1.5
"""The least valence, of 4, of a word that judges."""
_BEFORE, _AFTER, _DENIES = 2, 3, 3
"""How many words before a noun, after "is", and before either, are looked at."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_IS = re.compile(
    r"(?:is|are|was|were|does|do|did|looks?|looked|seems?|seemed|feels?|felt|sounds?)(?:n't)?"
)
_NOT = frozenset(["not", "no", "never", "nor", "hardly", "without", "neither"])


def verdicts(sentence: ReadSentence) -> dict[str, float]:
    """Find the nouns that a sentence judges.

    A noun is judged by a word of VADER's list one or two words before it ("great special effects",
    "loved the food"), or up to three after a form of to be, to do, to look, to seem, to feel or to
    sound that follows it. A denial turns the verdict.

    Returns:
        The noun in small letters to the valence of its strongest word, -4 to 4.
    """
    words = [word.lower().replace("’", "'") for word in _WORD.findall(sentence.text)]
    nouns = {noun.lower() for _, noun in sentence.nouns}
    found: dict[str, float] = {}
    for place, word in enumerate(words):
        if word not in nouns:
            continue
        near = list(range(max(0, place - _BEFORE), place))
        copula = words[place + 1] if place + 1 < len(words) else ""
        if _IS.fullmatch(copula):
            near += range(place + 2, min(place + 2 + _AFTER, len(words)))
        strongest = max((_signed(words, at) for at in near), key=abs, default=0.0)
        if abs(strongest) >= max(_STRONG, abs(found.get(word, 0.0))):
            found[word] = strongest
    return found


def _signed(words: list[str], place: int) -> float:
    before = words[max(0, place - _DENIES) : place]
    denied = any(word in _NOT or word.endswith("n't") for word in before)
    return -valence(words[place]) if denied else valence(words[place])
