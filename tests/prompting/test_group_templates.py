"""What each shipped template for several candidates, and for grades, renders to, byte for byte."""

from __future__ import annotations

import re

import pytest

from llmrec.models import TextTokenizer
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Budget,
    PromptWriter,
    Template,
    check_template,
    example,
    list_templates,
    load_template,
    prompts_folder,
)
from llmrec.prompting.structure import VARIABLES
from llmrec.records import Item, Prompt, User
from tests.prompting.test_shipped_templates import BACKGROUND, CANDIDATE, ITEMS, USER

STRATEGIES = ("graded", "listwise", "listwise-generated", "pairwise", "setwise")
OTHER = Item("tin", "Tin Kite")
EXPECTED = {
    "graded/details": Prompt(
        (
            "Compare an item with what a person chose before: kind, style, theme, price, "
            "maker. Grade the match: 4 is exactly their taste, 3 close to it, 2 neither "
            "close nor far, 1 rather far, 0 nothing like it. Answer with the digit only."
        ),
        (
            "Chosen before, oldest first:\n"
            "- Red Kite (kind: kite; colours: red, gold)\n"
            "- Plain Mug\n"
            "\n"
            "New item: Blue Kite\n"
            "Details: kind: kite; year: 2020\n"
            "Description: Flies in light wind.\n"
            "Others: 75 % of 4 reviews positive; praised: flight; criticised: line\n"
            "Which grade, 0 to 4?"
        ),
    ),
    "graded/known-grades": Prompt(
        "",
        "",
        (
            "One person's grades, 0 (not for me) to 4 (just right for me):\n"
            "Red Kite, grade=4\n"
            "Plain Mug, grade=1\n"
            "Blue Kite, grade="
        ),
    ),
    "graded/likes-and-dislikes": Prompt(
        (
            "You know what a person liked and what they did not like. Predict how much they"
            " will like one more item: 0 they will dislike it, 2 they will find it all "
            "right, 4 they will love it. Answer with one digit from 0 to 4."
        ),
        (
            "Person: age: 30\n"
            "Taste: often kind kite\n"
            "Liked:\n"
            "- Red Kite\n"
            "Not liked:\n"
            "- Plain Mug\n"
            "\n"
            "One more item: Blue Kite (kind: kite; year: 2020)\n"
            "How much will they like it, 0 to 4?"
        ),
    ),
    "graded/plain-list": Prompt(
        (
            "You grade how well an item suits a person. 0 means they would never choose it,"
            " 4 means they would choose it at once. Answer with one digit from 0 to 4."
        ),
        (
            "The person chose these items, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "How well does this item suit the person?\n"
            "- Blue Kite\n"
            "Grade, 0 to 4:"
        ),
    ),
    "listwise-generated/details": Prompt(
        (
            "You rank items for a person by how close they are to what the person chose "
            "before: kind, style, theme, price, maker. Where two are as close, the one that"
            " others praise goes first. Your whole answer is the ranking: every label once,"
            " best first, written [B] > [A] > [C]."
        ),
        (
            "Chosen before, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Items to rank:\n"
            "[A] Blue Kite (kind: kite; year: 2020); others: 75 % of 4 reviews positive; "
            "praised: flight; criticised: line\n"
            "[B] Tin Kite\n"
            "\n"
            "Ranking of all 2 labels:"
        ),
    ),
    "listwise-generated/likes-and-dislikes": Prompt(
        (
            "You know what a person liked and what they did not like. Sort new items for "
            "them: what they will love goes to the front, what they will dislike to the "
            "end. Write every label once in the form [B] > [A] > [C]. No explanation."
        ),
        (
            "Person: age: 30\n"
            "Taste: often kind kite\n"
            "Friends chose: Plain Mug\n"
            "Liked:\n"
            "- Red Kite\n"
            "Not liked:\n"
            "- Plain Mug\n"
            "\n"
            "New items:\n"
            "[A] Blue Kite (kind: kite; year: 2020)\n"
            "[B] Tin Kite\n"
            "Sorted:"
        ),
    ),
    "listwise-generated/plain-list": Prompt(
        (
            "You put items in the order in which a person would choose them. Write the "
            "labels of all items, best first, in the form [B] > [A] > [C], and nothing "
            "else."
        ),
        (
            "The person chose these items, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Put these 2 items in order:\n"
            "[A] Blue Kite\n"
            "[B] Tin Kite\n"
            "The order of all labels, best first:"
        ),
    ),
    "listwise-generated/ranking": Prompt(
        "",
        "",
        (
            "Chosen so far, in this order: Red Kite; Plain Mug\n"
            "\n"
            "What there is to choose next:\n"
            "[A] Blue Kite\n"
            "[B] Tin Kite\n"
            "\n"
            "All 2 labels, the most likely choice first, in the form [B] > [A] > [C]:\n"
        ),
    ),
    "listwise/details": Prompt(
        (
            "You put items in order for a person, the one that suits them best first. Look "
            "at kind, style, theme, price, maker, and at what others think. Answer with the"
            " letter of the item that stands first."
        ),
        (
            "Chosen before, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Items to put in order:\n"
            "[A] Blue Kite (kind: kite; year: 2020); others: 75 % of 4 reviews positive; "
            "praised: flight; criticised: line\n"
            "[B] Tin Kite\n"
            "\n"
            "Which letter stands first?"
        ),
    ),
    "listwise/likes-and-dislikes": Prompt(
        (
            "A person looks along a shelf and takes what they will like most. Say which "
            "item they take first. Answer with its letter only."
        ),
        (
            "The person: age: 30\n"
            "Their taste: often kind kite\n"
            "Their friends chose: Plain Mug\n"
            "They liked:\n"
            "- Red Kite\n"
            "They did not like:\n"
            "- Plain Mug\n"
            "\n"
            "The shelf:\n"
            "(A) Blue Kite\n"
            "(B) Tin Kite\n"
            "They take first:"
        ),
    ),
    "listwise/next-letter": Prompt(
        "",
        "",
        (
            "About the reader: age: 30\n"
            "\n"
            "Chosen so far, in this order:\n"
            "1. Red Kite\n"
            "2. Plain Mug\n"
            "\n"
            "Question: Which of these was chosen next?\n"
            "A. Blue Kite\n"
            "B. Tin Kite\n"
            "Answer:"
        ),
    ),
    "listwise/plain-list": Prompt(
        (
            "You predict which item a person chooses next. Answer with the letter of one "
            "item and nothing else."
        ),
        (
            "The person chose these items, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Which of these items comes next?\n"
            "A. Blue Kite\n"
            "B. Tin Kite\n"
            "Answer with its letter."
        ),
    ),
    "pairwise/a-or-b": Prompt(
        "",
        "",
        (
            "Somebody chose Red Kite; Plain Mug.\n"
            "Question: Which of these two comes next?\n"
            "A. Blue Kite\n"
            "B. Tin Kite\n"
            "Answer:"
        ),
    ),
    "pairwise/details": Prompt(
        (
            "Compare two items with what a person chose before: kind, style, theme, price, "
            "maker. Say which of the two is closer to the person's taste. Answer with its "
            "letter only."
        ),
        (
            "Chosen before, oldest first:\n"
            "- Red Kite (kind: kite; colours: red, gold)\n"
            "- Plain Mug\n"
            "\n"
            "Item A: Blue Kite\n"
            "Details: kind: kite; year: 2020\n"
            "Description: Flies in light wind.\n"
            "Others: 75 % of 4 reviews positive; praised: flight; criticised: line\n"
            "\n"
            "Item B: Tin Kite\n"
            "\n"
            "Which is closer, A or B?"
        ),
    ),
    "pairwise/likes-and-dislikes": Prompt(
        (
            "You know what a person liked and what they did not like. Of two new items, say"
            " which they would rather have. Answer with A or B only."
        ),
        (
            "Person: age: 30\n"
            "Taste: often kind kite\n"
            "Liked:\n"
            "- Red Kite, rated 5\n"
            "Not liked:\n"
            "- Plain Mug, rated 1\n"
            "\n"
            "A: Blue Kite (kind: kite; year: 2020)\n"
            "B: Tin Kite\n"
            "They would rather have:"
        ),
    ),
    "pairwise/plain-list": Prompt(
        ("You predict which of two items a person chooses. Answer with one letter: A or B."),
        (
            "The person chose these items, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Which of the two does the person choose next?\n"
            "A. Blue Kite\n"
            "B. Tin Kite\n"
            "A or B?"
        ),
    ),
    "setwise/best-letter": Prompt(
        "",
        "",
        (
            "Somebody likes Red Kite; Plain Mug.\n"
            "Question: Which of these do they like best?\n"
            "A. Blue Kite\n"
            "B. Tin Kite\n"
            "Answer:"
        ),
    ),
    "setwise/details": Prompt(
        (
            "Compare a few items with what a person chose before: kind, style, theme, "
            "price, maker. Say which of them is closest to the person's taste. Answer with "
            "its letter only."
        ),
        (
            "Chosen before, oldest first:\n"
            "- Red Kite (kind: kite; colours: red, gold)\n"
            "- Plain Mug\n"
            "\n"
            "Item A: Blue Kite\n"
            "Details: kind: kite; year: 2020\n"
            "Description: Flies in light wind.\n"
            "Others: 75 % of 4 reviews positive; praised: flight; criticised: line\n"
            "\n"
            "Item B: Tin Kite\n"
            "\n"
            "Which item is closest to their taste?"
        ),
    ),
    "setwise/likes-and-dislikes": Prompt(
        (
            "You choose a present for a person you know. Of a few items, name the one that "
            "will make them happiest, by its letter. Write the letter only."
        ),
        (
            "The person: age: 30\n"
            "Their taste: often kind kite\n"
            "They liked:\n"
            "- Red Kite\n"
            "They did not like:\n"
            "- Plain Mug\n"
            "\n"
            "To choose from:\n"
            "[A] Blue Kite (kind: kite; year: 2020)\n"
            "[B] Tin Kite\n"
            "The present is:"
        ),
    ),
    "setwise/plain-list": Prompt(
        (
            "You pick the one item that suits a person best. Answer with its letter and "
            "nothing else."
        ),
        (
            "The person chose these items, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Pick the best of these for the person:\n"
            "A. Blue Kite\n"
            "B. Tin Kite\n"
            "The best is the letter:"
        ),
    ),
}


