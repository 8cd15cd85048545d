"""Where sentences end, in texts that name titles, quote people and may be Chinese."""

from __future__ import annotations

import re
from itertools import pairwise

_END = re.compile(r"[.!?…؟।]+[\"'”’»)\]*_]*(?=\s|$)|[。！？]+[”’」』》）]*")
_ABBREVIATION = re.compile(r"\b(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|Vol|e\.g|i\.e|a\.k\.a)\.$")
_QUOTES = ('"', "“”„", "«»", "「」", "『』", "《》")


def sentence_ends(text: str) -> list[int]:
    """Find the offset just behind each complete sentence, in order.

    A full stop inside double quotes, behind an abbreviation or before a small letter ends none.
    """
    return [match.end() for match in _END.finditer(text) if _is_end(text, match.end())]


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences; what is left behind the last end, if anything, comes last.

    >>> split_sentences('Dr. No wrote "M. Then N." to us. 它很短。And the r')
    ['Dr. No wrote "M. Then N." to us.', '它很短。', 'And the r']
    """
    cuts = [0, *sentence_ends(text), len(text)]
    pieces = (text[start:end].strip() for start, end in pairwise(cuts))
    return [piece for piece in pieces if piece]


def leaves_quote_open(text: str) -> bool:
    """Whether a quotation in double quotes, of any kind, is begun and not ended."""
    return any(_marks(text, kind) % 2 for kind in _QUOTES)


def _is_end(text: str, end: int) -> bool:
    rest = text[end:].lstrip()
    if not rest:
        return True
    if rest[0].islower() or _ABBREVIATION.search(text[max(0, end - 8) : end]):
        return False
    return not _inside_quotes(text, end)


def _inside_quotes(text: str, end: int) -> bool:
    return any(_marks(text[:end], kind) % 2 and not _marks(text, kind) % 2 for kind in _QUOTES)


def _marks(text: str, kind: str) -> int:
    return sum(map(text.count, kind))
