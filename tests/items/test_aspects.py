from __future__ import annotations

from itertools import product

import pytest

from llmrec.items.aspects import AspectTerms, Judged, find_aspects, title_words
from llmrec.records import Aspect

NOTHING: frozenset[str] = frozenset()
ENGLISH = (
    "plot acting music ending script dialogue camera pacing costume lighting humour editing",
    "slow fine thin superb weak clever dark quick bold dull sharp warm",
    "I think the {} was {} , and we watched it on a rainy {} .",
    "They say it is {1} and that the {0} is not so {2} .",
)
GERMAN = (
    "handlung musik kamera spannung sprache stimme szene rolle regie kulisse maske pointe",
    "langsam schön dünn stark schwach klug dunkel flott kühn matt scharf warm",
    "Ich finde , die {} war {} , und wir sahen ihn an {} Tagen .",
    "Man sagt , es ist {1} und dass die {0} nicht so {2} ist .",
)


def reviews_of(language: tuple[str, ...], score: float = 0.5) -> list[Judged]:
    """One review a noun and adjective: 144 of two sentences."""
    nouns, adjectives = (words.split() for words in language[:2])
    return [
        [(form.format(noun, one, adjectives[at % 12]), score) for form in language[2:]]
        for at, (noun, one) in enumerate(product(nouns, adjectives))
    ]


@pytest.mark.parametrize("language", [ENGLISH, GERMAN])
def test_nouns_are_found_without_a_word_list(language: tuple[str, ...]) -> None:
    terms = set(AspectTerms.of(reviews_of(language)).weights)
    assert set(language[0].split()) <= terms
    assert not set(language[1].split()) & terms


def test_words_of_most_reviews_and_of_the_title_are_no_aspects() -> None:
    films = [[*review, ("The film is long.", 0.5)] for review in reviews_of(ENGLISH)]
    terms = AspectTerms.of(films)
    assert "film" not in terms.weights
    assert terms.of_sentence("The plot and the acting.", NOTHING) == {"plot", "acting"}
    assert terms.of_sentence("The plot.", title_words("The Plot")) == NOTHING


def test_a_word_of_opinion_is_no_aspect() -> None:
    reviews = reviews_of(ENGLISH, 0.9)
    neutral, bad = ([[("It is the worst of all.", score)]] * 10 for score in (0.9, 0.02))
    assert "worst" in AspectTerms.of([*reviews, *neutral]).weights
    assert "worst" not in AspectTerms.of([*reviews, *bad]).weights


def test_frequent_word_pairs_are_one_aspect() -> None:
    called: list[Judged] = [[("I called their customer service and it was quick.", 0.5)]] * 6
    helped: list[Judged] = [[("I like the service.", 0.5)]] * 9
    terms = AspectTerms.of([*reviews_of(ENGLISH), *called, *helped])
    assert terms.of_sentence("Their customer service helped.", NOTHING) == {"customer service"}


def test_opinionated_sentences_make_a_term_count_more() -> None:
    reviews = reviews_of(ENGLISH)
    clear = [[(s, 0.95 if "acting" in s else p) for s, p in review] for review in reviews]
    clear += [[(s, 0.05 if "acting" in s else p) for s, p in review] for review in reviews]
    weights = AspectTerms.of(clear).weights
    assert weights["acting"] > 2 * weights["plot"]


@pytest.mark.parametrize(
    ("reviews", "aspects"),
    [
        (
            [[("I liked the plot.", 0.9)], [("No plot.", 0.1), ("A plot.", 0.5)], [("Cast.", 0.9)]],
            (Aspect("plot", 1, 1),),
        ),
        ([[("The plot.", 0.9), ("The plot again.", 0.9)], [("The plot.", float("nan"))]], ()),
        (
            [[("A plot with a cast.", 0.9)], [("Plot and cast.", 0.1)], [("No plot.", 0.2)]],
            (Aspect("cast", 1, 1), Aspect("plot", 1, 2)),
        ),
    ],
)
def test_aspects_count_sentences_that_speak_well_and_ill(
    reviews: list[Judged], aspects: tuple[Aspect, ...]
) -> None:
    terms = AspectTerms({"plot": 1.0, "cast": 2.0})
    assert find_aspects(reviews, terms, NOTHING, well=0.6) == aspects


def test_no_reviews_no_terms() -> None:
    assert AspectTerms.of([]).weights == {}
    assert AspectTerms.of([[("", 0.5)], []]).weights == {}
