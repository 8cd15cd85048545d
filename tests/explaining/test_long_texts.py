"""Texts of any length: work is counted in calls and characters, not in seconds."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from llmrec.explaining.check import MAX_CHARACTERS, check_text
from llmrec.explaining.titles import Titles, cover, split_sentences
from llmrec.records import Evidence, Item

PIECES = [
    "a. ",
    "A",
    ".",
    '"',
    "“",
    "1. ",
    "\n",
    " ",
    "x ",
    "*a",
    "'a ",
    "。",
    "Heat ",
    'M. "',
    "?!",
]


def work(piece: str, n: int) -> int:
    """Calls, and characters of texts that Python functions were given, for n characters."""
    text = (piece * n)[:n]
    titles = Titles({"1": Item("1", "Heat"), "2": Item("2", text)})
    steps = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal steps
        given = frame.f_locals.values() if event == "call" else ()
        steps += 1 + sum(len(one) for one in given if isinstance(one, str) and len(one) < n)

    sys.setprofile(count)
    try:
        split_sentences(text)
        cover(text, titles.find(text))
    finally:
        sys.setprofile(None)
    return steps


@pytest.mark.parametrize("piece", PIECES)
def test_work_grows_as_the_text(piece: str) -> None:
    assert work(piece, 4_000) <= 2.2 * work(piece, 2_000) + 1_000


def test_a_text_over_the_limit_is_a_fault_and_not_read_further() -> None:
    evidence = [Evidence("item", 'Title: "Heat"', "1")]
    text = "“" * (MAX_CHARACTERS + 1)
    (fault,) = check_text(text, evidence, Titles({}))
    assert fault.text == "it has 4,001 characters, which is more than 4,000"
