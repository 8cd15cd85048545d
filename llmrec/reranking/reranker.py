"""Candidates in, a ranking out: one strategy's scores fused with what the retriever knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError, PromptError, nearest
from llmrec.language_models import LanguageModel
from llmrec.prompting import (
    DEFAULT_TEMPLATES,
    Budget,
    Template,
    background_of,
    load_template,
)
from llmrec.records import Candidate, RankedItem, Ranking, Status, User
from llmrec.reranking.likelihood import Likelihood
from llmrec.reranking.pointwise import Pointwise
from llmrec.reranking.score_fusion import ZERO_SHOT_WEIGHTS, fuse
from llmrec.reranking.strategy import Judgement, Question, Strategy
from llmrec.retrieval import Index

STRATEGIES: Mapping[str, Callable[..., Strategy]] = MappingProxyType(
    {"likelihood": Likelihood, "pointwise": Pointwise}
)
"""Strategies by name; each takes ``template=`` or uses its default."""


def make_strategy(name: str, template: str | None = None) -> Strategy:
    """A strategy by name, with a template by name or path, or its default one.

    Raises:
        OptionError: There is no such strategy.
        PromptError: The template cannot be used, or is another strategy's.
    """
    if name not in STRATEGIES:
        raise OptionError(
            f"There is no strategy {name!r}; there are {', '.join(sorted(STRATEGIES))}.",
            hint=nearest(name, STRATEGIES),
        )
    if template is None:
        return STRATEGIES[name]()
    loaded: Template = load_template(template)
    if loaded.strategy in DEFAULT_TEMPLATES and loaded.strategy != name:
        raise PromptError(
            f"Template {loaded.name} is for the strategy {loaded.strategy}, not {name}.",
            hint=f"Take a template under {name}/.",
        )
    return STRATEGIES[name](template=loaded)


@dataclass(frozen=True)
class Reranker:
    """Reranks a user's candidates.

    Args:
        model: What judges.
        index: Items and reviews for the prompts, and fitted weights.
        strategy: A name of `STRATEGIES`, or a strategy.
        template: A template of that strategy, by name or path; None takes its default.
        budget: Tokens a field of the prompts.
        weights: Weight of each signal. None takes those fitted for this strategy, template and
            model that the index holds, else `ZERO_SHOT_WEIGHTS`.

    Raises:
        OptionError: There is no such strategy, or a template is given beside a strategy object.
        PromptError: The template cannot be used.
    """

    model: LanguageModel
    index: Index
    strategy: str | Strategy = "likelihood"
    template: str | None = None
    budget: Budget = field(default_factory=Budget)
    weights: Mapping[str, float] | None = None
    _strategy: Strategy = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.strategy, str):
            strategy = make_strategy(self.strategy, self.template)
        elif self.template is None:
            strategy = self.strategy
        else:
            raise OptionError(
                f"template={self.template!r} beside a strategy that has its own.",
                hint="Make the strategy with that template.",
            )
        object.__setattr__(self, "_strategy", strategy)

    @property
    def weights_key(self) -> str:
        """What fitted weights are stored under: strategy, template, budget and model."""
        budget = "-".join(str(value) for value in asdict(self.budget).values())
        return f"{self._strategy.key}/{budget}/{self.model.name}@{self.model.revision}"

    def judge(self, user: User, candidates: Sequence[Candidate]) -> Judgement:
        """Ask the language model alone: its scores in the order of ``candidates``.

        Raises:
            OptionError: There are no candidates, or one stands twice.
            UnknownItemError: The index does not hold a candidate.
        """
        items = [self.index.items[self._known(candidate)] for candidate in candidates]
        repeated = [name for name, n in Counter(item.item_id for item in items).items() if n > 1]
        if not items or repeated:
            raise OptionError(
                f"Candidates given more than once: {', '.join(repeated)}."
                if repeated
                else "There are no candidates to rerank.",
                hint="Give each item id once, and at least one.",
            )
        question = Question(
            user, tuple(items), self.index.items, self.budget, background_of(self.index)
        )
        return self._strategy.judge(self.model, question)

    def rerank(self, user: User, candidates: Sequence[Candidate]) -> Ranking:
        """Rank the candidates: a permutation of them, best first.

        Those the model could not judge keep their order behind those it could.

        Args:
            user: Whose history the prompts show; may be empty.
            candidates: In retrieval order, best first; they are not changed.

        Raises:
            OptionError: There are no candidates, one stands twice, or a signal has no weight.
            UnknownItemError: The index does not hold a candidate or an item of the history.
            PromptError: The template cannot be rendered.
            ModelError: The model cannot score.
        """
        judgement = self.judge(user, candidates)
        known = signal_table(candidates)
        signals = {**known, self._strategy.name: judgement.scores}
        fallbacks = Counter(judgement.fallbacks)
        weights = self.weights
        if weights is None:
            weights = self.index.weights.get(self.weights_key, ZERO_SHOT_WEIGHTS)
            if not signals.keys() <= weights.keys():  # fitted for other signals
                weights, fallbacks["weights_not_fitted"] = ZERO_SHOT_WEIGHTS, 1
        fused = fuse(signals, weights)
        judged = ~np.isnan(judgement.scores)
        fallbacks["signal_missing"] += sum(int(np.isnan(v).sum()) for v in known.values())
        fallbacks["unscored"] += int((~judged).sum())
        fallbacks["cold_start"] += not user.history
        return _ranking(
            user,
            candidates,
            Judgement(np.where(judged, fused, np.nan), judgement.usage, +fallbacks),
            signals,
            {name: weights[name] for name in signals},
        )

    def _known(self, candidate: Candidate) -> str:
        self.index.row(candidate.item_id)  # raises with the nearest ids
        return candidate.item_id


def retrieval_ranking(user: User, candidates: Sequence[Candidate]) -> Ranking:
    """The retriever's own order as a ranking, no language model asked."""
    items = tuple(
        RankedItem(c.item_id, i, i, c.score, Status.NOT_ASKED, c.signals)
        for i, c in enumerate(candidates, start=1)
    )
    return Ranking(user.user_id, items, fallbacks={} if user.history else {"cold_start": 1})


def signal_table(candidates: Sequence[Candidate]) -> dict[str, NDArray[np.float64]]:
    """The retriever's own score over a list, as the one signal ``retrieval``.

    What it is made of was weighed by the retriever; the language model is weighed beside the whole.
    """
    return {"retrieval": np.array([candidate.score for candidate in candidates])}


def _ranking(
    user: User,
    candidates: Sequence[Candidate],
    fused: Judgement,
    signals: Mapping[str, NDArray[np.float64]],
    weights: Mapping[str, float],
) -> Ranking:
    # Stable, so equal scores keep retrieval order; NaN sorts last and keeps it too.
    order = np.argsort(-fused.scores, kind="stable")
    items = []
    for rank, i in enumerate(order, start=1):
        scored = not np.isnan(fused.scores[i])
        values = {name: float(column[i]) for name, column in signals.items()}
        items.append(
            RankedItem(
                item_id=candidates[i].item_id,
                rank=rank,
                retrieval_rank=int(i) + 1,
                score=float(fused.scores[i]) if scored else None,
                status=Status.SCORED if scored else Status.UNSCORED,
                signals={
                    **candidates[i].signals,
                    **{name: value for name, value in values.items() if not np.isnan(value)},
                },
            )
        )
    return Ranking(user.user_id, tuple(items), fused.usage, fused.fallbacks, weights)
