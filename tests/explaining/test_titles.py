from __future__ import annotations

import random
import time

import pytest

from llmrec.explaining.titles import Titles, cover, title_forms
from llmrec.records import Item

TITLES = (
    "It",
    "Up",
    "Her",
    "I",
    "Heat",
    "Casablanca",
    "Toy Story",
    "Toy Story 2",
    "The Net",
    "Usual Suspects, The",
    "Dracula: Dead and Loving It",
    "Mr. Holland's Opus",
    "MALICE MIZER",
    "1984",
    "活着",
    "围城",
    "挪威的森林",
    "Amélie",
    "eels",
    "",
)
DESCRIPTION = "The heat is on; give it up to her."


@pytest.fixture(scope="module")
def titles() -> Titles:
    return Titles({str(n): Item(str(n), title, DESCRIPTION) for n, title in enumerate(TITLES)})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is a film. Up to now, I like her. Her work is up to it.", []),
        ("You liked It and Up.", ["It", "Up"]),
        ("You may love Her.", ["Her"]),
        ("Heat is the first word, and heat is ordinary.", []),
        ("You liked Heat.", ["Heat"]),
        ("Casablanca is no ordinary word.", ["Casablanca"]),
        ("Toy Story 2 is better than Toy Story.", ["Toy Story 2", "Toy Story"]),
        ("It is a toy story.", []),
        ("Anything but the net.", []),
        ("I saw The Net and the Usual Suspects.", ["The Net", "Usual Suspects"]),
        ("The Usual Suspects is old.", ["The Usual Suspects"]),
        ("Dracula - Dead and Loving It is fun.", ["Dracula - Dead and Loving It"]),
        ("Like Mr. Holland’s Opus.", ["Mr. Holland’s Opus"]),
        ("Like Malice Mizer.", ["Malice Mizer"]),
        ("like malice mizer", []),
        ("It was 1984.", []),
        ("我们活着。", []),
        ("你喜欢挪威的森林吗？", ["挪威的森林"]),
        ("I loved Ame\u0301lie.", []),
        ("I loved Amélie.", ["Amélie"]),
        ("The sea has eels.", []),
        ("", []),
    ],
)
def test_find(titles: Titles, text: str, found: list[str]) -> None:
    assert [mention.text for mention in titles.find(text)] == found


def test_mention_offsets_match_the_text(titles: Titles) -> None:
    text = "You liked Toy Story 2, Heat and 挪威的森林."
    mentions = titles.find(text)
    assert [text[m.start : m.end] for m in mentions] == ["Toy Story 2", "Heat", "挪威的森林"]
    covered = cover(text, mentions)
    assert len(covered) == len(text)
    assert "Story" not in covered
    assert covered.startswith("You liked ")


@pytest.mark.parametrize("phrase", ["Heat", "活着", "The Usual Suspects", "Toy Story 2"])
def test_a_title_is_in_the_titles(titles: Titles, phrase: str) -> None:
    assert phrase in titles


@pytest.mark.parametrize("phrase", ["heat", "Toy", "", "Usual"])
def test_a_part_of_a_title_is_not(titles: Titles, phrase: str) -> None:
    assert phrase not in titles


@pytest.mark.parametrize(
    ("title", "forms"),
    [
        ("Jumanji (1995)", ("Jumanji (1995)", "Jumanji")),
        ("Postman, The (Postino, Il)", ("Postman, The", "The Postman")),
        ("Twelve Monkeys (a.k.a. 12 Monkeys)", ("Twelve Monkeys", "12 Monkeys")),
        ("Misérables, Les", ("Les Misérables",)),
        ("Star Wars: Episode IV", ("Star Wars",)),
    ],
)
def test_title_forms(title: str, forms: tuple[str, ...]) -> None:
    assert set(forms) <= set(title_forms(title))


def test_a_short_form_is_never_one_word() -> None:
    assert title_forms("The Net") == ("The Net",)
    assert title_forms("Up: A Story") == ("Up: A Story",)
    assert title_forms("") == ()


def test_twenty_thousand_titles_are_searched_fast() -> None:
    chance = random.Random(0)
    syllables = ["Ka", "Lo", "Mi", "Ne", "Ru", "Sa", "Ti", "Vo"]
    names = ["".join(chance.choices(syllables, k=3)).capitalize() for _ in range(40_000)]
    items = {str(n): Item(str(n), f"The {names[2 * n]} {names[2 * n + 1]}") for n in range(20_000)}
    titles = Titles(items)
    text = " and ".join(f"the {items[str(n)].title}" for n in range(30)) + "."
    start = time.perf_counter()
    mentions = titles.find(text)
    # Every title tried in turn would take several seconds; a loaded machine is allowed for.
    assert time.perf_counter() - start < 2
    assert len(mentions) == 30
