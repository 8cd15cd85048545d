"""The reranker: fuses strategy scores with the retriever's scores into a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, TypeAlias

from llmrec.errors import OptionError, check_kind, nearest, not_allowed, one_of
from llmrec.explaining import Entailment, Explainer
from llmrec.explaining.explainer import Asked
from llmrec.models import LanguageModel, load_model
from llmrec.models.adapter import AdapterRecord, read_adapter
from llmrec.models.hardware import QUANTIZATIONS
from llmrec.models.references import MODEL_HINT, check_device, check_reference
from llmrec.prompting import Budget, Context, check_budget, context_of
from llmrec.records import (
    Explanation,
    Ranking,
    User,
)
from llmrec.reranking.driver import judge, windows
from llmrec.reranking.gate import RETRIEVAL, Gate, Scale, catalogue_scale
from llmrec.reranking.gate_defaults import DEFAULT_GATES
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.rankings import gated_ranking, retrieval_signal
from llmrec.reranking.removal import PAIRED, Reasons, find_reasons
from llmrec.reranking.requests import Given, Request, each_request, make_request
from llmrec.reranking.strategies import STRATEGIES, make_strategy
from llmrec.reranking.strategy import Judgement, Question, Strategy, question_about
from llmrec.retrieval import Index
from llmrec.retrieval.weights import check_weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

ZERO_SHOT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {RETRIEVAL: 1.0, **dict.fromkeys(STRATEGIES, 0.2)}
)
"""Weights where no gate serves: 1 for the retriever, 0.2 for each strategy.

