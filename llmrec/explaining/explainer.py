"""The explainer: writes explanations and checks them against their evidence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import NoneType

from llmrec.catalog import read_ids, read_user
from llmrec.errors import (
    OptionError,
    PromptError,
    PromptTooLongError,
    check_count,
    check_kind,
    not_allowed,
)
from llmrec.explaining.check import MAX_SENTENCES, check_text
from llmrec.explaining.evidence import EvidenceLimits, gather_evidence
from llmrec.explaining.plain import BARE, plain_texts
from llmrec.explaining.rarity import Rarity
from llmrec.explaining.titles import Titles, cover, sentence_ends
from llmrec.models import LanguageModel
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Budget,
    Context,
    PromptWriter,
    Template,
    check_budget,
    context_of,
    load_template,
)
from llmrec.records import Evidence, Explanation, Prompt, TextSource, Usage, User
from llmrec.retrieval import Index

logger = logging.getLogger(__name__)

EXPLAIN = "explain"
"""The folder of templates for explanations."""
MAX_NEW_TOKENS = 64
"""Tokens of an answer: enough for two or three short sentences, since a half one is cut off."""

_TOO_LONG = "its prompt does not fit the model"


@dataclass(frozen=True, slots=True)
class _Draft:
    """An unfinished explanation; ``text`` stays empty until one passes the check."""

    item_id: str
    evidence: tuple[Evidence, ...]
    text: str = ""
    source: TextSource = TextSource.EVIDENCE
    faults: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)


def explain_template_of(name: str | Path) -> Template:
    """Load a template of explanations.

    Raises:
        PromptError: It cannot be used, or is a strategy's.
    """
    template = load_template(name)
    if template.strategy in DEFAULT_TEMPLATES.keys() - {EXPLAIN}:
        raise PromptError(
            f"Template {template.name} is for the strategy {template.strategy}, "
            "not for explanations.",
            hint="Take one under explain/.",
        )
    return template


class Explainer:
    """Explains items to users with a language model; every text is checked against evidence.

    Args:
        model: Writes the texts, greedily.
        known: The facts: an index, or the `Context` of a request.
        template: Name or path of an ``explain`` template.
        budget: Tokens per field of the prompt.
        limits: How much evidence is gathered.
        seed: Random seed of the generation.

    Raises:
        PromptError: The template cannot be used, or is a strategy's.
    """

    def __init__(
        self,
        model: LanguageModel,
        known: Index | Context,
        *,
        template: str | Path = "explain/plain",
        budget: Budget | None = None,
        limits: EvidenceLimits | None = None,
        seed: int = 0,
    ) -> None:
        if not hasattr(model, "generate"):
            raise not_allowed("model", model, "a LanguageModel", "Load it: llmrec.load_model(ref).")
        hint = "Open a folder with Index.open(INDEX)."
        check_kind("known", known, (Index, Context), "an Index or a Context", hint)
        self.model = model
        self.context = context_of(known) if isinstance(known, Index) else known
        self.template = explain_template_of(template)
        self.budget = check_budget(budget)
        hint = "Give llmrec.explaining.EvidenceLimits(...)."
        none_or = (EvidenceLimits, NoneType)
        limits = check_kind("limits", limits, none_or, "EvidenceLimits or None", hint)
        self.limits = limits or EvidenceLimits()
        self.seed = check_count("seed", seed, least=0)

    def explain(self, user: str | int | User, item_ids: object) -> tuple[Explanation, ...]:
        """Explain each item to a user, in one to three sentences.

        All texts are written in one batch. A text that fails :func:`check_text` is rewritten once
        with its faults named, in a second batch. If that fails too, template sentences from the
        evidence replace it. ``source`` names the result's origin, ``faults`` the reasons.

        Args:
            user: The reader: a known user's id, or any `User`; without a history, the text is
                about the item alone.
            item_ids: Known items, each once: one id, or ids in any form of a list or column.

        Returns:
            One explanation per item, in the given order. A batch's usage is divided among its
            items, so the usages add up to the total.

        Raises:
            OptionError: No item is given, or one twice.
            UnknownItemError: An item is unknown, or one of the history.
        """
        ids = read_ids(item_ids, where="item_ids")
        user = read_user(user, self.context.user, self.context.neutral_rating)
        _check_ids(ids)
        drafts = [_Draft(item_id, self._evidence(user, item_id)) for item_id in ids]
        for source in (TextSource.MODEL, TextSource.REWRITTEN):
            drafts = self._written(user, drafts, source)
        plain = sum(not draft.text for draft in drafts)
        if plain:
            logger.info("%d of %d explanations are plain sentences.", plain, len(drafts))
        return tuple(
            Explanation(
                user.user_id,
                draft.item_id,
                draft.text or self._plain_text(draft.evidence),
                draft.source,
                draft.evidence,
                draft.faults,
                draft.usage,
                self.context.items[draft.item_id].name,
            )
            for draft in drafts
        )

    @cached_property
    def _titles(self) -> Titles:
        return Titles(self.context.items)

    @cached_property
    def _rarity(self) -> Rarity:
        return Rarity.of(self.context.items.values())

    def _evidence(self, user: User, item_id: str) -> tuple[Evidence, ...]:
        return gather_evidence(self.context, user, item_id, limits=self.limits, rarity=self._rarity)

    def _written(self, user: User, drafts: list[_Draft], source: TextSource) -> list[_Draft]:
        """Let the model write the missing texts, in one batch."""
        prompts: dict[str, Prompt] = {}
        done: dict[str, _Draft] = {}
        for draft in drafts:
            if draft.text or _TOO_LONG in draft.faults:
                continue
            try:
                prompts[draft.item_id] = self._prompt(user, draft)
            except PromptTooLongError:
                done[draft.item_id] = replace(draft, faults=(*draft.faults, _TOO_LONG))
        if prompts:
            asked = [draft for draft in drafts if draft.item_id in prompts]
            generated = self.model.generate(
                list(prompts.values()),
                max_new_tokens=MAX_NEW_TOKENS,
                temperature=0.0,
                seed=self.seed,
            )
            usages = _shares(generated.usage, len(asked))
            for draft, answer, usage in zip(asked, generated.texts, usages, strict=True):
                judged = self._judged(draft, answer, source, prompts[draft.item_id])
                done[draft.item_id] = replace(judged, usage=draft.usage + usage)
        return [done.get(draft.item_id, draft) for draft in drafts]

    def _prompt(self, user: User, draft: _Draft) -> Prompt:
        writer = PromptWriter(
            template=self.template,
            user=user,
            tokenizer=self.model,
            budget=self.budget,
            evidence=[fact.text for fact in draft.evidence],
            fault="; ".join(draft.faults),
            context=self.context,
            fits=self._fits,
        )
        return writer.for_each([self.context.items[draft.item_id]]).prompts[0]

    def _fits(self, prompt: Prompt) -> bool:
        return self.model.count_tokens(prompt) + MAX_NEW_TOKENS <= self.model.max_length

    def _judged(self, draft: _Draft, answer: str, source: TextSource, prompt: Prompt) -> _Draft:
        text = tidied(answer, self._titles)
        shown = prompt.text or f"{prompt.system}\n{prompt.user}"
        faults = check_text(text, draft.evidence, self._titles, prompt=shown)
        if faults:
            return replace(draft, faults=tuple(dict.fromkeys((*draft.faults, *faults))))
        return replace(draft, text=text, source=source)

    def _plain_text(self, evidence: tuple[Evidence, ...]) -> str:
        texts = plain_texts(evidence)
        return next((t for t in texts if not check_text(t, evidence, self._titles)), BARE)


def tidied(answer: str, titles: Titles) -> str:
    """Trim a model's answer before the check.

    Surrounding white space, a half sentence at the end and everything after the third sentence are
    cut. An answer without a whole sentence stays as it is.
    """
    text = answer.strip()
    ends = sentence_ends(cover(text, titles.find(text)))[:MAX_SENTENCES]
    return text[: ends[-1]] if ends else text


def _check_ids(item_ids: Sequence[str]) -> None:
    if not item_ids:
        raise OptionError("There is no item to explain.", hint="Give one id or more.")
    twice = [item_id for at, item_id in enumerate(item_ids) if item_id in item_ids[:at]]
    if twice:
        raise OptionError(f"Item {twice[0]!r} is given twice.", hint="Give each id once.")


def _shares(usage: Usage, n: int) -> list[Usage]:
    """Split a batch's usage as evenly as whole tokens allow; the parts add up to it."""

    def share(total: int, at: int) -> int:
        return total // n + (at < total % n)

    return [
        Usage(
            share(usage.tokens_given, at),
            share(usage.tokens_forwarded, at),
            share(usage.tokens_generated, at),
            share(usage.forwards, at),
            usage.seconds / n,
            prompts=1,
        )
        for at in range(n)
    ]
