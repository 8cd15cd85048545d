"""Reviews as an encoder can read them: sentences, and passages that fit its window."""

from __future__ import annotations

import re
from itertools import accumulate
from textwrap import wrap

_LONGEST = 1_000
_MARKUP = re.compile(r"<[a-zA-Z/][^<>]{0,80}>")
_END = re.compile(r"(?:[.!?…؟।]+[\"'”’»)\]]*(?=\s)|[。！？]+[”’」』》）]*|\s*\n)")
_ABBREVIATION = re.compile(r"(?:\b(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|Vol|etc|e\.g|i\.e)\.)$")


def sentences(text: str) -> list[str]:
    """Cut a review into sentences, without markup, each on one line.

    Reviewers forget capitals and full stops, so a small letter may begin a sentence and a line
    break ends one. An abbreviation or an initial ends none.

    >>> sentences("Dr. No is great!! loved it<br />Not the end")
    ['Dr. No is great!!', 'loved it', 'Not the end']
    """
    plain = _MARKUP.sub("\n", text)
    pieces, start = [], 0
    for match in _END.finditer(plain):
        if not _ABBREVIATION.search(plain[max(start, match.end() - 8) : match.end()]):
            pieces.append(plain[start : match.end()])
            start = match.end()
    pieces.append(plain[start:])
    whole = (" ".join(piece.split()) for piece in pieces)
    return [piece for piece in whole if piece]


def passages(text: str) -> tuple[str, ...]:
    """Cut a review into what an encoder is to read of it: the whole, or its opening and its ending.

    An encoder cuts at some 256 tokens, in the middle of most long reviews, and the verdict often
    stands at the end. So a review of more than 1,000 bytes is read as two passages of whole
    sentences: its halves, and where they are longer, 1,000 bytes from either end; what lies between
    is left out. Bytes, as a Chinese character has three and is about a token, a Latin letter has
    one and is a quarter of a token.

    Returns:
        None for an empty text, one or two passages otherwise, the opening first.
    """
    pieces = [part for sentence in sentences(text) for part in _split(sentence)]
    size = sum(map(_size, pieces))
    if size <= _LONGEST:
        return (" ".join(pieces),) if pieces else ()
    # Halves where they fit: an ending of three words would weigh as much as all before it.
    opening = _fitting(pieces, min(_LONGEST, size // 2))
    ending = _fitting(pieces[: len(opening) - 1 : -1], _LONGEST)
    return " ".join(opening), " ".join(reversed(ending))


def _fitting(pieces: list[str], most: int) -> list[str]:
    sizes = accumulate(map(_size, pieces))
    return [piece for piece, size in zip(pieces, sizes, strict=True) if size <= most] or pieces[:1]


def _split(sentence: str) -> list[str]:
    """Cut a sentence that does not fit by itself (a review without any full stop)."""
    return [sentence] if _size(sentence) <= _LONGEST else wrap(sentence, _LONGEST // 4)


def _size(piece: str) -> int:
    return len(piece.encode(errors="replace")) + 1
