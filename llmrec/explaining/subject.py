"""The check that a text is about the item that was asked for, and offers no other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmrec.explaining.evidence import TITLE
from llmrec.explaining.titles import (
    OPENING,
    Mention,
    Titles,
    cover,
    keys,
    split_sentences,
    title_forms,
    title_heads,
    words,
)
from llmrec.records import Evidence

_LIKE = (
    "like|love|enjoy|want|need|buy|get|watch|read|try|play|own|prefer|appreciate|consider|choose|"
    "pick|see|use|have|find|order|hear|visit|be interested in|fall for"
)
_OFFER = re.compile(
    rf"(?:\b(?:may|might|could|should|would|will|can|must|shall|to)|['’](?:ll|d))"
    rf"\s+(?:\w+\s+){{0,2}}?(?:{_LIKE})\b"
    r"|\b(?:recommend|suggest)(?:s|ed)?\b|\b(?:how about|what about|check out|introducing)\b"
    r"|(?:^|[.!?;:,]\s*|\b(?:so|then|now|please|and|why not)\s+)"
    r"(?:try|buy|get|watch|read|play|choose|pick|consider|order|enjoy|meet|go for)\b",
    re.IGNORECASE,
)
"""Words before the title of an item that is offered."""
_OBJECT_ENDS = re.compile(
    r"[.!?;:()]|\b(?:because|since|as|if|when|while|that|which|who|whose|with|for|from|by|after|"
    r"given|due|thanks|just|like|similar|than|to|in|on|at|but|so|you|we|i|it|they|is|are|was)\b",
    re.IGNORECASE,
)
_OFFERED = re.compile(
    r"\W*\s(?:(?:is|are|would be|may be|might be|could be|will be)\s+(?:\w+\s+){0,4}?"
    r"(?:suggested|recommended|for you|perfect|ideal|right|made for|choice|pick|fit|match|option)"
    r"|(?:may|might|could|should|would|will)\s+(?:\w+\s+)?"
    r"(?:suit|interest|please|appeal|fit|delight|work|match))\b",
    re.IGNORECASE,
)
"""Words after the title of an item that is offered."""
_THIS = re.compile(
    r"(?:^|[.!?;:,]\s+)[\"'(]*(?:it|they)\b|\b(?:this|these|dies\w*|cet|cette|este|esta|questo|"
    rf"questa)\s+\w+|\b(?:{_LIKE}|recommend|suggest)\s+(?:it|this|them|these)\b|[这它此本]",
    re.IGNORECASE,
)
"""Words that mean the item without its name."""
_REASON = re.compile(
    r"\b(?:liked|loved|enjoyed|bought|chose|chosen|watched|played|read|owned?|like|love|enjoy|as|"
    r"similar|than|fans?|same|shares?|both|gefallen|mochte\w*|gemocht|aimé\w*|gust\w+|piaciut\w+)\b"
    "|[喜欢好看买読]",
    re.IGNORECASE,
)
"""Words of a sentence that names an item of the history as a reason."""


def subject_faults(
    text: str, evidence: Sequence[Evidence], titles: Titles, *, must_name: bool
) -> Iterator[str]:
    """Faults of a text that offers another item, or does not say which one it is about.

    An item of the history may be named as a reason. The item is named by its title, by the noun of
    its title ("the scarf" for "Merino Wool Scarf") or by a word such as "it" or "this".

    Args:
        text: The text to check.
        evidence: What the text may use; its title fact names the item.
        titles: The catalogue's titles.
        must_name: Whether the text has to name the item.
    """
    names = (fact.text for fact in evidence if fact.kind == "item" and fact.text.startswith(TITLE))
    name = next(names, "").removeprefix(TITLE).strip('"')
    if not name:
        return
    item = _Name(name, titles)
    mentions = titles.find(text, any_case=True)
    others = [mention for mention in mentions if not item.is_title(mention.text)]
    offered = next(_offered(text, mentions, others, item, evidence, titles), None)
    if offered is not None:
        yield f"it offers {offered!r} instead of {name!r}"
        return
    for sentence in split_sentences(text) if must_name else ():
        strange = [m.text for m in titles.find(sentence) if not item.is_title(m.text)]
        if strange and not _REASON.search(cover(sentence, titles.find(sentence))):
            yield f"it names {strange[0]!r} without saying what it has to do with {name!r}"
    if must_name and not item.is_meant(cover(text, others)):
        yield f"it does not name {name!r}"


def names_title(text: str, name: str, titles: Titles) -> bool:
    """Whether a text names an item by its title, in one of its forms."""
    item = _Name(name.strip('"'), titles)
    return any(item.is_title(mention.text) for mention in titles.find(text, any_case=True))


def _offered(
    text: str,
    mentions: Sequence[Mention],
    others: Sequence[Mention],
    item: _Name,
    evidence: Sequence[Evidence],
    titles: Titles,
) -> Iterator[str]:
    """What a text offers that is not the item."""
    covered = cover(text, mentions)
    objects = []
    for match in _OFFER.finditer(covered):
        stop = _OBJECT_ENDS.search(covered, match.end())
        objects.append((match.end(), stop.start() if stop else len(text)))
    for mention in others:
        if any(start <= mention.start < end for start, end in objects):
            yield mention.text
        if _OFFERED.match(covered, mention.end):
            yield mention.text
    if others and not text[: others[0].start].strip(OPENING):
        first = split_sentences(cover(text, others))[0]
        if not item.is_meant(first):
            yield others[0].text
    liked = [fact.text.partition('"')[2] for fact in evidence if fact.kind == "history"]
    history = [title.partition('"')[0] for title in liked]
    heads = {head for title in history for head in title_heads(title)}
    said = {key for fact in evidence if fact.kind == "item" for key in keys(fact.text)}
    heads |= titles.heads - said
    own = said | item.words | {key for f in evidence if f.kind == "review" for key in keys(f.text)}
    strange = {key for title in history for key in keys(title)} - own
    for start, end in objects:
        # A part of a title, whose last word may be the item's too: "Wild Wings Gift Card".
        named = [word for word in words(covered[start:end]) if word.capital]
        if any(word.key in strange and word.key.removesuffix("s") not in own for word in named):
            yield " ".join(word.text for word in named)
        if not item.is_meant(text[start:end]):
            yield from (key for key in keys(covered[start:end]) if key in heads - item.words)


class _Name:
    """The title of the item that a text has to be about."""

    def __init__(self, name: str, titles: Titles) -> None:
        self.cut = keys(name) if name.endswith("…") else ()
        self.forms = {keys(form) for form in title_forms(name)}
        self.words = {key for form in self.forms for key in form}
        self.heads = title_heads(name)
        if len(keys(name)) == 1:  # "heat" does not name "Heat"
            self.heads = {head for head in self.heads if not titles.is_ordinary(head)}

    def is_title(self, text: str) -> bool:
        """Whether a title is the item's."""
        found = keys(text)
        return found in self.forms or bool(self.cut and found[: len(self.cut)] == self.cut)

    def is_meant(self, text: str) -> bool:
        """Whether a text names the item or means it."""
        said = keys(text)
        joined = f" {' '.join(said)} "
        forms = [form for form in self.forms if len(form) > 1]
        return (
            any(f" {' '.join(form)} " in joined for form in forms)
            or any(self.is_title(word.text) for word in words(text) if word.capital)
            or any(key in self.heads or key.removesuffix("s") in self.heads for key in said)
            or _THIS.search(text) is not None
        )
