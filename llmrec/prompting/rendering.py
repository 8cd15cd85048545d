"""From a template and a user to the prompts that a language model reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from llmrec.catalog import liked
from llmrec.errors import PromptError, PromptTooLongError, UnknownItemError, nearest
from llmrec.prompting import sandbox
from llmrec.prompting.background import Background
from llmrec.prompting.budget import Budget, TextTokenizer, field_text
from llmrec.prompting.neutralise import contains_token
from llmrec.prompting.prompt import Prompt, Rendered
from llmrec.prompting.shown import ShownHistoryItem, ShownItem, ShownUser
from llmrec.prompting.templates import Template
from llmrec.records import Item, Review, User

_WHEN = {
    "item": "`item` is there where a template is asked once for each candidate.",
    "items": "`items` is there where a template is asked once for all candidates.",
}


def render_prompts(
    template: Template,
    *,
    user: User,
    items: Mapping[str, Item],
    candidates: Sequence[Item],
    tokenizer: TextTokenizer,
    budget: Budget = Budget(),  # noqa: B008  # frozen
    evidence: Sequence[str] = (),
    fault: str = "",
    per_candidate: bool = True,
    background: Background = Background(),  # noqa: B008  # frozen
    fits: Callable[[Prompt], bool] = lambda _: True,
) -> Rendered:
    """Render the prompts of one user.

    All of them keep the same history, so that they begin alike: the oldest items are dropped until
    the longest prompt fits.

    Args:
        template: A loaded template.
        user: Whose history and profile to show.
        items: The catalogue, which holds every item of the history.
        candidates: What is to be judged. Without any, one prompt without ``item`` is rendered.
        tokenizer: Of the model that will read the prompts.
        budget: Tokens a field, and the number of history items.
        evidence: For explanations.
        fault: For a rewrite: what was wrong with the text before.
        per_candidate: One prompt a candidate, which the template sees as ``item``; else one prompt
            with all of them as ``items``.
        background: What else may be said of items and the user. Reviews that the user wrote are
            never shown.
        fits: Whether the model can read a prompt. A shorter history must not make it longer.

    Raises:
        PromptError: The template reads what is not there, or writes a chat-template token.
        PromptTooLongError: A prompt does not even fit without any history.
        UnknownItemError: An item of the history is not in ``items``.
    """
    given = user.history[max(0, len(user.history) - budget.history_items) :]
    opinions = liked(user.history)[len(user.history) - len(given) :]
    history = tuple(
        ShownHistoryItem(
            ShownItem(_known_item(row.item_id, items), tokenizer, budget), row.rating, liked=opinion
        )
        for row, opinion in zip(given, opinions, strict=True)
    )
    common: dict[str, object] = {
        "user": ShownUser(user, tokenizer, budget, taste=background.taste, items=items),
        "evidence": tuple(field_text(text, budget.evidence, tokenizer) for text in evidence),
        "fault": field_text(fault, budget.evidence, tokenizer),
    }
    shown = tuple(
        ShownItem(
            item,
            tokenizer,
            budget,
            _by_others(background.reviews(item.item_id), user),
            background.insight(item.item_id),
        )
        for item in candidates
    )
    asked: list[dict[str, object]] = [common]
    if not per_candidate:
        asked = [common | {"items": shown}]
    elif shown:
        asked = [common | {"item": item} for item in shown]
    _check_variables(template, asked[0])

    @cache
    def prompt(number: int, kept: int) -> Prompt:
        recent = history[len(history) - kept :]
        return _render(template, asked[number] | {"history": recent}, tokenizer)

    kept = len(history)
    for number in range(len(asked)):
        kept = _longest_history(partial(prompt, number), fits, kept)
        if kept < 0:
            which = f" for {candidates[number].name!r}" if "item" in asked[number] else ""
            raise PromptTooLongError(
                f"The prompt of template {template.name}{which} does not fit the model, "
                "not even without any history.",
                hint="Give the fields a smaller Budget or take a shorter template.",
            )
    return Rendered(
        prompts=tuple(prompt(number, kept) for number in range(len(asked))),
        history_given=len(history),
        history_kept=kept,
    )


def _longest_history(
    prompt: Callable[[int], Prompt], fits: Callable[[Prompt], bool], most: int
) -> int:
    """The largest number of history items up to ``most`` with which a prompt fits, else -1."""
    if fits(prompt(most)):
        return most
    fitting, too_long = -1, most
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        if fits(prompt(middle)):
            fitting = middle
        else:
            too_long = middle
    return fitting


def _render(
    template: Template, variables: Mapping[str, object], tokenizer: TextTokenizer
) -> Prompt:
    code = sandbox.compiled(template.source, str(template.path))
    texts = {
        block: sandbox.render_block(code, block, variables, name=template.name)
        for block in template.blocks
    }
    for block, text in texts.items():
        # Fields are harmless by now: a token that is still there was written into the template.
        if token := contains_token(text, tokenizer.special_tokens):
            raise PromptError(
                f"Template {template.name}, block {block}: it writes the chat-template token "
                f"{token!r}.",
                hint="Write the messages only: the model's chat template adds roles and tokens.",
            )
    return Prompt(texts.get("system", ""), texts.get("user", ""), texts.get("text"))


def _check_variables(template: Template, given: Mapping[str, object]) -> None:
    available = {*given, "history"}
    for name in sorted(template.variables - available):
        raise PromptError(
            f"Template {template.name} reads {name!r}, which is not there when it is used in this "
            f"way; there are {', '.join(sorted(available))}.",
            hint=_WHEN.get(name, ""),
        )


def _known_item(item_id: str, items: Mapping[str, Item]) -> Item:
    if item_id not in items:
        raise UnknownItemError(
            f"The history holds item {item_id!r}, which the catalogue does not.",
            hint=nearest(item_id, items),
        )
    return items[item_id]


def _by_others(reviews: Sequence[Review], user: User) -> tuple[Review, ...]:
    """Reviews without the user's own: what they wrote about a candidate gives the answer away."""
    return tuple(review for review in reviews if review.user_id != user.user_id)
