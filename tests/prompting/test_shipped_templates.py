"""What each shipped template renders to, byte for byte."""

from __future__ import annotations

import re

import pytest

from llmrec.items import Taste
from llmrec.models import TextTokenizer
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Background,
    Budget,
    Template,
    check_template,
    example,
    list_templates,
    load_template,
    prompts_folder,
)
from llmrec.prompting.fields import FIELDS, ShownHistoryItem, ShownItem
from llmrec.prompting.sandbox import FILTERS
from llmrec.prompting.structure import VARIABLES
from llmrec.records import (
    Aspect,
    Caption,
    CaptionSource,
    Insight,
    Interaction,
    Item,
    Opinion,
    Prompt,
    Review,
    SentimentSource,
    User,
)
from tests.prompting.writing import written

ITEMS = {
    "kite": Item("kite", "Red Kite", "Made of silk.", {"kind": "kite", "colours": ("red", "gold")}),
    "mug": Item("mug", "Plain Mug"),
}
CANDIDATE = Item(
    "blue",
    "Blue Kite",
    "Flies in light wind.",
    {"kind": "kite", "year": 2020, "item_url": "https://shop.example/blue"},
)

USER = User("me", (Interaction("me", "kite", 5.0), Interaction("me", "mug", 1.0)), {"age": 30})
REVIEWS = (Review("blue", "I bought it.", 5.0, "me"), Review("blue", "Easy to fly.", 4.0, "you"))
INSIGHT = Insight(
    Caption("a blue kite in the sky", CaptionSource.MODEL),
    Caption("a kite that takes off", CaptionSource.MODEL),
    Opinion(
        4,
        0.75,
        ("It flies by itself.",),
        ("The line tangles.",),
        (Aspect("flight", 3, 0), Aspect("line", 0, 2)),
        SentimentSource.RATINGS,
    ),
    ("made by: Kitewright",),
)
BACKGROUND = Background(
    reviews=lambda _: REVIEWS,
    insight=lambda item_id: INSIGHT if item_id == "blue" else Insight(),
    taste=lambda _: Taste(favoured=(("kind", "kite"),), friends=("mug",)),
)

