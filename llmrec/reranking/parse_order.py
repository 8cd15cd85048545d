"""Read an order of labels from a model's text: ``[B] > [A] > [C]`` or similar.

A label counts at the beginning of a line, after ``>``, or at the head of a chain. Labels in prose
("A good choice is [C] > [A]") or inside titles ("[C] Plan [B]") do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class OrderFault(StrEnum):
    """A fault of a written order; an order can have several."""

    OK = "ok"
    REPEATED = "repeated"
    MISSING = "missing"
    FOREIGN = "foreign"
    REFUSED = "refused"
    EMPTY = "empty"
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class ParsedOrder:
    """Places of all labels, best first, each once.

    The ``named`` labels of the answer come first; the others keep their given order. ``faults`` is
    ``(OrderFault.OK,)`` for a complete order.
    """

    order: tuple[int, ...]
    faults: tuple[OrderFault, ...]
    named: int


@dataclass(frozen=True, slots=True)
class _Chain:
    """Adjacent labels; ``ranked`` if ``>`` separates them."""

    labels: list[str]
    ranked: bool


_BRACKETED = re.compile(r"\[\s*([^\[\]\s]{1,8})\s*\]")
_LABEL = re.compile(r"[^\W\d_]|\d{1,3}")
_RANKS = ">≻→"
_DECORATION = " \t*_`\"'"
# Before the first label of a line: a quote, bullet, heading or table mark, then a number.
_MARKER = re.compile(r"\s*[>|*#_•\-]*\s*(?:\d{1,3}\s*[.):|\-])?[\s*_`\"'|]*")
_GAP = re.compile(
    r"[\s*_`\"'.]*(?:[>≻→,;|/=&\-]|\band\b|\bthen\b)[\s*_`\"'.,>=\-\d]*(?:and|then)?\s*"
)
_HEAD = re.compile(r"[ \t*_`\"']*(?:[>≻→]|[,;]\s*\[)")
_BARE_MARKER = re.compile(r"\s*[>|*#_•\-]*\s*(?:\d{1,3}[.):]\s+)?")
_LABELLED_LINE = re.compile(
    r"[\s*_`\"'(]*([^\W\d_]|\d{1,3})[*_`\"']*\s*(?:[.):=]|[-–—](?=\s))[*_`]*\s"
)
_BETWEEN = re.compile(r"[\s,;|/&]+(?:(?:and|then)\s+)?")
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|cannot|can't|can not|won't|unable|not able|not possible|impossible"
    r"|as an ai|refuse|decline)\b",
    re.IGNORECASE,
)


def parse_order(text: str, labels: Sequence[str], *, finished: bool = True) -> ParsedOrder:
    """Read an order of labels.

    If the text has labels in square brackets, bare letters count as prose. Otherwise ``C > A > B``,
    ``C, A, B``, list lines (``1. C``) and lines that begin with a label (``C. Alien``) count.

    Args:
        text: The model's text; everything before ``</think>`` is ignored.
        labels: The labels to order, each once.
        finished: Whether the model ended its answer itself.
    """
    answer = text.rpartition("</think>")[2].partition("<think>")[0].replace("\u2019", "'")
    places = {label.casefold(): place for place, label in enumerate(labels)}
    if len(places) < len(labels):  # some labels differ only in case
        places = {}
    places |= {label: place for place, label in enumerate(labels)}
    chains = list(_bracketed(answer, places))
    if not any(_place(label, places) is not None for chain in chains for label in chain.labels):
        chains += _bare(answer, places)
    read = [label for chain in _trusted(chains) for label in chain.labels]
    found = [place for label in read if (place := _place(label, places)) is not None]
    named = tuple(dict.fromkeys(found))
    rest = tuple(place for place in range(len(labels)) if place not in set(named))
    says = {
        OrderFault.REPEATED: len(named) < len(found),
        OrderFault.MISSING: bool(rest),
        OrderFault.FOREIGN: len(found) < len(read),
        OrderFault.REFUSED: not named and _REFUSAL.search(answer) is not None,
        OrderFault.EMPTY: not answer.strip(),
        OrderFault.CUT_OFF: bool(rest) and not finished,
    }
    faults = tuple(fault for fault, there in says.items() if there)
    return ParsedOrder(named + rest, faults or (OrderFault.OK,), len(named))


def _place(label: str, places: Mapping[str, int]) -> int | None:
    place = places.get(label)
    return places.get(label.casefold()) if place is None else place


def _trusted(chains: Sequence[_Chain]) -> Sequence[_Chain]:
    """The chains with ``>`` if they hold more labels than the others, which are then prose."""
    ranked = [chain for chain in chains if chain.ranked]
    named = {label for chain in ranked for label in chain.labels}
    others = {label for chain in chains if not chain.ranked for label in chain.labels}
    return ranked if len(named) >= len(others) else chains


def _bracketed(text: str, places: Mapping[str, int]) -> Iterator[_Chain]:
    """Chains of labels in brackets, without those in prose and titles."""
    labels: list[str] = []
    ranked, end = False, -1
    bare_lines = _lines_of_labels(text)
    for match in _BRACKETED.finditer(text):
        label = match.group(1)
        if _place(label, places) is None and not _LABEL.fullmatch(label):
            continue
        gap = text[end : match.start()]
        if end >= 0 and (_GAP.fullmatch(gap) or _after_rank(gap)):
            labels.append(label)
            ranked = ranked or any(sign in gap for sign in _RANKS)
        elif _begins(text, match, end, bare_lines):
            if labels:
                yield _Chain(labels, ranked)
            labels, ranked = [label], False
        else:
            continue
        end = match.end()
    if labels:
        yield _Chain(labels, ranked)


def _after_rank(gap: str) -> bool:
    """Whether a gap is a title and ``>``, as in ``[B] Alien > [A]``."""
    return "\n" not in gap.strip() and gap.rstrip(_DECORATION + "\n").endswith(tuple(_RANKS))


def _lines_of_labels(text: str) -> frozenset[int]:
    """Offsets of lines with nothing but labels in brackets, which spaces may separate."""
    starts, start = set(), 0
    for line in text.split("\n"):
        if not _BRACKETED.sub("", line).strip():
            starts.add(start)
        start += len(line) + 1
    return frozenset(starts)


def _begins(text: str, match: re.Match[str], end: int, bare_lines: frozenset[int]) -> bool:
    """Whether a label in brackets begins a chain: only an earlier label's title precedes it."""
    line = text.rfind("\n", 0, match.start()) + 1
    if line <= end:  # not the first label of its line
        return line in bare_lines
    before = text[line : match.start()]
    if _MARKER.fullmatch(before) or _HEAD.match(text, match.end()):
        return True
    return end < 0 and before.rstrip(_DECORATION).endswith(":")


