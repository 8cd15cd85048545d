"""From an index and a user to a list: retrieve, rerank, explain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import isnan
from pathlib import Path

from llmrec.catalog import read_ids, read_user
from llmrec.errors import ModelError, OptionError, check_count, check_flag, check_kind
from llmrec.explaining import Explainer
from llmrec.explaining.explainer import check_text_options
from llmrec.items import TextEncoder
from llmrec.models import LanguageModel, load_model
from llmrec.models.references import identity_of
from llmrec.prompting import Budget, Context, context_of
from llmrec.records import Explanation, RankedItem, Ranking, Usage, User
from llmrec.reranking import Request, Reranker, Strategy, make_request, retrieval_ranking
from llmrec.reranking.contrast import ItemContrast, contrast
from llmrec.reranking.fitting import hold_out_last, judged_lists
from llmrec.reranking.gate import Gate, catalogue_scale
from llmrec.reranking.gate_fit import GateFit, check_enough, fit_gate
from llmrec.reranking.removal import PAIRED, Reasons, find_reasons
from llmrec.reranking.requests import Given, each_request
from llmrec.reranking.reranker import check_model, tuned_strategies, weights_key
from llmrec.retrieval import (
    Filter,
    Index,
    Retriever,
    Rules,
    read_filters,
)

logger = logging.getLogger(__name__)

N_CANDIDATES = 100
"""Default number of candidates to retrieve and rerank."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A user's ranked items and their explanations.

    Attributes:
        ranking: All candidates, best first.
        k: Number of recommended items.
        explanations: One for each of the best ``k``; empty unless requested.
        fitted: Whether the gate was fitted for these strategies and this model.
        notes: Warnings for the reader, for example that the user has no history.
    """

    ranking: Ranking
    k: int
    explanations: tuple[Explanation, ...] = ()
    fitted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[RankedItem, ...]:
        """The best ``k`` rows."""
        return self.ranking.items[: self.k]

    @property
    def usage(self) -> Usage:
        """Usage of the language model, for ranking and explaining together."""
        total = self.ranking.usage
        for explanation in self.explanations:
            total += explanation.usage
        return total


class Recommender:
    """Recommends items from an index.

    Args:
        index: The items, users and interactions.
        model: A reference to a language model, a loaded model, or a function that loads one at
            first use. None keeps the retriever's order.
        strategy: How the model ranks; see `Reranker`.
        template: A template of that strategy, by name or path.
        explain_text: ``statements``, ``template`` or ``written``; see `Explainer`.
        explain_template: The explanation template, for ``written``.
        rules: A `Rules` record or a TOML file: what to keep, drop, boost and cap.
        quantization: ``none``, ``nf4`` or ``int8``; for a model given by reference.
        device: Device of a model given by reference; None takes the fastest available.
        adapter: Folder of tuned weights for a model given by reference.

    Raises:
        OptionError: A value is not allowed.
        PromptError: A template cannot be used.
    """

    def __init__(
        self,
        index: Index,
        *,
        model: str | LanguageModel | Callable[[], LanguageModel] | None = None,
        strategy: str | Strategy | Sequence[str | Strategy] = "likelihood",
        template: str | None = None,
        explain_text: str = "statements",
        explain_template: str | Path | None = None,
        rules: Rules | str | Path | None = None,
        quantization: str = "none",
        device: str | None = None,
        adapter: str | Path | None = None,
    ) -> None:
        hint = "Open a folder with Recommender.open(INDEX, model=...)."
        self.index = check_kind("index", index, Index, "an Index", hint)
        if model is not None and not callable(model):
            model = check_model(model, quantization, device, adapter)
        self.rules = None if rules is None else _rules(rules)
        self._strategies = tuned_strategies(strategy, template, adapter)
        check_text_options(explain_text, explain_template)  # fails before a model is loaded
        self._explain_text = explain_text
        self._explain_template = explain_template
        self._model = model
        self._quantization, self._device, self._adapter = quantization, device, adapter

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        model: str | LanguageModel | Callable[[], LanguageModel] | None = None,
        strategy: str | Strategy | Sequence[str | Strategy] = "likelihood",
        template: str | None = None,
        explain_text: str = "statements",
        explain_template: str | Path | None = None,
        rules: Rules | str | Path | None = None,
        quantization: str = "none",
        device: str | None = None,
        adapter: str | Path | None = None,
    ) -> Recommender:
        """Open an index that `Index.save` or ``llmrec index`` wrote. The model loads at first use.

        Args:
            folder: The index.
            model: See `Recommender`, as for all other arguments.
            strategy: How the model ranks.
            template: A template of that strategy.
            explain_text: ``statements``, ``template`` or ``written``.
            explain_template: The explanation template, for ``written``.
            rules: What to keep, drop, boost and cap.
            quantization: For a model given by reference.
            device: For a model given by reference.
            adapter: For a model given by reference.

        Raises:
            StorageError: There is no index, or it is damaged.
            OptionError: A value is not allowed.
            PromptError: A template cannot be used.
        """
        return cls(
            Index.open(folder),
            model=model,
            strategy=strategy,
            template=template,
            explain_text=explain_text,
            explain_template=explain_template,
            rules=rules,
            quantization=quantization,
            device=device,
            adapter=adapter,
        )

    @cached_property
    def model(self) -> LanguageModel | None:
        """The language model, loaded at first use; None without a model.

        Raises:
            ModelError: It cannot be loaded.
        """
        if isinstance(self._model, str):
            return load_model(
                self._model,
                quantization=self._quantization,
                device=self._device,
                adapter=self._adapter,
            )
        return self._model() if callable(self._model) else self._model

    @cached_property
    def reranker(self) -> Reranker:
        """The reranker that uses the model.

        Raises:
            OptionError: No model was given.
            ModelError: The model cannot be loaded.
        """
        return Reranker(self._required_model, self.index, strategy=self._strategies)

    @cached_property
    def explainer(self) -> Explainer:
        """The explainer; it uses the model, and raises its errors, only for written texts."""
        return self._explainer_of(self.context)

    def _explainer_of(self, context: Context) -> Explainer:
        return Explainer(
            self._required_model if self._explain_text == "written" else None,
            context,
            text=self._explain_text,
            template=self._explain_template,
        )

    @property
    def _required_model(self) -> LanguageModel:
        if self.model is None:
            raise OptionError(
                "This recommender has no language model.",
                hint='Give one, such as model="HuggingFaceTB/SmolLM2-135M-Instruct".',
            )
        return self.model

    @cached_property
    def context(self) -> Context:
        """Items, users and reviews of the index, as prompts read them."""
        return context_of(self.index)

    def recommend(
        self,
        user: str | int | User,
        k: int = 10,
        *,
        n_candidates: int | None = None,
        explain: bool = False,
        filters: str | Filter | Iterable[str | Filter] | None = None,
        rules: Rules | str | Path | None = None,
        include_seen: bool = False,
        always_ask: bool = False,
    ) -> Recommendation:
        """Retrieve candidates, rerank them with the model, and explain the best.

        A user without history gets items by profile if there is one, else by popularity; ``notes``
        reports it.

        Args:
            user: A user id of the index, or any `User`.
            k: Number of items to recommend.
            n_candidates: Number of candidates to retrieve and rerank, at least ``k``; None takes
                100, or ``k`` where that is more.
            explain: Explain the best ``k``.
            filters: Conditions that must all hold, such as ``"year>=1990"``.
            rules: Rules for this call instead of the recommender's.
            include_seen: Whether to recommend items of the history too.
            always_ask: Ask the model even if the gate that `fit` found does without it. By default
                it is then neither loaded nor asked, as it changes no order; ``notes`` reports it.

        Raises:
            UnknownUserError: The index does not know the user.
            UnknownItemError: The history holds an unknown item.
            OptionError: A number or filter is not allowed, or written explanations lack a model.
            ModelError: The model cannot be loaded or cannot score.
        """
        k = check_count("k", k)
        n_candidates = max(k, N_CANDIDATES) if n_candidates is None else n_candidates
        if check_count("n_candidates", n_candidates) < k:
            raise OptionError(
                f"n_candidates is {n_candidates}, fewer than k, which is {k}.",
                hint=f"Give n_candidates from {k} on, or a smaller k.",
            )
        check_flag("explain", explain)
        if explain and self._explain_text == "written" and self._model is None:
            raise OptionError(
                "explain_text='written' needs a language model.",
                hint="Make the Recommender with model=..., or with explain_text='statements'.",
            )
        conditions = read_filters(filters)
        person = read_user(user, self.context.user, self.context.neutral_rating)
        retriever, note = self._retriever_for(person, None if rules is None else _rules(rules))
        retrieved = retriever.retrieve(
            person, n_candidates, filters=conditions, include_seen=include_seen
        )
        notes = [note] if note else []
        if not retrieved:
            notes.append("No item is left: loosen the filters or rules, or include seen items.")
            empty = Ranking(person.user_id, ())
            return Recommendation(empty, k, notes=tuple(notes))
        request = Request(person, retrieved, self.context)
        ask = self._model is not None and not always_ask
        if ask and (gate := self._gate_without_model()):
            notes.append(
                "The language model was not asked: the fitted gate does without it "
                "(always_ask=True or --always-ask asks it)."
            )
            ranking = retrieval_ranking(request, gate)
            explained = self._explained(request, ranking, k) if explain else ()
            return Recommendation(ranking, k, explained, fitted=True, notes=tuple(notes))
        return self._recommended(request, k, explain, notes)

    def rerank(
        self,
        user: str | int | User,
        candidates: object,
        *,
        history: object = None,
        explain: bool = False,
    ) -> Recommendation:
        """Rerank your own candidates; the retriever scores them if you give no scores.

        Args:
            user: A user id of the index, or any `User`.
            candidates: In any form that `Reranker.rank` takes.
            history: Replaces the user's history in the index.
            explain: Explain all of them.

        Raises:
            See :meth:`recommend`.
        """
        request = make_request(candidates, history=history, user=user, known=self.context)
        request, note = self.scored(request)
        seen = {row.item_id for row in request.user.history}
        again = sorted(seen & {candidate.item_id for candidate in request.candidates})
        notes = [note] if note else []
        if again:
            notes.append(f"Already in the user's history: {', '.join(again)}.")
        return self._recommended(request, len(request.candidates), explain, notes)

    def rank_many(self, requests: Iterable[Given]) -> list[Ranking]:
        """Rerank for many users; the retriever scores candidates without scores."""
        read = each_request(requests, self.context)
        scored = [self.scored(request)[0] for request in read]
        if self._model is None:
            return [retrieval_ranking(request) for request in scored]
        return self.reranker.rank_many(scored)

    def explain(
        self, user: str | int | User, item_ids: object, *, weigh: bool = False
    ) -> tuple[Explanation, ...]:
        """Explain items to a user; see `Explainer.explain`.

        ``weigh`` orders the evidence by what moves the score (:meth:`reasons`), else by its fit.
        """
        check_flag("weigh", weigh)
        found = self.reasons(user, item_ids, pairs=0) if weigh else ()
        weighed = {reasons.item_id: reasons for reasons in found}
        return self.explainer.explain(user, item_ids, weighed=weighed)

    def reasons(
        self, user: str | int | User, item_ids: object, *, pairs: int = PAIRED
    ) -> tuple[Reasons, ...]:
        """Weigh the evidence for items among a user's candidates; see `find_reasons`."""
        ids = read_ids(item_ids, where="item_ids")
        request, retriever = self._listed(user, ids)
        return find_reasons(self.reranker, request, ids, retriever=retriever, pairs=pairs)

    def contrast(
        self, user: str | int | User, item_id: str, against: str, *, k: int = 10
    ) -> ItemContrast:
        """Compare two items among a user's candidates; see `llmrec.reranking.contrast`."""
        request, retriever = self._listed(user, (item_id, against), check_count("k", k))
        return contrast(self.reranker, request, item_id, against, k=k, retriever=retriever)

    def _listed(
        self, user: str | int | User, item_ids: Sequence[str], k: int = N_CANDIDATES
    ) -> tuple[Request, Retriever]:
        """A user's candidates with these among them, and what retrieved them."""
        person = read_user(user, self.context.user, self.context.neutral_rating)
        retriever, _ = self._retriever_for(person)
        found = retriever.retrieve(person, max(k, N_CANDIDATES))
        listed = dict.fromkeys([*(each.item_id for each in found), *item_ids])
        return Request(person, retriever.candidates(person, [*listed]), self.context), retriever

    def fit(
        self,
        *,
        users: int = 200,
        n_candidates: int = 100,
        seed: int = 0,
        progress: bool = False,
    ) -> tuple[GateFit, int]:
        """Fit a gate on each user's held-out last item, and the same gate without the model.

        Args:
            users: Maximum number of users to fit on.
            n_candidates: Candidates to retrieve for each user.
            seed: Random seed for the choice of users.
            progress: Show a progress bar on stderr if it is a terminal.

        Returns:
            The fit, whose ``served`` gate is for ``keep_gate(index, key, gate)`` under the key
            ``recommender.reranker.weights_key``; and the number of users tried.

        Raises:
            DataError: The held-out item was retrieved for too few users.
            OptionError: A number is below 1, or there is no model.
        """
        held_out = hold_out_last(self.index, n_candidates=n_candidates, users=users, seed=seed)
        reranker = Reranker(self._required_model, held_out.index, strategy=self._strategies)
        check_enough(len(held_out.requests))  # before the model is asked
        lists, usage = judged_lists(reranker, held_out.requests, progress=progress)
        source = f"fitted on {len(held_out.requests):,} lists"
        scale = catalogue_scale(held_out.index.popularity)
        fitted = fit_gate(lists, popularity=scale, source=source, seed=seed)
        return replace(fitted, usage=usage), held_out.tried

    def scored(self, request: Request) -> tuple[Request, str]:
        """Score a request without scores by the retriever, best first; also return a note.

        Items outside the index have no score and come last.
        """
        check_kind("request", request, Request, "a Request", "Give make_request(...).")
        if not all(isnan(candidate.score) for candidate in request.candidates):
            return request, ""
        known_ids = [c.item_id for c in request.candidates if c.item_id in self.index.items]
        if not known_ids:
            return request, ""
        rows = tuple(row for row in request.user.history if row.item_id in self.index.items)
        person = replace(request.user, history=rows)
        retriever, note = self._retriever_for(person)
        known = retriever.candidates(person, known_ids)
        rest = tuple(c for c in request.candidates if c.item_id not in self.index.items)
        return replace(request, candidates=(*known, *rest)), note

    def _recommended(
        self, request: Request, k: int, explain: bool, notes: Sequence[str]
    ) -> Recommendation:
        if self._model is None:
            ranking = retrieval_ranking(request)
            explanations = self._explained(request, ranking, k) if explain else ()
            return Recommendation(ranking, k, explanations, notes=tuple(notes))
        (ranking,) = self.reranker.rank_many([request])
        explanations = self._explained(request, ranking, k) if explain else ()
        fitted = self.reranker.weights_key in self.index.gates
        return Recommendation(ranking, k, explanations, fitted, tuple(notes))

    def _explained(self, request: Request, ranking: Ranking, k: int) -> tuple[Explanation, ...]:
        explainer = self.explainer
        if request.context is not self.context:
            explainer = self._explainer_of(request.context)
        return explainer.explain(request.user, ranking.item_ids[:k])

    def _gate_without_model(self) -> Gate | None:
        """The gate fitted for this model if it does without it, else None; it is not loaded."""
        beginning = weights_key(self._strategies, Budget(), "")
        fitted = {
            key: Gate.from_document(document)
            for key, document in self.index.gates.items()
            if key.startswith(beginning)
        }
        without = {key: gate for key, gate in fitted.items() if not gate.parts}
        return without.get(beginning + self._identity()) if without else None

    def _identity(self) -> str:
        """``name@revision`` of the model, which is loaded only where nothing else tells."""
        if isinstance(self._model, str):
            known = identity_of(self._model, self._quantization, adapter=self._adapter)
        else:
            known = getattr(self._model, "identity", str)()  # a loader may know it
        return known or f"{self._required_model.name}@{self._required_model.revision}"

    @cached_property
    def _retriever(self) -> Retriever:
        return Retriever(self.index, rules=self.rules)

    def _retriever_for(self, user: User, rules: Rules | None = None) -> tuple[Retriever, str]:
        """The retriever for a user, and a note if the user has no history."""
        encoder, note = None, ""
        if not user.history:
            encoder = _encoder_of(self.index.encoder) if user.profile else None
            note = f"{f'User {user.user_id}' if user.user_id else 'The user'} has no history" + (
                ": ranked by the profile and popularity."
                if encoder
                else ", and the profile cannot be read: ranked by popularity."
                if user.profile
                else " and no profile: ranked by popularity."
            )
        if rules is None and encoder is None:
            return self._retriever, note
        return Retriever(self.index, encoder=encoder, rules=rules or self.rules), note


def _rules(rules: Rules | str | Path) -> Rules:
    check_kind(
        "rules", rules, (Rules, str, Path), "a Rules record or a TOML file", "Give its path."
    )
    return rules if isinstance(rules, Rules) else Rules.from_file(rules)


@cache
def _encoder_of(made_with: str) -> TextEncoder | None:
    """The encoder that built the index (``name@revision``), or None with a warning."""
    name = made_with.partition("@")[0]
    try:
        encoder = TextEncoder.from_pretrained(made_with if "/" in name else name)  # of the hub
    except ModelError as error:
        logger.warning(
            "The index's text encoder %s cannot be loaded: %s Or give it: Retriever(INDEX, "
            "encoder=TextEncoder.from_pretrained(FOLDER)).", made_with, error,
        )  # fmt: skip
        return None
    if encoder.name != made_with:
        logger.warning(
            "The index was built with %s; only %s is available.", made_with, encoder.name
        )
        return None
    return encoder