EXPECTED = {
    "explain/because-you-liked": Prompt(
        system=(
            "You link a new item to what a person chose before. Use only the facts you are "
            "given, and only titles that stand in them."
        ),
        user=(
            "Facts:\n"
            "1. Blue Kite is a kite.\n"
            "2. You rated Red Kite 5.\n"
            "\n"
            'Pick the one or two earlier choices that are most like "Blue Kite" and tell '
            "me, in one to three sentences, what it has in common with them. Begin with "
            '"Because you".\n'
            "Do it again, since it named Green Kite."
        ),
    ),
    "explain/for-and-against": Prompt(
        system=(
            "You are an honest adviser. You say what speaks for an item and what might not "
            "suit the person. All you know is the evidence, and you add nothing to it."
        ),
        user=(
            "Person: age: 30\n"
            "Evidence:\n"
            "- Blue Kite is a kite.\n"
            "- You rated Red Kite 5.\n"
            "\n"
            'Write two sentences to the person about "Blue Kite": first the strongest '
            "reason for it, then one doubt. Leave the doubt out if the evidence gives "
            "none.\n"
            "Avoid this mistake: it named Green Kite."
        ),
    ),
    "explain/one-sentence": Prompt(
        system=(
            "You write the line that stands under a recommended item. One sentence, at "
            "most 25 words, no praise, only what the notes say."
        ),
        user=(
            "Notes:\n"
            "- Blue Kite is a kite.\n"
            "- You rated Red Kite 5.\n"
            "Item: Blue Kite (kind: kite; year: 2020)\n"
            "Not this time: it named Green Kite.\n"
            "The line:"
        ),
    ),
    "explain/plain": Prompt(
        system=(
            'You tell a reader why an item may suit them. You write to them as "you", in one or '
            "two short sentences, with the facts given and nothing else."
        ),
        user=(
            "Facts:\n"
            "Blue Kite is a kite.\n"
            "You rated Red Kite 5.\n"
            "\n"
            "Do not repeat this mistake: it named Green Kite.\n"
            'Write one or two sentences that begin with: You may like "Blue Kite" because'
        ),
    ),
    "explain/what-others-say": Prompt(
        system=(
            "You sum up what is known about an item for one person. Never invent a review, "
            "a fact or a title."
        ),
        user=(
            'What is known about "Blue Kite" and about me:\n'
            "- Blue Kite is a kite.\n"
            "- You rated Red Kite 5.\n"
            "\n"
            "In one to three sentences: what do others say about it, and why would that "
            "matter to me? Where nobody says anything, go by the item's own details.\n"
            "The answer before this one was wrong: it named Green Kite. Correct it."
        ),
    ),
    "likelihood/chat-next": Prompt(
        system=(
            "You predict what a person chooses next. Answer with the title of one item and "
            "nothing else."
        ),
        user=(
            "I chose these items, oldest first:\n- Red Kite\n- Plain Mug\nWhat do I choose next?"
        ),
    ),
    "likelihood/chat-profile": Prompt(
        system=("You recommend one item that suits a person's taste. Reply with its title only."),
        user=(
            "About me: age: 30\n"
            "I liked:\n"
            "- Red Kite (kind: kite; colours: red, gold)\n"
            "I did not like:\n"
            "- Plain Mug\n"
            "Recommend one more."
        ),
    ),
    "likelihood/details": Prompt(
        "",
        "",
        text=(
            "What one person chose, oldest first, with details:\n"
            "- Red Kite (kind: kite; colours: red, gold)\n"
            "- Plain Mug\n"
            "- "
        ),
    ),
    "likelihood/liked": Prompt(
        "", "", text=("One person's opinions:\nLiked: Red Kite\nNot liked: Plain Mug\nLiked: ")
    ),
    "likelihood/list": Prompt(
        "", "", text=("Items that one person chose, oldest first:\n- Red Kite\n- Plain Mug\n- ")
    ),
    "likelihood/numbered": Prompt(
        "",
        "",
        text=(
            "About the reader: age: 30\n"
            "\n"
            "Recommended in this order, each because of those before it:\n"
            "1. Red Kite\n"
            "2. Plain Mug\n"
            "3. "
        ),
    ),
    "likelihood/sentence": Prompt("", "", text=("People who like Red Kite also like ")),
    "likelihood/taste": Prompt(
        "",
        "",
        text=(
            "Profile: age: 30\n"
            "Taste: often kind kite\n"
            "Friends chose: Plain Mug\n"
            "What this person chose, in order:\n"
            "1. Red Kite\n"
            "2. Plain Mug\n"
            "3. "
        ),
    ),
    "likelihood/titles": Prompt("", "", text=("My favourites\n\nRed Kite\nPlain Mug\n")),
    "pointwise/details": Prompt(
        system=(
            "Compare an item with what a person chose before: kind, style, theme, price, "
            "maker. Say Yes where it suits the person's taste and No where it does not. "
            "Answer with Yes or No only."
        ),
        user=(
            "Chosen before, oldest first:\n"
            "- Red Kite (kind: kite; colours: red, gold)\n"
            "- Plain Mug\n"
            "\n"
            "New item: Blue Kite\n"
            "Details: kind: kite; year: 2020\n"
            "Description: Flies in light wind.\n"
            "Does it suit the person's taste, Yes or No?"
        ),
    ),
    "pointwise/likes-and-dislikes": Prompt(
        system=(
            "You know what a person liked and what they did not like. Predict whether they "
            "will like one more item. Answer with Yes or No only."
        ),
        user=(
            "Liked:\n"
            "- Red Kite, rated 5\n"
            "Not liked:\n"
            "- Plain Mug, rated 1\n"
            "\n"
            "One more item: Blue Kite (kind: kite; year: 2020)\n"
            "Will they like it, Yes or No?"
        ),
    ),
    "pointwise/opinion": Prompt(
        system=(
            "Decide whether a person will like an item that others have reviewed. Answer with "
            "Yes or No only."
        ),
        user=(
            "The person: often kind kite\n"
            "They liked:\n"
            "- Red Kite\n"
            "\n"
            "The item: Blue Kite (kind: kite; year: 2020)\n"
            "Others: 75 % of 4 reviews positive; praised: flight; criticised: line\n"
            "Will they like it, Yes or No?"
        ),
    ),
    "pointwise/plain-list": Prompt(
        system=("You judge whether a person will choose an item. Answer with one word: Yes or No."),
        user=(
            "The person chose these items, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Will the person choose this item next?\n"
            "- Blue Kite\n"
            "Yes or No?"
        ),
    ),
    "pointwise/profile-first": Prompt(
        system=(
            "You advise a shop. For each customer you approve or refuse one "
            "recommendation. Answer Yes to approve and No to refuse."
        ),
        user=(
            "Customer: age: 30.\n"
            "The customer's choices so far: Red Kite; Plain Mug.\n"
            "Most recent choice: Plain Mug.\n"
            "\n"
            "Recommendation: Blue Kite (kind: kite; year: 2020)\n"
            "Approve it, Yes or No?"
        ),
    ),
    "pointwise/reviews": Prompt(
        system=(
            "A person wants to know if an item is for them. Use what they chose before and "
            "what others say about the item. Answer with Yes or No only."
        ),
        user=(
            "I chose these before, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "I am looking at: Blue Kite\n"
            "About it: Flies in light wind.\n"
            "Somebody says: Easy to fly.\n"
            "Is it for me, Yes or No?"
        ),
    ),
    "pointwise/same-taste": Prompt(
        system=(
            "You are shown a collection and one more thing. Say Yes if it belongs to the "
            "collection and No if it is out of place."
        ),
        user=(
            "Collection:\n"
            "1. Red Kite - kind: kite; colours: red, gold\n"
            "\n"
            "One more thing: Blue Kite - kind: kite; year: 2020\n"
            "Does it belong, Yes or No?"
        ),
    ),
    "pointwise/whole-item": Prompt(
        system=(
            "You match items to people. Weigh what a person likes against everything known "
            "about an item. Answer with Yes or No only."
        ),
        user=(
            "Person: age: 30\n"
            "Taste: often kind kite\n"
            "Friends chose: Plain Mug\n"
            "Chosen before, oldest first:\n"
            "- Red Kite\n"
            "- Plain Mug\n"
            "\n"
            "Item: Blue Kite\n"
            "Details: kind: kite; year: 2020\n"
            "Description: Flies in light wind.\n"
            "Picture: a blue kite in the sky\n"
            "Clip: a kite that takes off\n"
            "Fact: made by: Kitewright\n"
            "Reviewers: 75 % of 4 reviews positive; praised: flight; criticised: line\n"
            "Praise: It flies by itself.\n"
            "Complaint: The line tangles.\n"
            "Will the person like it, Yes or No?"
        ),
    ),
}


