"""Render prompts from a template, a user and candidates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from llmrec.catalog import liked
from llmrec.errors import PromptError, PromptTooLongError, UnknownItemError, nearest
from llmrec.models import TextTokenizer
from llmrec.prompting.context import Context
from llmrec.prompting.fields import Budget, Shown, field_text, shown_item, shown_past, shown_user
from llmrec.prompting.neutralise import contains_token
from llmrec.prompting.sandbox import render_block
from llmrec.prompting.template import Template
from llmrec.records import Item, Prompt, User

_WHEN = {
    "item": "`item` exists in templates that are rendered once for each candidate.",
    "items": "`items` exists in templates that are rendered once for several candidates.",
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompts of one user, all with the same history.

    ``history_given`` counts the items that the budget allows, ``history_kept`` those (the most
    recent) that are in the prompts: fewer if a prompt was too long for the model.
    """

    prompts: tuple[Prompt, ...]
    history_given: int
    history_kept: int

    @property
    def fallbacks(self) -> Mapping[str, int]:
        """The number of history items that did not fit, if any, for a ranking's fallbacks."""
        dropped = self.history_given - self.history_kept
        return {"history_shortened": dropped} if dropped else {}


@dataclass(frozen=True, kw_only=True)
class PromptWriter:
    """Writes the prompts of one user, of as many candidates at a time as a template shows.

    Prompts that are written together keep the same history, so that they begin alike: the oldest
    items are dropped until the longest prompt fits.

    Args:
        template: A loaded template.
        user: Whose history and profile to show.
        tokenizer: Of the model that will read the prompts.
        budget: Tokens per field, and the number of history items.
        context: Data of items and users; holds every item of the history. The user's own reviews
            are never shown.
        evidence: For explanations.
        fault: For a rewrite: the faults of the first text.
        fits: Whether the model can read all of some prompts. A shorter history must not make them
            longer.
    """

    template: Template
    user: User
    tokenizer: TextTokenizer
    budget: Budget = field(default_factory=Budget)
    context: Context = field(default_factory=Context)
    evidence: Sequence[str] = ()
    fault: str = ""
    fits: Callable[[Sequence[Prompt]], bool] = lambda _: True

    def without_candidate(self) -> Rendered:
        """One prompt that names no candidate.

        Raises:
            PromptError: The template reads what is not there, or writes a chat-template token.
            PromptTooLongError: A prompt does not even fit without any history.
            UnknownItemError: An item of the history is not in the context.
        """
        return self._write([{}], [""])

    def for_each(self, candidates: Sequence[Item]) -> Rendered:
        """One prompt per candidate, which the template sees as ``item``; raises the same."""
        shown: list[dict[str, object]] = [{"item": self._shown(item, "")} for item in candidates]
        return self._write(shown, [item.name for item in candidates])

    def for_groups(
        self, groups: Sequence[Sequence[Item]], labels: Sequence[str] | None = None
    ) -> Rendered:
        """One prompt per group, which the template sees as ``items``; raises the same.

        Args:
            groups: Each at most as long as ``labels``.
            labels: ``items[i].label``; None leaves the labels empty.
        """
        shown: list[dict[str, object]] = [
            {
                "items": tuple(
                    self._shown(item, labels[place] if labels else "")
                    for place, item in enumerate(group)
                )
            }
            for group in groups
        ]
        return self._write(shown, [", ".join(item.name for item in group) for group in groups])

    def _known_item(self, item_id: str) -> Item:
        if item_id not in self.context.items:
            raise UnknownItemError(
                f"The history has item {item_id!r}, which the catalogue lacks.",
                hint=nearest(item_id, self.context.items),
            )
        return self.context.items[item_id]

    @cached_property
    def _history(self) -> tuple[Shown, ...]:
        rows = self.user.history
        given = rows[max(0, len(rows) - self.budget.history_items) :]
        opinions = liked(rows, self.user.neutral_rating)[len(rows) - len(given) :]
        return tuple(
            shown_past(
                shown_item(self._known_item(row.item_id), self.tokenizer, self.budget),
                row.rating,
                liked=opinion,
            )
            for row, opinion in zip(given, opinions, strict=True)
        )

    @cached_property
    def _common(self) -> dict[str, object]:
        def short(text: str) -> str:
            return field_text(text, self.budget.evidence, self.tokenizer)

        shown = shown_user(
            self.user,
            self.tokenizer,
            self.budget,
            taste=self.context.taste,
            items=self.context.items,
        )
        evidence = tuple(short(text) for text in self.evidence)
        return {"user": shown, "evidence": evidence, "fault": short(self.fault)}

    @cached_property
    def _shown_items(self) -> dict[tuple[str, str], Shown]:
        return {}

    def _shown(self, item: Item, label: str) -> Shown:
        # Kept, so that a candidate of many comparisons is cut to its budgets once a label.
        key = (item.item_id, label)
        if key not in self._shown_items:
            reviews = self.context.reviews(item.item_id)
            self._shown_items[key] = shown_item(
                item,
                self.tokenizer,
                self.budget,
                # The user's own review of a candidate would give the answer away.
                [review for review in reviews if review.user_id != self.user.user_id],
                self.context.insight(item.item_id),
                label,
            )
        return self._shown_items[key]

    def _write(self, asked: Sequence[dict[str, object]], names: Sequence[str]) -> Rendered:
        history = self._history
        if not asked:
            return Rendered((), len(history), len(history))
        available = {"history", *self._common, *asked[0]}
        for name in sorted(self.template.variables - available):
            raise PromptError(
                f"Template {self.template.name} reads {name!r}, which does not exist here; there "
                f"are {', '.join(sorted(available))}.",
                hint=_WHEN.get(name, ""),
            )

        @cache
        def prompts(kept: int) -> tuple[Prompt, ...]:
            common = self._common | {"history": history[len(history) - kept :]}
            return tuple(_render(self.template, common | one, self.tokenizer) for one in asked)

        kept = len(history)
        if not self.fits(prompts(kept)):
            kept = bisect_left(range(kept), True, key=lambda n: not self.fits(prompts(n))) - 1
        if kept < 0:
            name = next(n for n, p in zip(names, prompts(0), strict=True) if not self.fits([p]))
            raise PromptTooLongError(
                f"The prompt of template {self.template.name}{f' for {name!r}' if name else ''} "
                "does not fit the model, not even without any history.",
                hint="Give the fields a smaller Budget or take a shorter template.",
            )
        return Rendered(prompts(kept), history_given=len(history), history_kept=kept)


def _render(
    template: Template, variables: Mapping[str, object], tokenizer: TextTokenizer
) -> Prompt:
    texts = {
        block: render_block(template.source, block, variables, name=template.name)
        for block in template.blocks
    }
    for block, text in texts.items():
        # Fields are neutralised: a token that is still there was written into the template.
        if token := contains_token(text, tokenizer.special_tokens):
            raise PromptError(
                f"Template {template.name}, block {block}: it writes the chat-template token "
                f"{token!r}.",
                hint="Write the messages only: the model's chat template adds roles and tokens.",
            )
    return Prompt(texts.get("system", ""), texts.get("user", ""), texts.get("text"))
