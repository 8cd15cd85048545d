"""An order of labels, ``[B] > [A] > [C]``, as patterns that a server can hold an answer to.

Up to `WHOLE` labels every order is spelled out, so that none is lost and none stands twice. Of more
the pattern says how many labels, and which, not that they differ: orders grow as n!.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import permutations

OPEN, BETWEEN, CLOSE = "[", "] > [", "]"
WHOLE = 4
"""The most labels of which every order is spelled out."""


def written(order: Sequence[str]) -> str:
    """An order as it is written."""
    return OPEN + BETWEEN.join(order) + CLOSE


def order_regex(labels: Sequence[str]) -> str:
    """A regular expression without anchors or groups that capture."""
    if len(labels) <= WHOLE:
        return (
            f"(?:{'|'.join(re.escape(written(order)) for order in permutations(labels))})".replace(
                r"\ ", " "
            ).replace(r"\>", ">")
        )
    label = rf"\[(?:{'|'.join(map(re.escape, labels))})\]"
    return f"{label}(?: > {label}){{{len(labels) - 1}}}"


def order_grammar(labels: Sequence[str]) -> str:
    """The same in GBNF, the grammars of llama.cpp."""
    if len(labels) <= WHOLE:
        return (
            f"root ::= {' | '.join(json.dumps(written(order)) for order in permutations(labels))}"
        )
    label = " | ".join(json.dumps(label) for label in labels)
    more = len(labels) - 1
    return f'root ::= "[" label "]" (" > [" label "]"){{{more}}}\nlabel ::= {label}'
