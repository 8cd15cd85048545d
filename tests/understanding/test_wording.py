from __future__ import annotations

from llmrec.records import Aspect, Opinion, SentimentSource
from llmrec.understanding import opinion_line


def opinion(n: int, share: float, *aspects: Aspect) -> Opinion:
    return Opinion(n, share, (), (), aspects, SentimentSource.LEXICON)


def test_an_even_aspect_is_neither_praised_nor_criticised() -> None:
    assert opinion_line(opinion(2, 0.5, Aspect("plot", 2, 2))) == "50 % of 2 reviews positive"


def test_one_review_is_no_plural() -> None:
    assert opinion_line(opinion(1, 1.0)) == "100 % of 1 review positive"


def test_three_aspects_of_each_kind_are_told() -> None:
    aspects = [Aspect(f"good {n}", 2, 0) for n in range(5)] + [Aspect("bad", 0, 1)]
    assert opinion_line(opinion(9, 2 / 3, *aspects)) == (
        "67 % of 9 reviews positive; praised: good 0, good 1, good 2; criticised: bad"
    )