A small zero-shot model improves a text retriever, but at full weight it would dominate a better
one. Fit a gate (``llmrec fit``) if there are validation users.
"""

Model: TypeAlias = str | Path | LanguageModel
"""A reference to a language model, or a loaded one."""


class Reranker:
    """Ranks candidates with a language model.

    Args:
        model: A reference (hub id, folder, ``.gguf`` file, packaged name, ``openai:...`` or
            ``vllm:...``), or a loaded `LanguageModel` (`llmrec.load_model` takes all options).
        index: Optional. Adds its items, users and fitted weights.
        strategy: A name of `STRATEGIES`, a strategy, or several of either, whose scores are fused.
        template: A template of that strategy, by name or path; None takes its default.
        budget: Maximum tokens of each prompt field.
        weights: A `Gate`, or the weight of each signal. None takes the gate that ``llmrec fit``
            stored in the index for these strategies, templates and this model; else, with an index,
            the default gate of the strategy (`DEFAULT_GATES`); else `ZERO_SHOT_WEIGHTS`.
        quantization: ``none``, ``nf4`` or ``int8``; for a model given by reference.
        device: Device of a model given by reference; None takes the fastest available.
        adapter: Folder of tuned weights for a model given by reference. Where no gate was fitted,
            the adapter's own serves a single strategy.

    Raises:
        OptionError: A strategy is unknown, two strategies share a name or one has the name of the
            retriever's signal, a template is given without exactly one strategy name, or an
            argument is not allowed.
        PromptError: The template cannot be used.
        ModelError: The model cannot be loaded.
    """

    def __init__(
        self,
        model: Model,
        index: Index | None = None,
        *,
        strategy: str | Strategy | Sequence[str | Strategy] = "likelihood",
        template: str | None = None,
        budget: Budget | None = None,
        weights: Mapping[str, float] | Gate | None = None,
        quantization: str = "none",
        device: str | None = None,
        adapter: str | Path | None = None,
    ) -> None:
        check_kind(
            "index",
            index,
            (Index, NoneType),
            "an Index or None",
            "Give your own candidates to rank(candidates=...); they need no index.",
        )
        model = check_model(model, quantization, device, adapter)
        self.budget = check_budget(budget)
        self.strategies = tuned_strategies(strategy, template, adapter)
        self.index = index
        self.weights = weights
        if weights is not None and not isinstance(weights, Gate):  # fails before a model is loaded
            names = (RETRIEVAL, *(made.name for made in self.strategies))
            check_weights(names, weights)
            for name in weights:
                if name not in {*names, *STRATEGIES}:
                    raise OptionError(
                        f"weights has {name!r}, which is no signal; there are {', '.join(names)}.",
                        hint=nearest(name, names),
                    )
        self.model: LanguageModel = (
            load_model(model, quantization=quantization, device=device, adapter=adapter)
            if isinstance(model, str)
            else model
        )
        self._tuned: AdapterRecord | None = getattr(self.model, "adapter", None)

    @property
    def weights_key(self) -> str:
        """Key of the fitted gate: strategies, templates, budget and model."""
        model = f"{self.model.name}@{self.model.revision}"
        return weights_key(self.strategies, self.budget, model)

    @cached_property
    def context(self) -> Context | None:
        """The context of the index; None without an index."""
        return None if self.index is None else context_of(self.index)

    def rank(
        self,
        candidates: object,
        *,
        history: object = None,
        user: object = None,
        profile: object = None,
        query: object = None,
    ) -> Ranking:
        """Rank candidates for one user: a permutation of them, best first.

        Items are titles, mappings (``item_id`` or ``id``, ``title``, ``description``, ``reviews``,
        ``caption``, any attributes), `Item` or `Candidate` records, ids of the index, or the rows
        of a table (pandas, pyarrow, ``datasets``). The arguments are not changed.

        Args:
            candidates: In the order of your retriever, if any. A ``score`` is fused with the
                model's score: higher is better, None if missing.
            history: The user's earlier items, oldest first; an entry may have a ``rating``. None
                takes the history in the index.
            user: A `User` or a user id.
            profile: Columns of the user's profile by name.
            query: The user's request in plain words.

        Returns:
            All candidates. Unscored ones come last and keep their order. With one strategy and no
            ``score``, the scores are the strategy's.

        Raises:
            DataError: An item or field is invalid.
            OptionError: There are no candidates, one is given twice or has an infinite score, or a
                signal has no weight.
            UnknownItemError: An id is not in the index.
            UnknownUserError: The user is not in the index, and no history is given.
            PromptError: The template cannot be rendered.
            ModelError: The model cannot score.
        """
        request = make_request(
            candidates,
            history=history,
            user=user,
            profile=profile,
            query=query,
            known=self.context,
        )
        return self.rank_many([request])[0]

    def explain(
        self,
        candidates: object,
        *,
        history: object = None,
        user: object = None,
        profile: object = None,
        query: object = None,
        text: str = "statements",
        template: str | Path | None = None,
        entailment: str | Path | CrossEncoder | None = None,
        weigh: bool = False,
    ) -> tuple[Explanation, ...]:
        """Explain items to a user; the arguments are those of :meth:`rank`.

        Args:
            candidates: The items to explain, usually the best of a ranking.
            history: See :meth:`rank`.
            user: See :meth:`rank`.
            profile: See :meth:`rank`.
            query: See :meth:`rank`.
            text: ``statements``, ``template`` or ``written``; see `Explainer`.
            template: An ``explain`` template by name or path, for ``written``.
            entailment: A cross-encoder that must infer each claim from its evidence.
            weigh: Weigh the evidence by removal (`find_reasons`), in the list of these candidates.
                Else facts are ordered by their fit to the user, and the model is not asked.

        Returns:
            One explanation per item, in the given order, each checked against its evidence.

        Raises:
            See :meth:`rank`.
        """
        request = make_request(
            candidates,
            history=history,
            user=user,
            profile=profile,
            query=query,
            known=self.context,
        )
        return self.explain_many(
            [request], text=text, template=template, entailment=entailment, weigh=weigh
        )[0]

    def explain_many(
        self,
        requests: Iterable[Given],
        *,
        text: str = "statements",
        template: str | Path | None = None,
        entailment: str | Path | CrossEncoder | None = None,
        weigh: bool = False,
    ) -> list[tuple[Explanation, ...]]:
        """Explain the candidates of many users; the arguments are those of :meth:`rank_many`.

        Args:
            requests: See :meth:`rank_many`.
            text: See :meth:`explain`.
            template: See :meth:`explain`.
            entailment: See :meth:`explain`.
            weigh: See :meth:`explain`.

        Returns:
            For each request, one explanation per candidate, in the given order.

        Raises:
            See :meth:`rank`.
        """
        return explain_requests(
            each_request(requests, self.context),
            self.model,
            text=text,
            template=template,
            budget=self.budget,
            entailment=entailment,
            weigh=partial(self.reasons, pairs=0) if weigh else None,
        )

    def reasons(self, request: Request, *, pairs: int = PAIRED) -> tuple[Reasons, ...]:
        """Weigh the evidence for every candidate of a request; see `find_reasons`."""
        ids = [each.item_id for each in request.candidates]
        return find_reasons(self, request, ids, pairs=pairs)

    def rank_many(self, requests: Iterable[Given]) -> list[Ranking]:
        """Rank for many users, as many per call of the model as it processes at once.

        Scores do not depend on who shares a call, but for their last digits.

        Args:
            requests: Mappings with the arguments of :meth:`rank` (``user_id`` names the user), or
                `Request` records.

        Raises:
            See :meth:`rank`.
        """
        gate, fallback = self.gate()  # fails before the model is used
        read = each_request(requests, self.context)
        rankings: list[Ranking] = []
        for batch in windows(read, self.model):
            tables = [retrieval_signal(request.candidates) for request in batch]
            for request, known, judged in zip(batch, tables, self.judge_many(batch), strict=True):
                rankings.append(
                    gated_ranking(request, known, judged, gate, self.catalogue_scale, fallback)
                )
        return rankings

    def judge(self, user: str | int | User, candidates: object) -> dict[str, Judgement]:
        """Score a user's candidates of the index by the language model alone."""
        return self.judge_many([make_request(candidates, user=user, known=self.context)])[0]

    def judge_many(self, requests: Iterable[Given]) -> list[dict[str, Judgement]]:
        """Score several users' candidates by the language model alone.

        Returns:
            One mapping per request: strategy name to scores, in the order of its candidates.
        """
        requests = each_request(requests, self.context)
        questions = [
            question_about(
                request.context, request.user, [c.item_id for c in request.candidates], self.budget
            )
            for request in requests
        ]
        judged = {s.name: self.judge_questions(s, questions) for s in self.strategies}
        return [{name: some[row] for name, some in judged.items()} for row in range(len(requests))]

    def judge_questions(
        self, strategy: Strategy, questions: Sequence[Question]
    ) -> tuple[Judgement, ...]:
        """Answer questions by one of the reranker's strategies, all in one call of the model."""
        if self._tuned is not None:  # explanations may use an adapter of any prompts
            check_prompts(self._tuned, self.strategies)
        return judge(self.model, strategy, questions)

    @cached_property
    def catalogue_scale(self) -> Scale:
        """The scale of log(1 + popularity) over the items of the index."""
        return catalogue_scale(self.index.popularity) if self.index else (0.0, 1.0)

    def gate(self) -> tuple[Gate, str]:
        """The gate that fuses scores, and the name of a fallback if there is one."""
        if isinstance(self.weights, Gate):
            return self.weights, "popularity_unknown" * (self._blind(self.weights))
        names = [strategy.name for strategy in self.strategies]
        fallback = ""
        if self.weights is None and self.index is not None:
            kept = self.index.gates.get(self.weights_key)
            if kept is not None:
                gate = Gate.from_document(kept)
                if all({part, part.rpartition(".")[0]} & {*names} for part in gate.parts):
                    return gate, ""
                fallback = "weights_not_fitted"
        default = default_gate(self.strategies)
        if self._tuned is not None and self._tuned.gate and len(names) == 1:
            default = Gate(self._tuned.gate, source="the adapter")
        if self.weights is None and default is not None:
            if not self._blind(default):
                return default, fallback
            fallback = "popularity_unknown"
        weights = ZERO_SHOT_WEIGHTS if self.weights is None else self.weights
        check_weights((RETRIEVAL, *names), weights)
        return Gate({name: weights[name] for name in (RETRIEVAL, *names)}), fallback

    def _blind(self, gate: Gate) -> bool:
        """Whether a gate reads popularity, and there is none."""
        return self.index is None and gate.needs_popularity


