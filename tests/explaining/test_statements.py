"""Statements: ranked, quoted with their source, and right for input that is hard to explain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from llmrec.errors import OptionError
from llmrec.explaining import Explainer
from llmrec.explaining.statements import ranked, spans_of
from llmrec.items.text_encoder import item_text
from llmrec.prompting import Context
from llmrec.records import (
    Evidence,
    Interaction,
    Item,
    Review,
    TextSource,
    Usage,
    User,
)
from llmrec.retrieval import Index

ANN = User("ann", (Interaction("ann", "zathura", 5.0), Interaction("ann", "heat", 4.0)))
TITLE = Evidence("item", 'Title: "Jumanji"', "jumanji", "title")


@dataclass(frozen=True)
class Found:
    """Weighed evidence."""

    evidence: tuple[Evidence, ...]
    noise: float = 0.1
    carried: dict[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=lambda: Usage(5, 5, 0, 1, 0.5, 3))


def fact(unit: str, weight: float | None, text: str = "") -> Evidence:
    return Evidence("item", text or f"{unit}: value {unit}", "jumanji", unit, weight)


def test_statements_quote_their_source_and_name_the_item(small_index: Index) -> None:
    (found,) = Explainer(None, small_index).explain(ANN, ["jumanji"])
    assert found.source is TextSource.STATEMENTS
    assert found.text == (
        '"Jumanji": You liked "Zathura", which has the same genres: Adventure, Family. '
        'A review says "Peter and Judy finish the game in a way that I liked." '
        'Its description says "A game that comes to life."'
    )
    assert [claim.units for claim in found.claims] == [
        ("history:1",),
        ("review:1#2",),
        ("description#1",),
    ]
    assert " ".join(claim.text for claim in found.claims) == found.text
    (span,) = found.spans
    assert found.item_text[span.start : span.end] == "A game that comes to life."


def test_weights_order_the_statements_and_spans(small_index: Index) -> None:
    evidence = (
        TITLE,
        fact("attribute:year", 0.5, "year: 1995"),
        fact("attribute:genres", 2.0, "genres: Adventure, Family"),
        fact("description#1", 0.05, "Description: A game that comes to life."),
        fact("fact:1", -1.0),
    )
    found = Found(evidence)
    (made,) = Explainer(None, small_index).explain(ANN, ["jumanji"], weighed={"jumanji": found})
    assert [claim.units for claim in made.claims] == [("attribute:genres",), ("attribute:year",)]
    scores = {span.unit: span.score for span in made.spans}
    assert scores == {
        "attribute:genres": 1.0,
        "attribute:year": 0.25,
        "description#1": pytest.approx(0.025),
    }
    assert made.usage == found.usage


@pytest.mark.parametrize("text", ["statements", "template"])
def test_where_nothing_counts_no_reason_is_invented(small_index: Index, text: str) -> None:
    evidence = (TITLE, fact("attribute:year", 0.05), fact("fact:1", -3.0))
    for carried, said in (
        ({"popularity": 1.0}, "mostly because it is popular"),
        ({"retrieval.content": 1.0}, "because the retriever ranks it high"),
        ({"likelihood": 1.0}, "no single fact moves its score"),
    ):
        found = Found(evidence, carried=carried)
        explainer = Explainer(None, small_index, text=text)
        (made,) = explainer.explain(ANN, ["jumanji"], weighed={"jumanji": found})
        assert made.source is TextSource.TEMPLATE
        assert '"Jumanji"' in made.text
        assert said in made.text


def test_a_bare_number_is_the_last_reason() -> None:
    weight = fact("attribute:weight_g", None, "weight g: 240")
    about = fact("description#1", None, "Description: Maps of two coasts.")
    found = ranked([TITLE, weight, about], frozenset({"weigh", "240"}))
    assert [one.unit for one in found] == ["description#1", "attribute:weight_g"]


def test_a_fact_that_repeats_another_comes_last() -> None:
    facts = [
        TITLE,
        fact("attribute:genres", None, "genres: Family"),
        fact("description#1", None, "Description: A game."),
        Evidence("history", 'You liked "Toys" (genres: Family)', "t", "history:1"),
    ]
    assert [one.unit for one in ranked(facts, frozenset())] == ["history:1", "description#1"]


@pytest.mark.parametrize(
    "item",
    [
        Item("1", "Émile 🎈", "  Two\n\nlines  here. Another.  ", {"genres": ("A", "B"), "n": 3}),
        Item("1", "", "Only a description. " * 50),
        Item("1", "genres", "genres: A", {"genres": ("A", "B")}),
        Item("1", "No more"),
    ],
)
def test_spans_are_code_points_of_the_item_s_text(item: Item) -> None:
    (made,) = Explainer(None, Context({"1": item})).explain(User("u"), ["1"])
    assert made.item_text == item_text(item)
    every = spans_of(item, made.item_text, made.evidence)
    for span in (*made.spans, *every):
        assert 0 <= span.start < span.end <= len(made.item_text)
        assert 0 <= span.score <= 1
        assert made.item_text[span.start : span.end].strip()
    attributes = {span.unit for span in every if span.unit.startswith("attribute:")}
    assert attributes == {f.unit for f in made.evidence if f.unit.startswith("attribute:")}


LONG = "The wool is soft and warm and keeps the wind out of my coat. " * 3_000
SCARF = Item("1", "Wool Scarf", "Soft wool.", {"material": "wool"})
OTHER = Item("2", "Cast Iron Skillet", "It holds the heat.")


def shop(*items: Item, reviews: tuple[Review, ...] = ()) -> Context:
    return Context(
        {item.item_id: item for item in items},
        reviews=lambda item_id: tuple(r for r in reviews if r.item_id == item_id),
        best_rating=lambda: 5.0,
    )


@pytest.mark.parametrize("text", ["statements", "template"])
@pytest.mark.parametrize(
    ("context", "user", "said"),
    [
        (shop(SCARF), User("u"), "Wool Scarf"),
        (shop(Item("1", "Wool Scarf")), User("u"), "suggested from the catalogue"),
        (shop(Item("1")), User("u"), '"1"'),
        (shop(Item("1", "It"), OTHER), User("u", (Interaction("u", "2", 5.0),)), '"It"'),
        (shop(Item("1", "Heat"), Item("2", "Heat", "Hot.")), User("u"), '"Heat"'),
        (shop(SCARF, OTHER), User("u", (Interaction("u", "2", 1.0),), neutral_rating=3.0), "wool"),
        (shop(SCARF), User("u", (Interaction("u", "1", 5.0),)), "wool"),
        (shop(SCARF, reviews=(Review("1", LONG, 5.0, "r"),)), User("u"), "keeps the wind out"),
        (
            shop(
                SCARF,
                reviews=(
                    Review("1", "The wool of the scarf is soft and warm.", 5.0, "a"),
                    Review("1", "The wool of the scarf is hard and cold.", 1.0, "b"),
                ),
            ),
            User("u"),
            "soft and warm",
        ),
        (shop(Item("1", 'A "quoted" \n title. Is it? Yes!')), User("u"), "quoted"),
    ],
    ids=[
        *("no history", "no description", "no title", "a common word", "another item's title"),
        *("disliked everything", "in the history", "a long review", "contradictory reviews"),
        "marks in the title",
    ],
)
def test_input_that_is_hard_to_explain(context: Context, user: User, said: str, text: str) -> None:
    (made,) = Explainer(None, context, text=text).explain(user, ["1"])
    assert said in made.text
    assert "hard and cold" not in made.text
    assert len(made.text) < 1_000
    assert (
        not any('You liked "Cast' in claim.text for claim in made.claims)
        or user.history[0].rating == 5.0
    )


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="text 'poem' is not one of statements, template"):
        Explainer(None, shop(SCARF), text="poem")
    with pytest.raises(OptionError, match="uses no model"):
        Explainer(None, shop(SCARF), template="explain/shopper")
    with pytest.raises(OptionError, match="model is None"):
        Explainer(None, shop(SCARF), text="written")
    with pytest.raises(OptionError, match="entailment is 3"):
        Explainer(None, shop(SCARF), entailment=3)  # type: ignore[arg-type]


def test_many_items_need_no_model_and_little_time() -> None:
    items = {str(n): replace(SCARF, item_id=str(n), title=f"Scarf {n}") for n in range(300)}
    index = Index(items, np.ones((300, 1), dtype=np.float32))
    found = Explainer(None, index).explain(User("u"), list(items))
    assert {f"Scarf {n}" in each.text for n, each in enumerate(found)} == {True}
    assert all(each.usage == Usage() for each in found)
