"""Candidates in, a ranking out: what strategies score, fused with what the retriever knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import OptionError
from llmrec.models import LanguageModel
from llmrec.prompting import Budget
from llmrec.records import Candidate, RankedItem, Ranking, Status, Usage, User
from llmrec.reranking.driver import judge
from llmrec.reranking.score_fusion import ZERO_SHOT_WEIGHTS
from llmrec.reranking.strategies import make_strategy
from llmrec.reranking.strategy import Judgement, Question, Strategy, question_about
from llmrec.retrieval import Index
from llmrec.retrieval.weights import check_weights, fuse

RETRIEVAL = "retrieval"
"""What the retriever's own score is called among the signals."""

Asked: TypeAlias = tuple[User, Sequence[Candidate]]
"""A user, and the candidates in retrieval order."""


@dataclass(frozen=True)
class Reranker:
    """Reranks users' candidates.

    Args:
        model: What judges.
        index: Items and reviews for the prompts, and fitted weights.
        strategy: A name of `STRATEGIES`, a strategy, or several of either, whose scores are fused.
        template: A template of that strategy, by name or path; None takes its default.
        budget: Tokens a field of the prompts.
        weights: Weight of each signal. None takes those fitted for these strategies, templates and
            this model that the index holds, else `ZERO_SHOT_WEIGHTS`.

    Raises:
        OptionError: There is no such strategy, two have one name or one is called as the
            retriever's signal is, or a template is given beside anything but one name.
        PromptError: The template cannot be used.
    """

    model: LanguageModel
    index: Index
    strategy: str | Strategy | Sequence[str | Strategy] = "likelihood"
    template: str | None = None
    budget: Budget = field(default_factory=Budget)
    weights: Mapping[str, float] | None = None
    strategies: tuple[Strategy, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.strategy, str):
            strategies: tuple[Strategy, ...] = (make_strategy(self.strategy, self.template),)
        elif self.template is None:
            given = self.strategy if isinstance(self.strategy, Sequence) else (self.strategy,)
            strategies = tuple(make_strategy(s) if isinstance(s, str) else s for s in given)
        else:
            raise OptionError(
                f"template={self.template!r} beside a strategy that has its own.",
                hint="Make the strategy with that template.",
            )
        names = [strategy.name for strategy in strategies]
        if not names or len(set(names)) < len(names):
            raise OptionError(
                f"The strategies are {', '.join(names) or 'none'}: one or more are needed, each "
                "under a name of its own.",
                hint="Give one of them another name=.",
            )
        if RETRIEVAL in names:
            raise OptionError(
                f"A strategy is called {RETRIEVAL!r}, as the retriever's own signal is.",
                hint="Give it another name.",
            )
        object.__setattr__(self, "strategies", strategies)

    @property
    def weights_key(self) -> str:
        """What fitted weights are stored under: strategies, templates, budget and model."""
        budget = "-".join(str(value) for value in asdict(self.budget).values())
        keys = "+".join(strategy.key for strategy in self.strategies)
        return f"{keys}/{budget}/{self.model.name}@{self.model.revision}"

    def judge(self, user: User, candidates: Sequence[Candidate]) -> dict[str, Judgement]:
        """Ask the language model alone: by strategy, scores in the order of ``candidates``.

        Raises:
            OptionError: There are no candidates, or one stands twice.
            UnknownItemError: The index does not hold a candidate.
        """
        return self.judge_many([(user, candidates)])[0]

    def judge_many(self, asked: Sequence[Asked]) -> list[dict[str, Judgement]]:
        """The same for several users, whose prompts go to the model in one call a round."""
        questions = [self._question(user, candidates) for user, candidates in asked]
        judged = {s.name: judge(self.model, s, questions) for s in self.strategies}
        return [{name: some[row] for name, some in judged.items()} for row in range(len(asked))]

    def rerank(self, user: User, candidates: Sequence[Candidate]) -> Ranking:
        """Rank the candidates: a permutation of them, best first.

        Those the model could not judge keep their order behind those it could.

        Args:
            user: Whose history the prompts show; may be empty.
            candidates: In retrieval order, best first; they are not changed.

        Raises:
            OptionError: There are no candidates, one stands twice or has an infinite score, or a
                signal has no weight.
            UnknownItemError: The index does not hold a candidate or an item of the history.
            PromptError: The template cannot be rendered.
            ModelError: The model cannot score.
        """
        return self.rerank_many([(user, candidates)])[0]

    def rerank_many(self, asked: Sequence[Asked]) -> list[Ranking]:
        """The same for several users, whose prompts go to the model in one call a round."""
        weights, fallbacks = self._weights()  # what cannot be fused is said before it is asked
        tables = [signal_table(candidates) for _, candidates in asked]
        judged = self.judge_many(asked)
        rankings = []
        for (user, candidates), known, judgements in zip(asked, tables, judged, strict=True):
            signals = {**known, **{name: some.scores for name, some in judgements.items()}}
            fused = _fused(user, signals, judgements, weights, fallbacks)
            rankings.append(_ranking(user, candidates, fused, signals, weights))
        return rankings

    def _question(self, user: User, candidates: Sequence[Candidate]) -> Question:
        item_ids = [self._known(candidate) for candidate in candidates]
        repeated = [name for name, n in Counter(item_ids).items() if n > 1]
        if not item_ids or repeated:
            raise OptionError(
                f"Candidates given more than once: {', '.join(repeated)}."
                if repeated
                else "There are no candidates to rerank.",
                hint="Give each item id once, and at least one.",
            )
        return question_about(self.index, user, item_ids, self.budget)

    def _weights(self) -> tuple[Mapping[str, float], Counter[str]]:
        """The weights that serve, and whether they are others than those that were fitted."""
        names = (RETRIEVAL, *(strategy.name for strategy in self.strategies))
        fitted = self.index.weights.get(self.weights_key, ZERO_SHOT_WEIGHTS)
        serving = fitted if self.weights is None else self.weights
        fallbacks = Counter[str]()
        if self.weights is None and not set(names) <= fitted.keys():  # fitted for other signals
            serving, fallbacks["weights_not_fitted"] = ZERO_SHOT_WEIGHTS, 1
        check_weights(names, serving)
        return {name: serving[name] for name in names}, fallbacks

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

    Raises:
        OptionError: A score is infinite: beside it, all others would be the same.
    """
    scores = np.array([candidate.score for candidate in candidates], dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(scores))
    if infinite.size:
        candidate = candidates[int(infinite[0])]
        raise OptionError(
            f"Candidate {candidate.item_id!r} has the score {candidate.score}.",
            hint="Give a finite score, or nan where there is none.",
        )
    return {RETRIEVAL: scores}


def _fused(
    user: User,
    signals: Mapping[str, NDArray[np.float64]],
    judgements: Mapping[str, Judgement],
    weights: Mapping[str, float],
    before: Counter[str],
) -> Judgement:
    """A list's fused scores, NaN where no strategy could judge, and what all of them took."""
    usage, fallbacks = Usage(), Counter(before)
    for judgement in judgements.values():
        usage += judgement.usage
        fallbacks.update(judgement.fallbacks)
    judged = ~np.all([np.isnan(judgement.scores) for judgement in judgements.values()], axis=0)
    fallbacks["signal_missing"] += int(np.isnan(signals[RETRIEVAL]).sum())
    fallbacks["unscored"] += int((~judged).sum())
    fallbacks["cold_start"] += not user.history
    return Judgement(np.where(judged, fuse(signals, weights), np.nan), usage, +fallbacks)


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