def render(template: Template, tokenizer: TextTokenizer, user: User = USER) -> Prompt:
    writer = PromptWriter(
        template=template,
        user=user,
        items=ITEMS,
        tokenizer=tokenizer,
        budget=Budget(review=90),  # the tiny tokenizer takes a token a letter
        background=BACKGROUND,
    )
    if template.strategy == "graded":
        return writer.for_each([CANDIDATE]).prompts[0]
    return writer.for_groups([[CANDIDATE, OTHER]], "AB").prompts[0]


def test_every_template_of_these_strategies_has_an_expectation() -> None:
    names = [t.name for strategy in STRATEGIES for t in list_templates(strategy)]
    assert sorted(EXPECTED) == sorted(names)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_shipped_template_renders_byte_for_byte(name: str, tokenizer: TextTokenizer) -> None:
    assert render(load_template(name), tokenizer) == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_check_finds_nothing_in_a_shipped_template(name: str, tokenizer: TextTokenizer) -> None:
    assert check_template(name, tokenizer) == ()
    assert check_template(name) == ()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_shipped_template_says_what_it_is_for(name: str) -> None:
    template = load_template(name)
    header = template.source.partition("#}")[0]
    assert template.summary.endswith((".", "?"))
    assert f"Strategy: {template.strategy}\n" in header
    assert "Answer: " in header
    reads = re.sub(r"\([^)]*\)", "", header.partition("Reads: ")[2].partition("\n")[0])
    assert template.variables == set(reads.replace(" ", "").split(",")) <= set(VARIABLES)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_newcomer_is_asked_about_too(name: str, tokenizer: TextTokenizer) -> None:
    prompt = render(load_template(name), tokenizer, User("new"))
    assert "Blue Kite" in (prompt.text or prompt.user)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_has_a_plain_text_for_base_models(strategy: str) -> None:
    plain = [t for t in list_templates(strategy) if t.blocks == ("text",)]
    assert plain
    for template in plain:
        text = example(template).text
        assert text is not None
        assert not text.endswith(" ")  # the space before a letter belongs to the letter


def test_defaults_are_shipped_and_a_tournament_takes_those_of_listwise() -> None:
    for strategy in STRATEGIES:
        assert DEFAULT_TEMPLATES[strategy].startswith(f"{strategy}/")
    assert DEFAULT_TEMPLATES["tournament"].startswith("listwise/")
    assert {*DEFAULT_TEMPLATES.values()} <= {template.name for template in list_templates()}


def test_the_readme_has_a_row_for_each() -> None:
    text = (prompts_folder() / "README.md").read_text(encoding="utf-8")
    for name in EXPECTED:
        assert f"| `{name}` |" in text
    for strategy in (*STRATEGIES, "tournament"):
        assert re.search(
            rf"^\| `{strategy}` \|.*\| `{DEFAULT_TEMPLATES[strategy]}` \|$", text, re.M
        )


def test_the_example_of_a_pair_is_a_pair() -> None:
    assert example(load_template("pairwise/plain-list")).user.endswith("A or B?")
