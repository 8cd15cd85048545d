"""A worked example of any template: a small made-up user, history and candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from llmrec.items import Taste
from llmrec.models import TextTokenizer
from llmrec.prompting.context import Background
from llmrec.prompting.fields import Budget
from llmrec.prompting.render import PromptWriter
from llmrec.prompting.template import Template
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

ITEMS = (
    Item(
        "lamp",
        "Fernlight Camping Lantern",
        "A small lantern that folds flat and runs twenty hours on one charge.",
        {"kind": "lantern", "materials": ("steel", "canvas"), "weight_g": 240},
    ),
    Item(
        "stove",
        "Ember Two-Ring Stove",
        "Boils a litre in four minutes and packs into its own pot.",
        {"kind": "stove", "materials": ("aluminium",), "weight_g": 610},
    ),
    Item(
        "novel",
        "The Quiet Ferryman",
        "A ferryman on a northern river learns whom he carried across.",
        {"kind": "novel", "year": 2019},
    ),
    Item(
        "tent",
        "Larkspur Tent for Two",
        "Stands in three minutes and keeps out a night of rain.",
        {"kind": "tent", "materials": ("nylon",), "weight_g": 1900},
    ),
    Item(
        "rug",
        "Meadow Wool Rug",
        "Woven by hand, with a border of clover.",
        {"kind": "rug", "materials": ("wool",)},
    ),
    Item("bag", "Plain Bag"),
)
USER = User(
    "somebody",
    history=(
        Interaction("somebody", "novel", 2.0, 1),
        Interaction("somebody", "lamp", 5.0, 2),
        Interaction("somebody", "stove", 4.0, 3),
    ),
    profile={"age": "35 to 44", "likes": ("walking", "rivers")},
)
REVIEWS = {
    "tent": (Review("tent", "Dry inside after two days of rain.", 5.0, "another"),),
    "rug": (Review("rug", "Soft, but it sheds.", 3.0, "another"),),
}
INSIGHTS = {
    "tent": Insight(
        Caption("a green tent on a meadow", CaptionSource.MODEL),
        Caption("two people put up a tent", CaptionSource.MODEL),
        Opinion(
            12,
            0.75,
            ("Dry inside after two days of rain.",),
            ("The pegs bend on stony ground.",),
            (Aspect("weight", 5, 1), Aspect("pegs", 0, 3)),
            SentimentSource.MODEL,
        ),
        ("made by: Larkspur",),
    )
}
TASTE = Taste(favoured=(("materials", "steel"),), avoided=(("kind", "novel"),), friends=("rug",))
BACKGROUND = Background(
    lambda item_id: REVIEWS.get(item_id, ()),
    lambda item_id: INSIGHTS.get(item_id, Insight()),
    lambda user: TASTE if user.history else Taste(),
)
CANDIDATES = ITEMS[3:]
TITLES = tuple(item.title for item in ITEMS[:3])
"""What the user's history holds."""
NEWCOMER = User("newcomer")
_MANY_WORDS = " ".join(item.description for item in ITEMS) * 3
LONG_ITEM = Item("long", _MANY_WORDS, _MANY_WORDS, {"materials": _MANY_WORDS})
LONG_USER = User(
    "long",
    history=tuple(Interaction("long", "long", 4.0, time) for time in range(Budget().history_items)),
    profile={"likes": _MANY_WORDS},
)
EVIDENCE = (
    "Larkspur Tent for Two is a tent of 1900 g.",
    "The user rated Fernlight Camping Lantern 5.",
    'A reviewer wrote: "Dry inside after two days of rain."',
)
FAULT = "it named Alpine Tent, which the evidence does not hold"


class FourCharacters:
    """Stands in for a tokenizer where no model is at hand: a token is four characters."""

    special_tokens: tuple[str, ...] = ()

    def encode(self, text: str) -> Sequence[int]:
        """One number for each four characters begun."""
        return range((len(text) + 3) // 4)

    def cut(self, text: str, n_tokens: int) -> str:
        """The first four characters for each token."""
        return text[: 4 * n_tokens]


def example(template: Template, tokenizer: TextTokenizer | None = None) -> Prompt:
    """Render a template for a small made-up user, as ``llmrec prompts show`` prints it.

    Args:
        template: A loaded template.
        tokenizer: Of the model in mind; without one, a token is taken to be four characters.

    Raises:
        PromptError: The template reads what is not there.
    """
    candidates = CANDIDATES[:2] if template.strategy == "pairwise" else CANDIDATES
    return examples(template, tokenizer or FourCharacters(), candidates=candidates)[0]


def examples(
    template: Template,
    tokenizer: TextTokenizer,
    *,
    user: User = USER,
    candidates: Sequence[Item] = CANDIDATES,
    fault: str = "",
    labels: Sequence[str] = ascii_uppercase,
) -> tuple[Prompt, ...]:
    """Render a template for made-up candidates, once for each unless it reads ``items``.

    Raises:
        PromptError: The template reads what is not there.
    """
    writer = PromptWriter(
        template=template,
        user=user,
        items={item.item_id: item for item in (*ITEMS, LONG_ITEM)},
        tokenizer=tokenizer,
        evidence=EVIDENCE,
        fault=fault,
        background=BACKGROUND,
    )
    if "items" in template.variables:
        return writer.for_groups([candidates], labels[: len(candidates)]).prompts
    return writer.for_each(candidates).prompts


def without_history(template: Template, tokenizer: TextTokenizer) -> tuple[Prompt, ...]:
    """Render a template where no history is left to be cut: of plain fields, and of full budgets.

    Raises:
        PromptError: The template reads what is not there.
    """
    full = replace(LONG_USER, history=())
    return (
        *examples(template, tokenizer, user=NEWCOMER, fault=FAULT),
        *examples(template, tokenizer, user=full, candidates=(LONG_ITEM,), fault=_MANY_WORDS),
    )