def render(template: Template, tokenizer: TextTokenizer) -> Prompt:
    explains = template.strategy == "explain"
    rendered = written(
        template,
        user=USER,
        items=ITEMS,
        candidates=() if template.strategy == "likelihood" else (CANDIDATE,),
        tokenizer=tokenizer,
        evidence=("Blue Kite is a kite.", "You rated Red Kite 5.") if explains else (),
        fault="it named Green Kite" if explains else "",
        budget=Budget(review=90),  # the tiny tokenizer takes a token a letter
        background=BACKGROUND,
    )
    (prompt,) = rendered.prompts
    return prompt


def test_every_shipped_template_has_an_expectation() -> None:
    one_by_one = (t for t in list_templates() if "items" not in t.variables)
    assert sorted(EXPECTED) == [
        template.name for template in one_by_one if template.strategy != "graded"
    ]


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
    reads = header.partition("Reads: ")[2].partition("\n")[0]
    assert template.variables == set(re.findall(r"user|history|item|evidence|fault", reads))


@pytest.mark.parametrize("strategy", sorted(DEFAULT_TEMPLATES))
def test_each_strategy_has_four_templates_and_a_default_among_them(strategy: str) -> None:
    folder = DEFAULT_TEMPLATES[strategy].partition("/")[0]
    names = [template.name for template in list_templates(folder)]
    assert len(names) >= 4
    assert DEFAULT_TEMPLATES[strategy] in names
    assert all(name.startswith(f"{folder}/") for name in names)


def test_the_readme_names_every_template_and_no_other() -> None:
    text = (prompts_folder() / "README.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert {row for row in rows if "/" in row} == {t.name for t in list_templates()}


def test_the_readme_names_what_templates_may_use() -> None:
    text = (prompts_folder() / "README.md").read_text(encoding="utf-8")
    assert f"these filters: {', '.join(FILTERS)}." in " ".join(text.split())
    for name in VARIABLES:
        assert re.search(rf"^\| `{name}(\.profile)?` \|", text, re.MULTILINE), name
    for name in FIELDS[ShownItem] + FIELDS[ShownHistoryItem]:
        assert re.search(rf"^\|[^|]*`{name}`", text, re.MULTILINE), name
    for strategy, name in DEFAULT_TEMPLATES.items():
        assert re.search(rf"^\| `{strategy}` \|.*\| `{name}` \|$", text, re.MULTILINE)


def test_wordings_of_a_strategy_differ() -> None:
    texts = [example(template) for template in list_templates()]
    assert len(set(texts)) == len(texts)


def test_the_users_own_review_of_a_candidate_is_not_shown(tokenizer: TextTokenizer) -> None:
    prompt = render(load_template("pointwise/reviews"), tokenizer)
    assert "Easy to fly." in prompt.user
    assert "I bought it." not in prompt.user
