from __future__ import annotations

import pytest

from llmrec.items.readings import ReadSentence
from llmrec.items.verdicts import verdicts


@pytest.mark.parametrize(
    ("text", "noun", "good"),
    [
        ("An awful script ruins it.", "script", False),
        ("Great special effects.", "effects", True),
        ("I loved the food.", "food", True),
        ("The plot is embarrassingly bad.", "plot", False),
        ("The plot isn't bad.", "plot", True),
        ("The acting was not very good.", "acting", False),
        ("It has no great songs.", "songs", False),
        ("The Sound is terrible.", "Sound", False),
    ],
)
def test_a_verdict_stands_beside_its_noun(text: str, noun: str, good: bool) -> None:
    said = verdicts(ReadSentence(text, 0.0, (("", noun),)))
    assert list(said) == [noun.lower()]
    assert (said[noun.lower()] > 0) == good


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("A virus killed five billion of them.", "virus"),
        ("He takes a train to Vienna.", "train"),
        ("很好看。", ""),
        ("", "plot"),
    ],
)
def test_what_is_told_is_not_judged(text: str, noun: str) -> None:
    assert verdicts(ReadSentence(text, -0.7, (("", noun),))) == {}
