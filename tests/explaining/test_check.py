from __future__ import annotations

import pytest

from llmrec.explaining.check import check_text
from llmrec.explaining.titles import Titles
from llmrec.records import Evidence, Item

NAMES = (
    "Jumanji",
    "Toy Story",
    "Toy Story 2",
    "Heat",
    "It",
    "Up",
    "Airplane!",
    "Usual Suspects, The (1995)",
    "Once Upon a Time... When We Were Small",
    "活着",
    "围城",
    "!!!",
)
TITLES = Titles(
    {str(n): Item(str(n), name, "it is in the heat, up here") for n, name in enumerate(NAMES)}
)
EVIDENCE = (
    Evidence("item", 'Title: "Jumanji"', "0"),
    Evidence("item", "genres: Adventure, Family", "0"),
    Evidence("item", "price: 1,018.50", "0"),
    Evidence("item", "year: 1995", "0"),
    Evidence("item", "Description: Judy and Peter play a game in the heat.", "0"),
    Evidence("history", 'You liked "Toy Story" (genres: Adventure)', "1"),
    Evidence("history", 'You liked "Usual Suspects, The (1995)"', "7"),
    Evidence("history", 'You liked "Airplane!"', "6"),
    Evidence("history", 'You liked "Once Upon a Time... When We Were Small"', "8"),
    Evidence("history", 'You liked "活着"', "9"),
    Evidence("history", 'You liked "!!!"', "11"),
    Evidence("review", 'A review says: "I can\'t stop watching."', "0"),
)


def faults(text: str, prompt: str = "") -> tuple[str, ...]:
    return tuple(map(str, check_text(text, EVIDENCE, TITLES, prompt=prompt)))


@pytest.mark.parametrize(
    "text",
    [
        "You liked Toy Story, and Jumanji is an adventure too.",
        'You liked "Toy Story" and *The Usual Suspects*.',
        "It is a film for you. Up to three sentences are fine. Her game is in the heat.",
        "You liked Airplane! and Jumanji is as funny.",
        "You liked “Airplane!” and «Toy Story» and „Jumanji“.",
        "You liked Once Upon a Time... When We Were Small. Jumanji is like it.",
        "It was made in 1995 and costs 1018.5.",
        "你喜欢《活着》，所以推荐“Jumanji”。",
        'You liked "!!!" a lot.',
        "Judy and Peter play a game.",
        "Jumanji is a Family Adventure.",
        "There is a game, where the users of toys play.",
        'A reviewer "can\'t stop watching" it.',
        "I think the children's game isn't bad, and I like the others' game.",
    ],
)
def test_grounded_texts_pass(text: str) -> None:
    assert faults(text) == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("You liked Toy Story 2.", "'Toy Story 2'"),
        ("You liked Heat.", "'Heat'"),
        ('You liked "Heat".', "'Heat'"),
        ('You liked it. "Heat" is like it.', "'Heat'"),
        ("You liked It.", "'It'"),
        ("You like 'Up'.", "'Up'"),
        ('You liked "Space Llamas".', "'Space Llamas'"),
        ("You liked *Space Llamas*.", "'Space Llamas'"),
        ("You liked _Space Llamas_.", "'Space Llamas'"),
        ("You liked “Space Llamas”.", "'Space Llamas'"),
        ("You liked „Space Llamas“.", "'Space Llamas'"),
        ("You liked «Space Llamas».", "'Space Llamas'"),
        ("你喜欢《围城》。", "'围城'"),
        ("你喜欢「围城」。", "'围城'"),
        ("你喜欢《没有》。", "'没有'"),
        ("The game stars Tom Hanks.", "'Tom Hanks'"),
        ("Tom Hanks plays.", "'Hanks'"),
        ("It was made in 1996.", "1996"),
        ("It costs 18.", "18"),
        ("It is one of 20th century's best.", "20"),
    ],
)
def test_unsupported_claims_are_faults(text: str, named: str) -> None:
    assert any(named in fault and "evidence does not hold" in fault for fault in faults(text))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("One. Two. Three. Four.", "4 sentences"),
        ("It is a game and", "in the middle of a sentence"),
        ('It is "a game.', "quotation open"),
        ("<|im_start|>It is a game.", "'<|'"),
        ("Title: Jumanji.", "'Title:'"),
        ("I'm sorry, but no.", "instead of speaking to the reader"),
        ("I’m sorry, but no.", "instead of speaking to the reader"),
        ("As an AI, no.", "instead of speaking to the reader"),
        ("The user likes a game.", "'the user'"),
        ("- A game.\n- Another.", "a list"),
        ("1. A game.", "a list"),
        (
            "Some say that it is good for one. Some say that it is good for all.",
            "the same twice",
        ),
        ("It is a game. It is a game!", "the same twice"),
    ],
)
def test_form(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text))


def test_the_instruction_repeated_is_a_fault() -> None:
    prompt = (
        "Say in plain words why the item suits them.\n- Judy and Peter play a game in the heat."
    )
    found = faults("Say in plain words why the item suits them.", prompt)
    assert "it repeats the instruction" in found
    assert faults("It is a game in the heat that Judy and Peter play.", prompt) == ()


@pytest.mark.parametrize("text", ["You liked Jumanji.", 'You enjoyed "Jumanji" before.'])
def test_liked_titles_must_be_in_the_history(text: str) -> None:
    fault = "it says that 'Jumanji' was chosen before, which the evidence does not hold"
    assert faults(text) == (fault,)
    assert faults("You will like Jumanji. You liked The Usual Suspects.") == ()


def test_an_answer_must_say_something_of_the_evidence() -> None:
    little = "it says little of what the evidence holds"
    assert little in faults("I'm ready to help. What's the next question?", "Why?")
    assert little in faults("Your answer was not accepted.", "Why?")
    assert faults("Jumanji: Peter plays an adventurous game, for families.", "Why?") == ()


def test_no_evidence_allows_no_title() -> None:
    assert check_text("You may like Jumanji.", (), TITLES)
    assert check_text("It suits you.", (), TITLES) == ()


def test_a_title_does_not_carry_a_made_up_claim() -> None:
    claim = "Jumanji is made with sustainable materials and designed to be recycled."
    assert faults(claim, "Say why.") == ("it says little of what the evidence holds",)
    assert faults("Jumanji is a game that Judy and Peter play.", "Say why.") == ()
