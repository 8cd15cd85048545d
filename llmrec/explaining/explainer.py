"""The explainer: writes explanations and checks them against their evidence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Protocol

from llmrec.catalog import liked, read_ids, read_user
from llmrec.errors import (
    OptionError,
    PromptError,
    PromptTooLongError,
    check_count,
    check_kind,
    not_allowed,
    one_of,
)
from llmrec.explaining.check import MAX_SENTENCES, check_text
from llmrec.explaining.claims import claims_of
from llmrec.explaining.entailment import Entailment
from llmrec.explaining.evidence import EvidenceLimits, gather_evidence
from llmrec.explaining.plain import BARE, plain_texts, unmoved_texts
from llmrec.explaining.rarity import Rarity
from llmrec.explaining.statements import ranked, spans_of, statements, words_of
from llmrec.explaining.subject import names_title
from llmrec.explaining.titles import Titles, cover, leaves_quote_open, sentence_ends
from llmrec.explaining.usable import UsableItems, shown_name, usable_fact, usable_profile
from llmrec.items.text_encoder import item_text
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
from llmrec.records import (
    Claim,
    Evidence,
    Explanation,
    Fault,
    Prompt,
    TextSource,
    Usage,
    User,
)
from llmrec.retrieval import Index

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)

TEXTS = ("statements", "template", "written")
"""How a text is made, the most to be trusted first."""
EXPLAIN = "explain"
"""The folder of templates for explanations."""
MAX_NEW_TOKENS = 64
"""Tokens of an answer: enough for two or three short sentences, since a half one is cut off."""

_LEAST_TOGETHER = 16
"""Prompts of one call at least; more where a model processes more tokens at once."""
_TOO_LONG = Fault("prompt", "its prompt does not fit the model")
_REVIEWS = 6
"""Review sentences among which statements are chosen."""
_GIVEN = 5
"""Facts that a model is given."""
_LOOKED_AT = 6
"""Facts that pass the check among which statements are chosen."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """An unfinished explanation; ``claims`` stay empty until a text passes the check.

    ``faults`` are those of texts, ``left_out`` those of facts.
    """

    user: User
    item_id: str
    name: str
    evidence: tuple[Evidence, ...]
    best: tuple[Evidence, ...]
    carried: Mapping[str, float] | None
    claims: tuple[Claim, ...] = ()
    source: TextSource = TextSource.TEMPLATE
    faults: tuple[Fault, ...] = ()
    left_out: tuple[Fault, ...] = ()
    usage: Usage = field(default_factory=Usage)

    @property
    def given(self) -> tuple[Evidence, ...]:
        """What a model is given: the title, and the facts that count most."""
        return (*self.evidence[:1], *self.best[:_GIVEN])

    def told(self, claims: Sequence[Claim]) -> tuple[Evidence, ...]:
        """The facts with a weight; without weights those that claims rest on."""
        units = {unit for claim in claims for unit in claim.units}
        return tuple(f for f in self.evidence if f.weight is not None or f.unit in units)


def check_text_options(text: str, template: str | Path | None) -> Template:
    """Check how a text is to be made, and load its template.

    Raises:
        OptionError: ``text`` is unknown, or a template is given for a text that no model writes.
        PromptError: The template cannot be used, or is a strategy's.
    """
    one_of("text", text, TEXTS)
    if template is not None and text != "written":
        raise OptionError(
            f"template={str(template)!r} is given, but text={text!r} uses no model.",
            hint="Give text='written' too (--text written).",
        )
    return explain_template_of(template or DEFAULT_TEMPLATES[EXPLAIN])


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


class Weighed(Protocol):
    """Evidence with weights, as `llmrec.reranking` finds it by removal."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """All facts, the title among them."""

    @property
    def noise(self) -> float:
        """How far the score moves with the wording alone."""

    @property
    def carried(self) -> Mapping[str, float]:
        """What the score consists of, by signal."""

    @property
    def usage(self) -> Usage:
        """Usage of the language model for the weights."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Known items to explain to a reader, and their weighed evidence by id, where there is some."""

    user: User
    item_ids: Sequence[str]
    weighed: Mapping[str, Weighed] = field(default_factory=dict)