def explain_requests(
    requests: Iterable[Request],
    model: LanguageModel | None = None,
    *,
    text: str = "statements",
    template: str | Path | None = None,
    budget: Budget | None = None,
    entailment: str | Path | CrossEncoder | None = None,
    weigh: Callable[[Request], Iterable[Reasons]] | None = None,
) -> list[tuple[Explanation, ...]]:
    """Explain the candidates of requests; only ``written`` texts need the model.

    Texts of requests that share a context, such as an index's, are written together.
    See :meth:`Reranker.explain_many`; ``weigh`` finds the reasons for the candidates of a request.
    """
    judge = None if entailment is None else Entailment(entailment)
    explained: list[tuple[Explanation, ...]] = []
    for _, group in groupby(requests, key=lambda request: id(request.context)):
        some = list(group)
        explainer = Explainer(
            model, some[0].context, text=text, template=template, budget=budget, entailment=judge
        )
        asked = []
        for read in some:
            found = weigh(read) if weigh else ()
            ids = [candidate.item_id for candidate in read.candidates]
            asked.append(Asked(read.user, ids, {each.item_id: each for each in found}))
        explained += explainer.explain_many(asked)
    return explained


def check_model(
    model: Model, quantization: str, device: str | None, adapter: str | Path | None = None
) -> str | LanguageModel:
    """Check the model of a `Reranker` or `Recommender`, without loading it.

    Raises:
        OptionError: It is neither a reference nor a model, or has options that apply to a reference
            alone.
    """
    one_of("quantization", quantization, QUANTIZATIONS)
    check_device(device)
    if isinstance(model, str | Path):
        return check_reference(model)
    if not hasattr(model, "revision"):
        raise not_allowed("model", model, "a reference as text, or a LanguageModel", MODEL_HINT)
    if quantization != "none" or device is not None or adapter is not None:
        raise OptionError(
            "quantization, device and adapter apply only to a model given by reference.",
            hint="Pass them to llmrec.load_model(ref, quantization=..., device=..., adapter=...).",
        )
    return model


