"""What each shipped template renders to, byte for byte, and what holds for all of them.

``golden/STRATEGY/NAME.txt`` holds the renderings. After a wanted change of a template,
``python -m tests.prompting.test_shipped_templates`` writes the files again: read their diff.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmrec.items import Taste
from llmrec.models import TextTokenizer
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Budget,
    Context,
    PromptWriter,
    Template,
    check_template,
    example,
    list_templates,
    load_template,
    prompts_folder,
)
from llmrec.prompting.diff import blocks_of
from llmrec.prompting.fields import FIELDS
from llmrec.prompting.sandbox import FILTERS
from llmrec.prompting.template import VARIABLES
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
from tests.prompting.conftest import tiny_tokenizer

GOLDEN = Path(__file__).parent / "golden"
NAMES = [template.name for template in list_templates()]
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
OTHER = Item("tin", "Tin Kite")
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
CONTEXT = Context(
    ITEMS,
    reviews=lambda _: REVIEWS,
    insight=lambda item_id: INSIGHT if item_id == "blue" else Insight(),
    taste=lambda user: (
        Taste(favoured=(("kind", "kite"),), friends=("mug",)) if user.history else Taste()
    ),
)
QUERY = "a gift for windy days"
RATED = (Interaction("me", "kite", 5.0), Interaction("me", "mug", 1.0))
UNRATED = (Interaction("me", "kite"), Interaction("me", "mug"))
USERS = {
    "history": User("me", RATED, {"age": 30}),
    "history without ratings, no profile": User("me", UNRATED),
    "nothing known": User("new"),
    "no history, a profile": User("new", profile={"age": 30}),
    "no history, a query": User("new", query=QUERY),
    "history and a query": User("me", RATED, {"age": 30}, query=QUERY),
}


def render(template: Template, tokenizer: TextTokenizer, user: User) -> Prompt:
    explains = template.strategy == "explain"
    writer = PromptWriter(
        template=template,
        user=user,
        tokenizer=tokenizer,
        evidence=("Blue Kite is a kite.", "You rated Red Kite 5.") if explains else (),
        fault="it named Green Kite" if explains else "",
        budget=Budget(review=90),  # the tiny tokenizer takes a token a letter
        context=CONTEXT,
    )
    if "items" in template.variables:
        return writer.for_groups([[CANDIDATE, OTHER]], "AB").prompts[0]
    if template.strategy == "likelihood":
        return writer.without_candidate().prompts[0]
    return writer.for_each([CANDIDATE]).prompts[0]


def renderings(template: Template, tokenizer: TextTokenizer) -> str:
    return "".join(
        f"=== {case} ===\n"
        + "".join(
            f"[{block}]\n{text}\n" for block, text in blocks_of(render(template, tokenizer, user))
        )
        for case, user in USERS.items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_shipped_template_renders_byte_for_byte(name: str, tokenizer: TextTokenizer) -> None:
    expected = (GOLDEN / f"{name}.txt").read_bytes().decode()
    assert renderings(load_template(name), tokenizer) == expected


@pytest.mark.parametrize("name", sorted({*DEFAULT_TEMPLATES.values()}))
def test_a_default_template_shows_a_query_and_the_profile_of_a_newcomer(
    name: str, tokenizer: TextTokenizer
) -> None:
    template = load_template(name)
    in_evidence = template.strategy == "explain"  # which has the query as one of the facts
    for case, shown in (("history and a query", QUERY), ("no history, a query", QUERY)):
        assert str(render(template, tokenizer, USERS[case])).count(shown) == (not in_evidence)
    assert "age: 30" in str(render(template, tokenizer, USERS["no history, a profile"]))


def test_two_templates_of_each_strategy_read_the_query() -> None:
    for strategy in {template.strategy for template in list_templates()} - {"explain"}:
        sources = [template.source for template in list_templates(strategy)]
        assert sum("user.query" in source for source in sources) >= 2


def test_golden_files_are_those_of_the_templates() -> None:
    found = [f"{path.parent.name}/{path.stem}" for path in GOLDEN.glob("*/*")]
    assert sorted(found) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_template_has_no_findings(name: str, tokenizer: TextTokenizer) -> None:
    assert check_template(name, tokenizer) == ()
    assert check_template(name) == ()


@pytest.mark.parametrize("name", NAMES)
def test_shipped_template_has_a_summary(name: str) -> None:
    template = load_template(name)
    header = template.source.partition("#}")[0]
    assert template.summary.endswith((".", "?"))
    assert f"Strategy: {template.strategy}\n" in header
    assert "Answer: " in header
    reads = re.sub(r"\([^)]*\)", "", header.partition("Reads: ")[2].partition("\n")[0])
    assert template.variables == set(reads.replace(" ", "").split(","))


@pytest.mark.parametrize("strategy", sorted(DEFAULT_TEMPLATES))
def test_each_strategy_has_four_templates_and_a_default_among_them(strategy: str) -> None:
    folder = "listwise" if strategy == "tournament" else strategy
    names = [template.name for template in list_templates(folder)]
    assert len(names) >= 4
    assert DEFAULT_TEMPLATES[strategy] in names
    assert all(name.startswith(f"{folder}/") for name in names)


@pytest.mark.parametrize("strategy", sorted({*DEFAULT_TEMPLATES} - {"explain", "pointwise"}))
def test_each_strategy_has_a_plain_text_for_base_models(strategy: str) -> None:
    folder = "listwise" if strategy == "tournament" else strategy
    texts = [example(t).text for t in list_templates(folder) if t.blocks == ("text",)]
    assert texts
    if strategy != "likelihood":  # the space before a letter belongs to the letter
        assert not any(text is None or text.endswith(" ") for text in texts)


def test_the_readme_names_every_template_and_no_other() -> None:
    text = (prompts_folder() / "README.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert {row for row in rows if "/" in row} == set(NAMES)


def test_readme_lists_all_fields_and_filters() -> None:
    text = (prompts_folder() / "README.md").read_text(encoding="utf-8")
    assert f"these filters: {', '.join(FILTERS)}." in " ".join(text.split())
    for name in VARIABLES:
        assert re.search(rf"^\| `{name}(\.profile)?` \|", text, re.MULTILINE), name
    for name in FIELDS["user"]:
        assert re.search(rf"^\| `user\.{name}` \|", text, re.MULTILINE), name
    for name in FIELDS["item"] + FIELDS["history"]:
        assert re.search(rf"^\|[^|]*`{name}`", text, re.MULTILINE), name
    for strategy, name in DEFAULT_TEMPLATES.items():
        assert re.search(rf"^\| `{strategy}` \|.*\| `{name}` \|$", text, re.MULTILINE)


def test_wordings_of_a_strategy_differ() -> None:
    texts = [example(template) for template in list_templates()]
    assert len(set(texts)) == len(texts)


def test_the_example_of_a_pair_is_a_pair() -> None:
    assert example(load_template("pairwise/plain-list")).user.endswith("A or B?")


def test_the_users_own_review_of_a_candidate_is_not_shown(tokenizer: TextTokenizer) -> None:
    prompt = render(load_template("pointwise/reviews"), tokenizer, USERS["history"])
    assert "Easy to fly." in prompt.user
    assert "I bought it." not in prompt.user


if __name__ == "__main__":
    for shipped in list_templates():
        path = GOLDEN / f"{shipped.name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(renderings(shipped, tiny_tokenizer()).encode())