def _bare(text: str, places: Mapping[str, int]) -> Iterator[_Chain]:
    """Labels without brackets, line by line."""
    for line in text.splitlines():
        marker = _BARE_MARKER.match(line)
        body = line[marker.end() if marker else 0 :]
        if any(sign in body for sign in _RANKS):
            labels = _ranked_parts(re.split(f"[{_RANKS}]", body), places)
            if len(labels) > 1:
                yield _Chain(labels, ranked=True)
                continue
        words = [_plain(word) for word in _BETWEEN.split(body.rpartition(":")[2].strip(" \t.[]"))]
        if all(_LABEL.fullmatch(word) for word in words):
            yield _Chain(words, ranked=False)
        elif (found := _LABELLED_LINE.match(f"{body} ")) and found.group(1) in places:
            yield _Chain([found.group(1)], ranked=False)


def _ranked_parts(parts: Sequence[str], places: Mapping[str, int]) -> list[str]:
    """The label at the start of each part; in the first part, prose may precede it."""
    labels = []
    for number, part in enumerate(parts):
        words = part.split()
        if not words:
            continue
        first, last = _plain(words[0]), _plain(words[-1])
        prose = number == 0 and last in places and words[1:2] and words[1][0].isalpha()
        label = last if prose else first
        if label in places or _LABEL.fullmatch(label):
            labels.append(label)
    return labels


def _plain(word: str) -> str:
    return word.strip("*_`\"'()[]<>.,:;")