def tuned_strategies(
    strategy: str | Strategy | Sequence[str | Strategy],
    template: str | None,
    adapter: str | Path | None,
) -> tuple[Strategy, ...]:
    """Make strategies for an adapter: its own template is the default of its strategy.

    Raises:
        OptionError: See `Reranker`, or the adapter was tuned on other prompts.
        StorageError: ``adapter`` is no folder of an adapter.
    """
    if adapter is None:
        return strategies_of(strategy, template)
    tuned = read_adapter(adapter)
    if strategy == tuned.strategy and template is None:
        template = tuned.template
    strategies = strategies_of(strategy, template)
    check_prompts(tuned, strategies)
    return strategies


def check_prompts(adapter: AdapterRecord, strategies: Sequence[Strategy]) -> None:
    """Check that an adapter was tuned for one strategy that is used, and on its prompts.

    Raises:
        OptionError: It was tuned on those of another strategy or template.
    """
    if not any(
        made.name == adapter.strategy and adapter.template_sha256[:12] in made.key
        for made in strategies
    ):
        names = ", ".join(made.name for made in strategies)
        raise OptionError(
            f"The adapter was tuned on the template {adapter.template} for the strategy "
            f"{adapter.strategy}, which {names} with the given template does not use.",
            hint=f"Take the strategy {adapter.strategy} with the template {adapter.template}.",
        )


def weights_key(strategies: Sequence[Strategy], budget: Budget, model: str) -> str:
    """Key of a fitted gate in an index; ``model`` is ``name@revision``."""
    limits = "-".join(str(value) for value in asdict(budget).values())
    return f"{'+'.join(strategy.key for strategy in strategies)}/{limits}/{model}"


def default_gate(strategies: Sequence[Strategy]) -> Gate | None:
    """The default gate of one strategy; None for several, and for one whose parts it lacks."""
    if len(strategies) > 1:
        return None
    (strategy,) = strategies
    if isinstance(strategy, Likelihood) and strategy.prior_weight == 0:
        return None  # without the title's own likelihood
    return DEFAULT_GATES.get(strategy.name)


def strategies_of(
    strategy: str | Strategy | Sequence[str | Strategy], template: str | None
) -> tuple[Strategy, ...]:
    """Make the strategies that `Reranker` takes by name or as objects.

    Raises:
        OptionError: One is unknown, two share a name, or a template is given beside an object.
        PromptError: The template cannot be used.
    """
    if isinstance(strategy, str):
        made: tuple[Strategy, ...] = (make_strategy(strategy, template),)
    elif template is None:
        given = strategy if isinstance(strategy, Sequence) else (strategy,)
        made = tuple(make_strategy(s) if isinstance(s, str) else s for s in given)
    else:
        raise OptionError(
            f"template={template!r} is given, but the strategy already has a template.",
            hint="Create the strategy with that template.",
        )
    if not all(hasattr(each, "ask") for each in made):
        raise OptionError(
            f"strategy is {strategy!r:.60}; allowed are names, strategies, or a list of them.",
            hint=f"The names are {', '.join(STRATEGIES)}.",
        )
    names = [each.name for each in made]
    if not names or len(set(names)) < len(names):
        raise OptionError(
            f"The strategies are {', '.join(names) or 'none'}: give one or more, each with a "
            "different name.",
            hint="Give one of them another name=.",
        )
    if RETRIEVAL in names:
        raise OptionError(
            f"A strategy is named {RETRIEVAL!r}, which is the name of the retriever's signal.",
            hint="Give it another name.",
        )
    return made
