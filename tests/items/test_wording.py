from __future__ import annotations

from llmrec.items import opinion_line
from llmrec.records import Aspect, Opinion, SentimentSource


def opinion(n: int, share: float, *aspects: Aspect) -> Opinion:
    return Opinion(n, share, (), (), aspects, SentimentSource.LEXICON)


def test_an_aspect_that_divides_reviewers_is_neither_praised_nor_criticised() -> None:
    divided = (Aspect("plot", 2, 2), Aspect("cast", 9, 7), Aspect("book", 2, 3))
    assert opinion_line(opinion(9, 0.5, *divided)) == "50 % of 9 reviews positive"
    clear = opinion_line(opinion(9, 0.5, Aspect("cast", 4, 2), Aspect("book", 1, 2)))
    assert clear == "50 % of 9 reviews positive; praised: cast; criticised: book"


def test_one_review_is_no_plural() -> None:
    assert opinion_line(opinion(1, 1.0)) == "100 % of 1 review positive"


def test_three_aspects_of_each_kind_are_told() -> None:
    aspects = [Aspect(f"good {n}", 2, 0) for n in range(5)] + [Aspect("bad", 0, 1)]
    assert opinion_line(opinion(9, 2 / 3, *aspects)) == (
        "67 % of 9 reviews positive; praised: good 0, good 1, good 2; criticised: bad"
    )
