"""A text has to be about the item that was asked for."""

from __future__ import annotations

import pytest

from llmrec.explaining import Titles, check_text
from llmrec.explaining.subject import subject_faults
from llmrec.records import Evidence, Item

SHOP = ("Merino Wool Scarf", "Cast Iron Skillet", "Enamel Coffee Mug", "Oak Kitchen Stool")
FILMS = ("Toy Story", "Toy Story 2", "Heat", "It", "Usual Suspects, The (1995)", "活着", "围城")
TITLES = Titles({name: Item(name, name, "in the heat of it") for name in SHOP + FILMS})


def faults(text: str, item: str, *history: str, must_name: bool = True) -> list[str]:
    evidence = [Evidence("item", f'Title: "{item}"', item)]
    evidence += [Evidence("history", f'You liked "{title}"', title) for title in history]
    return list(subject_faults(text, evidence, TITLES, must_name=must_name))


@pytest.mark.parametrize(
    "text",
    [
        'You may like "Cast Iron Skillet" because of your love for merino wool.',
        "You may like the cast iron skillet because of your love for merino wool.",
        "You will love the Cast Iron Skillet, and the scarf too.",
        "You might also enjoy your new Cast Iron Skillet.",
        "You'll love the skillet for its merino wool.",
        "You may like the Merino Wool Scarf and the Cast Iron Skillet.",
        "Because you like merino wool, we recommend Cast Iron Skillet.",
        "Because you like this scarf, try Cast Iron Skillet.",
        "Try the Cast Iron Skillet.",
        "Cast Iron Skillet is a great match for your merino wool.",
        "Since you like scarves, the Cast Iron Skillet is recommended.",
        "The scarf is soft, and Cast Iron Skillet may suit you.",
        '"Cast Iron Skillet" because you love merino wool.',
        "How about Cast Iron Skillet?",
        "CAST IRON SKILLET is perfect for everyday use.",
    ],
)
def test_a_text_that_offers_another_item_is_refused(text: str) -> None:
    (fault,) = faults(text, "Merino Wool Scarf", "Cast Iron Skillet", must_name=False)
    assert "instead of 'Merino Wool Scarf'" in fault


@pytest.mark.parametrize(
    "text",
    [
        'You may like "Merino Wool Scarf" because you liked "Cast Iron Skillet".',
        'Because you liked "Cast Iron Skillet", you may like "Merino Wool Scarf".',
        "You may like the scarf because it is made for everyday use, like Cast Iron Skillet.",
        "As you liked Cast Iron Skillet and Enamel Coffee Mug, the scarf is for you.",
        "Cast Iron Skillet, which you liked, is for everyday use as is this scarf.",
        "The merino wool scarf goes with what you liked.",
        "It is made of wool.",
        "You may like it because you bought Cast Iron Skillet.",
        "This item is warm.",
        "You loved Cast Iron Skillet; these scarfs are as useful.",
        "Fans of Cast Iron Skillet will love the scarf.",
        "You may like MERINO WOOL SCARF!",
    ],
)
def test_the_history_may_be_a_reason(text: str) -> None:
    assert faults(text, "Merino Wool Scarf", "Cast Iron Skillet", "Enamel Coffee Mug") == []


@pytest.mark.parametrize(
    "text",
    [
        "You liked Cast Iron Skillet and Enamel Coffee Mug.",
        "Spare rings for sale is how.",
        "You love merino wool and things made for everyday use.",
        "Because you like wool.",
    ],
)
def test_a_text_that_names_no_item_is_refused(text: str) -> None:
    history = ("Cast Iron Skillet", "Enamel Coffee Mug")
    assert faults(text, "Merino Wool Scarf", *history) == ["it does not name 'Merino Wool Scarf'"]
    assert faults(text, "Merino Wool Scarf", *history, must_name=False) == []


@pytest.mark.parametrize(
    ("item", "history", "text", "right"),
    [
        ("Toy Story 2", "Toy Story", "You may like Toy Story 2 because you liked Toy Story.", True),
        ("Toy Story 2", "Toy Story", "You may like Toy Story because of its toys.", False),
        ("Toy Story", "Toy Story 2", "You may like Toy Story 2 because of its toys.", False),
        ("Toy Story", "Toy Story 2", "Since you liked Toy Story 2, watch Toy Story.", True),
        ("Toy Story", "Heat", "You liked Heat, and Toy Story is as exciting.", True),
        ("Toy Story", "Heat", "You may like Heat since toys live.", False),
        ("Heat", "It", "You may like it because you liked It.", True),
        ("Heat", "It", "You liked the heat of the night.", False),
        ("Heat", "It", "You may like Heat.", True),
        ("Usual Suspects, The (1995)", "Heat", "You may like The Usual Suspects.", True),
        ("Usual Suspects, The (1995)", "Heat", "The suspects are on the run.", True),
        ("Usual Suspects, The (1995)", "Heat", "You may like Heat.", False),
        ("活着", "围城", "你喜欢《围城》，所以推荐《活着》。", True),
        ("活着", "围城", "你喜欢《围城》。", False),
        ("活着", "围城", "因为你喜欢《围城》，这本书适合你。", True),
    ],
)
def test_titles_within_titles_and_common_words(
    item: str, history: str, text: str, right: bool
) -> None:
    assert (faults(text, item, history) == []) is right


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ('You may like "Buffalo Wild Wings Gift Cards" because you like cards.', True),
        ("You may like the Wild Wings card.", True),
        ("We recommend this Wild Wings card.", True),
        ("You may like the Southwest Gift Cards.", False),
        ('You may like it because you liked "Buffalo Wild Wings Gift Cards".', False),
        ("You may like this card for its wild design.", False),
    ],
)
def test_a_part_of_another_title_is_no_name_of_the_item(text: str, offered: bool) -> None:
    past = "Buffalo Wild Wings Gift Cards - E-mail Delivery"
    found = faults(text, "Southwest Airlines Gift Card", past)
    assert bool(found) is offered
    assert all("it offers" in fault for fault in found)


def test_evidence_without_a_title_needs_no_name() -> None:
    assert list(subject_faults("Anything goes.", (), TITLES, must_name=True)) == []


def test_the_check_of_a_text_holds_the_subject_too() -> None:
    evidence = (
        Evidence("item", 'Title: "Merino Wool Scarf"'),
        Evidence("history", 'You liked "Cast Iron Skillet"'),
    )
    text = 'You may like "Cast Iron Skillet" because of your love for merino wool.'
    (fault,) = check_text(text, evidence, TITLES)
    assert (fault.kind, fault.text) == (
        "subject",
        "it offers 'Cast Iron Skillet' instead of 'Merino Wool Scarf'",
    )
