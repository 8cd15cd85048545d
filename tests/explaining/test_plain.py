from __future__ import annotations

import pytest

from llmrec.explaining.plain import clause, plain_texts, sentence, unmoved_texts
from llmrec.records import Evidence

HISTORY = Evidence("history", 'You liked "Zathura" (genres: Family)', "z", "history:1")
FACTS = {
    'You liked "Toys" (genres: Family)': 'you liked "Toys", which has the same genres: Family',
    'You liked "Heat (1995)"': 'you liked "Heat (1995)"',
    'Description: A "game". It lives.': "its description says \"A 'game'. It lives.\"",
    'A review says: "It is a game."': 'a review says "It is a game."',
    "Reviewers: 75 % of 12 reviews positive": "reviewers: 75 % of 12 reviews positive",
    "Chosen by 3 people": "3 people chose it",
    "It fits your genre: Family": "it fits your genre: Family",
    "You asked for: a tent": 'you asked for "a tent"',
    "Its picture shows: a tent": 'its picture shows "a tent"',
    "directed by: Mann": "the catalogue says directed by: Mann",
}


@pytest.mark.parametrize(("text", "said"), FACTS.items())
def test_a_fact_becomes_a_clause(text: str, said: str) -> None:
    assert clause(Evidence("item", text, "i", "fact:1")) == said
    assert sentence(said).rstrip("\"'")[-1] == "."


def test_attributes_and_profiles_become_clauses() -> None:
    assert clause(Evidence("item", "brand: Acme", "i", "attribute:brand")) == "its brand: Acme"
    assert clause(Evidence("profile", "Your region: coast", unit="profile:region")) == (
        "your region: coast"
    )


def test_the_best_facts_are_the_reason() -> None:
    review = Evidence("review", 'A review says: "It is a game."', "j", "review:1#1")
    claim = next(plain_texts('"Jumanji"', [HISTORY, review]))
    assert claim.units == ("history:1", "review:1#1")
    assert claim.text == (
        '"Jumanji" is suggested because you liked "Zathura", which has the same genres: Family, '
        'and a review says "It is a game."'
    )
    assert [claim.text for claim in plain_texts('"Jumanji"', [])] == [
        '"Jumanji" is suggested from the catalogue.'
    ]


@pytest.mark.parametrize(
    ("carried", "said"),
    [
        ({"popularity": 2.0, "likelihood": 1.0}, "mostly because it is popular."),
        ({"retrieval.content": 2.0}, 'because the retriever ranks it high for "Zathura".'),
        ({"likelihood": 2.0}, "but no single fact moves its score."),
        ({}, "but no single fact moves its score."),
    ],
)
def test_where_nothing_moves_the_score_it_is_said(carried: dict[str, float], said: str) -> None:
    assert next(unmoved_texts('"Jumanji"', [HISTORY], carried)).text.endswith(said)