class Explainer:
    """Explains items to users; every text is checked against its evidence before it is shown.

    Args:
        model: Writes the texts of ``text="written"``, greedily; else None will do.
        known: The facts: an index, or the `Context` of a request.
        text: ``statements`` quotes the facts that count most, ``template`` is one plain sentence of
            them, ``written`` lets the model write.
        template: Name or path of an ``explain`` template, for ``written`` alone; None takes
            ``explain/shopper``.
        budget: Tokens per field of the prompt.
        limits: How much evidence is gathered.
        seed: Random seed of the generation.
        entailment: A cross-encoder that must infer each claim from its evidence: a reference, or a
            loaded ``CrossEncoder``. None leaves this check out.

    Raises:
        OptionError: A value is not allowed, or the text needs a model and there is none.
        PromptError: The template cannot be used, or is a strategy's.
        ModelError: The cross-encoder cannot be used.
    """

    def __init__(
        self,
        model: LanguageModel | None,
        known: Index | Context,
        *,
        text: str = "statements",
        template: str | Path | None = None,
        budget: Budget | None = None,
        limits: EvidenceLimits | None = None,
        seed: int = 0,
        entailment: str | Path | CrossEncoder | Entailment | None = None,
    ) -> None:
        self.template = check_text_options(text, template)
        if (text == "written" or model is not None) and not hasattr(model, "generate"):
            raise not_allowed("model", model, "a LanguageModel", "Load it: llmrec.load_model(ref).")
        hint = "Open a folder with Index.open(INDEX)."
        check_kind("known", known, (Index, Context), "an Index or a Context", hint)
        self.text = text
        self.model = model
        self.context = context_of(known) if isinstance(known, Index) else known
        self.budget = check_budget(budget)
        hint = "Give llmrec.explaining.EvidenceLimits(...)."
        none_or = (EvidenceLimits, NoneType)
        limits = check_kind("limits", limits, none_or, "EvidenceLimits or None", hint)
        self.limits = limits or EvidenceLimits(reviews=_REVIEWS)
        self.seed = check_count("seed", seed, least=0)
        if entailment is not None and not isinstance(entailment, Entailment):
            entailment = Entailment(entailment)
        self.entailment = entailment

    def explain(
        self,
        user: str | int | User,
        item_ids: object,
        *,
        weighed: Mapping[str, Weighed] = MappingProxyType({}),
    ) -> tuple[Explanation, ...]:
        """Explain each item to a user, in one to three sentences.

        A text of the model that fails :func:`check_text` is rewritten once with its faults named.
        If that fails too, a template sentence replaces it. ``source`` names the result's origin,
        ``faults`` the reasons, and the facts that were left out.

        Args:
            user: The reader: a known user's id, or any `User`; without a history, the text is
                about the item alone.
            item_ids: Known items, each once: one id, or ids in any form of a list or column.
            weighed: Weighed evidence by item id. An item that has none gets the facts that fit the
                user best.

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
        return self.explain_many([Asked(user, ids, weighed)])[0]

    def explain_many(self, asked: Sequence[Asked]) -> list[tuple[Explanation, ...]]:
        """Explain items to many readers: first texts of the model together, then rewrites.

        See :meth:`explain`.
        """
        drafts = [
            self._draft(each.user, item_id, each.weighed.get(item_id))
            for each in asked
            for item_id in each.item_ids
        ]
        if self.text == "written":
            for source in (TextSource.MODEL, TextSource.REWRITTEN):
                drafts = self._written(drafts, source)
            plain = sum(not draft.claims for draft in drafts)
            if plain:
                logger.info("%d of %d explanations are template sentences.", plain, len(drafts))
        finished = map(self._finished, drafts)
        return [tuple(islice(finished, len(each.item_ids))) for each in asked]

    @cached_property
    def _titles(self) -> Titles:
        opinions = (self.context.insight(item_id).opinion for item_id in self.context.items)
        aspects = (aspect.name for each in opinions if each for aspect in each.aspects)
        return Titles(self.context.items, aspects)

    @cached_property
    def _rarity(self) -> Rarity:
        return Rarity.of(self.context.items.values())

    def _draft(self, user: User, item_id: str, weighed: Weighed | None) -> _Draft:
        found = (
            gather_evidence(self.context, user, item_id, limits=self.limits, rarity=self._rarity)
            if weighed is None
            else weighed.evidence
        )
        item = self.context.items[item_id]
        usable = [usable_fact(fact, item) for fact in found]
        left_out = [
            Fault("instruction", f"{fact.unit} reads like an instruction, and was left out")
            for fact, kept in zip(found, usable, strict=True)
            if kept is None
        ]
        evidence = tuple(fact for fact in usable if fact is not None)
        told = liked(user.history, user.neutral_rating)
        likes = [row.item_id for row, good in zip(user.history, told, strict=True) if good]
        best = ranked(
            evidence,
            words_of(user, self.context, likes),
            weighed.noise if weighed else 0.0,
        )
        return _Draft(
            user,
            item_id,
            shown_name(item),
            evidence,
            tuple(best),
            weighed.carried if weighed else None,
            left_out=tuple(left_out),
            usage=weighed.usage if weighed else Usage(),
        )

    def _finished(self, draft: _Draft) -> Explanation:
        item = self.context.items[draft.item_id]
        source, claims, faults = draft.source, draft.claims, (*draft.left_out, *draft.faults)
        if not claims and self.text == "statements" and draft.best:
            claims, refused = self._statements(draft)
            source, faults = TextSource.STATEMENTS, (*faults, *refused)
        if not claims:
            claims, refused = self._plain(draft)
            source, faults = TextSource.TEMPLATE, (*faults, *refused)
        shown = item_text(item)
        return Explanation(
            draft.user.user_id,
            draft.item_id,
            " ".join(claim.text for claim in claims),
            source,
            draft.evidence,
            tuple(dict.fromkeys(faults)),
            draft.usage,
            item.name,
            claims,
            shown,
            spans_of(item, shown, draft.told(claims)),
        )

    def _statements(self, draft: _Draft) -> tuple[tuple[Claim, ...], list[Fault]]:
        """The first statements that pass the check, and the faults of the others."""
        good, refused = [], []
        for fact in draft.best:
            (claim,) = statements(draft.name, [fact])
            faults = check_text(claim.text, draft.evidence, self._titles)
            faults += self._entailed((claim,), draft.evidence) if not faults else ()
            if faults:
                refused += [Fault(one.kind, f"{fact.unit}: {one.text}") for one in faults]
            else:
                good.append(fact)
            if len(good) == _LOOKED_AT:
                break
        return tuple(statements(draft.name, good)), refused

    def _plain(self, draft: _Draft) -> tuple[tuple[Claim, ...], list[Fault]]:
        """The first template sentence that passes the check, and the faults of those before it."""
        refused: list[Fault] = []
        measured = None if draft.best else draft.carried
        claims = (
            plain_texts(draft.name, draft.best)
            if measured is None
            else unmoved_texts(draft.name, draft.evidence, measured)
        )
        for claim in claims:
            faults = check_text(claim.text, draft.evidence, self._titles)
            if not faults and measured is None:  # no text entails what was measured
                faults = self._entailed((claim,), draft.evidence)
            if not faults:
                return (claim,), refused
            refused += faults
        return (Claim(BARE, ()),), refused

    def _entailed(
        self, claims: tuple[Claim, ...], evidence: tuple[Evidence, ...]
    ) -> tuple[Fault, ...]:
        return self.entailment.faults(claims, evidence) if self.entailment else ()

    def _written(self, drafts: list[_Draft], source: TextSource) -> list[_Draft]:
        """Let the model write the missing texts, as many in a call as it processes at once."""
        drafts, prompts = drafts.copy(), dict[int, Prompt]()
        for place, draft in enumerate(drafts):
            if draft.claims or _TOO_LONG in draft.faults:
                continue
            try:
                prompts[place] = self._prompt(draft)
            except PromptTooLongError:
                drafts[place] = replace(draft, faults=(*draft.faults, _TOO_LONG))
        places = list(prompts)
        size = max(_LEAST_TOGETHER, self._writer.max_rows // MAX_NEW_TOKENS)
        for some in (places[at : at + size] for at in range(0, len(places), size)):
            generated = self._writer.generate(
                [prompts[place] for place in some],
                max_new_tokens=MAX_NEW_TOKENS,
                temperature=0.0,
                seed=self.seed,
            )
            usages = _shares(generated.usage, len(some))
            for place, answer, usage in zip(some, generated.texts, usages, strict=True):
                judged = self._judged(drafts[place], answer, source, prompts[place])
                drafts[place] = replace(judged, usage=judged.usage + usage)
        return drafts

    @cached_property
    def _usable(self) -> Context:
        return replace(self.context, items=UsableItems(self.context.items))

    def _prompt(self, draft: _Draft) -> Prompt:
        context, user = self._usable, draft.user
        writer = PromptWriter(
            template=self.template,
            user=replace(user, profile=usable_profile(user.profile)),
            tokenizer=self._writer,
            budget=self.budget,
            evidence=[fact.text for fact in draft.given],
            fault="; ".join(dict.fromkeys(fault.text for fault in draft.faults)),
            context=context,
            fits=self._fit,
        )
        return writer.for_each([context.items[draft.item_id]]).prompts[0]

    @property
    def _writer(self) -> LanguageModel:
        if self.model is None:
            raise not_allowed("model", None, "a LanguageModel", "Load it: llmrec.load_model(ref).")
        return self.model

    def _fit(self, prompts: Sequence[Prompt]) -> bool:
        longest = max(self._writer.count_tokens(prompts))
        return longest + MAX_NEW_TOKENS <= self._writer.max_length

    def _judged(self, draft: _Draft, answer: str, source: TextSource, prompt: Prompt) -> _Draft:
        text = tidied(answer, self._titles)
        shown = prompt.text or f"{prompt.system}\n{prompt.user}"
        faults = check_text(text, draft.given, self._titles, prompt=shown)
        claims = claims_of(text, draft.given)
        faults += self._entailed(claims, draft.given) if not faults else ()
        if not faults and not names_title(text, draft.name, self._titles):
            first, *rest = claims
            claims = (Claim(f"{draft.name}: {first.text}", first.units), *rest)
            named = " ".join(claim.text for claim in claims)
            faults = check_text(named, draft.given, self._titles)
        if faults:
            return replace(draft, faults=tuple(dict.fromkeys((*draft.faults, *faults))))
        return replace(draft, claims=claims, source=source)


def tidied(answer: str, titles: Titles) -> str:
    """Trim a model's answer before the check.

    Surrounding white space, a half sentence at the end and everything after the third sentence or
    the first paragraph are cut. An answer without a whole sentence stays as it is, but one that
    ends with a title in quotation marks gets its full stop.
    """
    text, *_ = answer.strip().split("\n\n", 1)
    ends = sentence_ends(cover(text, titles.find(text)))[:MAX_SENTENCES]
    closed = text.endswith(('"', "”", "»")) and not leaves_quote_open(text)
    if closed and not ends and "\n" not in text:
        return f"{text}."
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
