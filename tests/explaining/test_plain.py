from __future__ import annotations

import pytest

from llmrec.explaining.check import check_text
from llmrec.explaining.evidence import gather_evidence
from llmrec.explaining.plain import BARE, plain_texts
from llmrec.explaining.titles import Titles
from llmrec.prompting import context_of
from llmrec.records import Interaction, User
from llmrec.retrieval import Index


def plain(index: Index, item_id: str, *liked: str, **profile: str) -> list[str]:
    user = User("ann", tuple(Interaction("ann", item_id) for item_id in liked), profile)
    return list(plain_texts(gather_evidence(context_of(index), user, item_id)))


def test_shared_values_are_the_reason(small_index: Index) -> None:
    assert plain(small_index, "jumanji", "toys", "zathura", "heat")[0] == (
        '"Jumanji" is suggested because you liked "Zathura" (genres: Adventure, Family) and '
        '"Toy Story" (genres: Family). A game that comes to life.'
    )


def test_without_anything_shared_closeness_is(small_index: Index) -> None:
    assert plain(small_index, "jumanji", "heat")[0] == (
        '"Jumanji" is suggested because you liked "Heat". A game that comes to life.'
    )


def test_a_cold_start_says_that_it_is_one(small_index: Index) -> None:
    assert plain(small_index, "jumanji", genre="Family")[0] == (
        'Nothing that you liked is known yet, so "Jumanji" is suggested because 3 people chose it. '
        "It fits your genre: Family. A game that comes to life."
    )
    assert plain(small_index, "heat")[0] == (
        'Nothing that you liked is known yet, so "Heat" is suggested on its own merits. '
        "The catalogue lists it with genres: Crime, Drama; year: 1995."
    )


def test_plain_text_for_items_with_little_data(small_index: Index) -> None:
    assert plain(small_index, "bare")[0] == (
        'Nothing that you liked is known yet, so "bare" is suggested on its own merits.'
    )
    assert plain(small_index, "nameless", "bare")[0].startswith(
        '"A box of chalk in many colours that children will like a…" is suggested because'
    )
    assert plain(small_index, "book2", "book")[0] == (
        '"许三观卖血记" is suggested because you liked "活着" (author: 余华). '
        "The catalogue lists it with author: 余华."
    )


def test_there_is_always_something_to_say() -> None:
    assert list(plain_texts(()))[-1] == BARE


@pytest.mark.parametrize(
    "item_id", ["jumanji", "heat", "lonely", "nameless", "bare", "book", "odd"]
)
@pytest.mark.parametrize("liked", [(), ("toys",), ("odd", "book2", "heat")])
def test_a_plain_text_better_than_the_bare_one_passes(
    small_index: Index, item_id: str, liked: tuple[str, ...]
) -> None:
    user = User("ann", tuple(Interaction("ann", other) for other in liked))
    evidence = gather_evidence(context_of(small_index), user, item_id)
    titles = Titles(small_index.items)
    passing = [text for text in plain_texts(evidence) if not check_text(text, evidence, titles)]
    assert BARE in passing
    if item_id != "odd" and "odd" not in liked:
        assert len(passing) > 1
