"""Search for a user's candidates: several signals fused, filters before the best k."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, NoneType
from typing import Literal, Protocol, get_args

import numpy as np

from llmrec.catalog import read_ids, read_user
from llmrec.errors import (
    OptionError,
    check_count,
    check_flag,
    check_kind,
    is_number,
    nearest,
    not_allowed,
    one_of,
)
from llmrec.items import Encoder
from llmrec.records import Candidate, User
from llmrec.retrieval import signals as known_signals
from llmrec.retrieval.filters import Filter, read_filters
from llmrec.retrieval.index import Index
from llmrec.retrieval.rules import Rules
from llmrec.retrieval.search import EXACT_UP_TO
from llmrec.retrieval.signals import Full, Values, history_rows
from llmrec.retrieval.weights import check_weights

logger = logging.getLogger(__name__)

WEIGHTS_KEY = "retriever"
"""Key of the learned weights in an index."""
DEFAULT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"content": 0.3, "co_occurrence": 1.0, "popularity": 0.3, "friends": 0.3}
)
"""Weights where none were learned. A signal that knows nothing of a user says nothing.

Popularity and friends beside co-occurrence were chosen on validation targets of MovieLens, latest
small, and Last.fm 2K; content was set like popularity and not tuned.
"""
RANK_CONSTANT = 60
"""k of reciprocal rank fusion, its authors' value."""

PROPOSALS = 1_000
"""Rows that each signal proposes, at least, where not everything is scored."""
_MOST_PROPOSALS = 16
"""Times as many, at most, while an item that no signal proposed may still belong to the best."""
_FEW = 3_000  # allowed rows up to which all of them are scored
_FALLBACK = "popularity where no signal knows the user"

Fusing = Literal["weighted", "reciprocal_rank"]


ValuesOf = Callable[[User, Sequence[int]], Values]
"""A signal's values for a user, and for the rows of the history."""


class Signal(Protocol):
    """A signal of the caller's own: a score for each item."""

    def scores(self, user: User) -> np.ndarray:
        """Score every item of the index for a user: float64 [n_items], higher is better."""
        ...


class Retriever:
    """Proposes items for a user by several signals, so that none decides alone.

    Signals by name: ``content``, ``co_occurrence``, ``keywords``, ``popularity``, ``friends``,
    ``sequence`` where the index holds a trained fusion (see :mod:`llmrec.retrieval.signals`), and
    those given. Each is standardised over the whole catalogue
    and the score is their weighted sum, so that it depends neither on filters nor on the other
    candidates. ``fusion="reciprocal_rank"`` sums weight / (60 + rank) instead (Cormack, Clarke and
    Buettcher, "Reciprocal rank fusion outperforms Condorcet", 2009), equal values having their
    mean rank. A signal with one value for all items counts in neither. Where no signal says
    anything of a user, popularity serves.

    Args:
        index: Where to search. All signals are computed from what it holds.
        weights: Weight by signal; only those named are computed, one with weight 0 is reported and
            does not count. None takes those that the index holds (`learn_weights`, ``llmrec fit
            --retriever``) and are not 0, else `DEFAULT_WEIGHTS`.
        fusion: How signals become a score.
        half_life: Interactions after which a history item weighs half for ``content``;
            ``math.inf``: all the same.
        encoder: Embeds the profiles of users without a history; the one that made the index.
        rules: What may be proposed, what is boosted (in units of the standardised scores), and of
            what there may be how many.
        signals: Further signals by name (``sequence``: a trained model's); weighted 1 where
            neither ``weights`` nor the index say otherwise.
        exact_up_to: Items up to which every item is scored. Above, each signal proposes items and
            all signals score those: what is returned is nearly the best, its scores are exact.

    Raises:
        OptionError: A number is out of range, there is no such signal or fusion, or the encoder is
            not the one that made the index. While searching: a given signal's scores are not one
            finite number an item.
    """

    def __init__(
        self,
        index: Index,
        *,
        weights: Mapping[str, float] | None = None,
        fusion: Fusing = "weighted",
        half_life: float = 10.0,
        encoder: Encoder | None = None,
        rules: Rules | None = None,
        signals: Mapping[str, Signal] = MappingProxyType({}),
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        check_kind("index", index, Index, "an Index", "Open a folder with Index.open(INDEX).")
        check_kind(
            "rules", rules, (Rules, NoneType), "a Rules record", "Give Rules.from_file(FILE)."
        )
        check_kind("signals", signals, Mapping, "a mapping of name to Signal", "Give each a name.")
        for name, signal in signals.items():
            if not hasattr(signal, "scores"):
                raise not_allowed(
                    f"signals[{name!r}]", signal, "a Signal", "It needs scores(user)."
                )
        trained: dict[str, Callable[[], known_signals.Known]] = {}
        if index.fusion is not None and index.fused is not None:
            encoder_of_users, vectors = index.fusion, index.fused
            trained["sequence"] = lambda: known_signals.Sequential(index, encoder_of_users, vectors)
        if weights is None:
            every = {**dict.fromkeys([*trained, *signals], 1.0), **_kept(index)}
            weights = {name: weight for name, weight in every.items() if weight > 0} or every
        if not is_number(half_life) or not half_life > 0:
            hint = "math.inf weighs all items of a history the same."
            raise not_allowed("half_life", half_life, "a positive number of items", hint)
        fusion = one_of("fusion", fusion, get_args(Fusing))
        check_count("exact_up_to", exact_up_to, least=0)
        makers: dict[str, Callable[[], known_signals.Known]] = {
            "content": lambda: known_signals.Content(index, half_life=half_life, encoder=encoder),
            "co_occurrence": lambda: known_signals.CoOccurrence(index),
            "keywords": lambda: known_signals.Keywords(index),
            "popularity": lambda: known_signals.Popularity(index),
            "friends": lambda: known_signals.Friends(index),
            **trained,
        }
        hint = 'Give {"content": 1.0}, for example.'
        check_kind("weights", weights, Mapping, "a mapping of signal to weight", hint)
        _check(weights, {**makers, **signals})
        if encoder and "content" not in weights:
            makers["content"]()  # says so where it is another encoder
        self.index = index
        self.weights: Mapping[str, float] = MappingProxyType(dict(weights))
        self.fusion = fusion
        self._signals = {
            name: _given(name, signals[name], len(index.items))
            if name in signals
            else makers[name]().of
            for name in weights
        }
        self._rules = rules.bind(index.attribute_columns) if rules else None
        self._popularity = known_signals.Popularity(index)
        # Ranks need every item's score.
        self._everything = len(index.items) <= exact_up_to or fusion == "reciprocal_rank"

    def retrieve(
        self,
        user: str | int | User,
        k: int = 100,
        *,
        filters: str | Filter | Iterable[str | Filter] | None = None,
        include_seen: bool = False,
    ) -> tuple[Candidate, ...]:
        """Find the best items for a user.

        Args:
            user: A user id of the index, or any `User`; the items of the history must be there.
            k: How many; fewer come back only where fewer satisfy filters and rules.
            filters: Conditions that must all hold, such as ``"year>=1990"``.
            include_seen: Whether the history's own items may come back.

        Returns:
            Candidates by score, best first; equal scores in the order of the index.

        Raises:
            OptionError: ``k`` is below 1, or a filter does not fit the items.
            UnknownItemError: The history holds an item that the index does not.
        """
        check_flag("include_seen", include_seen)
        k, conditions = check_count("k", k), read_filters(filters)
        user = read_user(user, self.index.user, self.index.neutral_rating)
        met = history_rows(self.index, user)
        allowed = self.index.attribute_columns.mask(conditions)
        if self._rules:
            allowed &= self._rules.allowed(user, met)
        if not include_seen:
            allowed[met] = False
        values = self._values(user, met)
        n_allowed = int(np.count_nonzero(allowed))
        n = max(PROPOSALS, 5 * k)
        most = _MOST_PROPOSALS * n
        while True:
            complete = self._everything or n_allowed <= max(n, _FEW)
            if complete:
                rows, bound = np.flatnonzero(allowed), -math.inf
            else:
                rows, bound = self._proposed(values, n, allowed)
            if self._rules is None or not self._rules.at_most:
                found = self._best(values, rows, k)
            else:
                found = self._rules.cap(self._best(values, rows, len(rows)), k)
            enough = len(found) >= k and (found[-1].score >= bound or n >= most)
            if complete or enough:
                return found
            n *= 4  # a better item may be missing; or caps, or lists that held too few

    def candidates(self, user: str | int | User, item_ids: object) -> tuple[Candidate, ...]:
        """Score given items for a user, those already seen too; rules boost and do not remove.

        Args:
            user: See :meth:`retrieve`.
            item_ids: One id, or ids in any form of a list or column.

        Returns:
            A candidate for each id, by score, best first; equal scores in the order of the index.

        Raises:
            OptionError: No id is given, or one twice.
            UnknownItemError: The index does not hold an item.
        """
        ids = read_ids(item_ids, where="item_ids")
        user = read_user(user, self.index.user, self.index.neutral_rating)
        if not ids:
            raise OptionError("There are no candidates.", hint="Give at least one item id.")
        twice = [item_id for item_id, count in Counter(ids).items() if count > 1]
        if twice:
            raise OptionError(
                f"Candidates are given more than once: {', '.join(twice)}.",
                hint="Give each item id once.",
            )
        rows = np.sort([self.index.row(item_id) for item_id in ids])
        values = self._values(user, history_rows(self.index, user))
        return self._best(values, rows, len(rows))

    def signals(self, user: str | int | User) -> dict[str, np.ndarray]:
        """Each signal's values by name: float64 [n_items], higher is better, not standardised.

        Raises:
            UnknownItemError: The history holds an item that the index does not.
        """
        user = read_user(user, self.index.user, self.index.neutral_rating)
        met = history_rows(self.index, user)
        return {name: signal(user, met).everything() for name, signal in self._signals.items()}

    def scores(self, user: str | int | User) -> np.ndarray:
        """The fused score of every item: float64 [n_items], higher is better.

        Raises:
            UnknownItemError: The history holds an item that the index does not.
        """
        user = read_user(user, self.index.user, self.index.neutral_rating)
        met = history_rows(self.index, user)
        return self._fused(self._values(user, met), np.arange(len(self.index.items)))

    def _values(self, user: User, met: Sequence[int]) -> dict[str, Values]:
        """Each signal's values for a user; popularity alone counts where all others are silent."""
        values = {name: signal(user, met) for name, signal in self._signals.items()}
        if self._everything:
            values = {
                name: known if isinstance(known, Full) else Full(known.everything())
                for name, known in values.items()
            }
        some = np.zeros(1, dtype=np.int64)
        if all(v.standardised(some) is None for name, v in values.items() if self.weights[name]):
            logger.info("No signal for user %s: popularity is used.", user.user_id)
            values[_FALLBACK] = self._popularity.of(user, met)
        return values

    def _proposed(
        self, values: Mapping[str, Values], n: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Return the rows that any signal proposes, ascending, and a bound of all other scores.

        Of each boost some. An allowed item that no signal proposed scores at most what the least
        values proposed add up to (the threshold algorithm; Fagin, Lotem and Naor, "Optimal
        aggregation algorithms for middleware", 2003); nearest vectors are approximate.
        """
        groups = [(0.0, allowed)]
        if self._rules is not None and self._rules.boosts.any():
            boosts = self._rules.boosts
            of_boost = np.unique(boosts[allowed])
            groups = [(float(boost), allowed & (boosts == boost)) for boost in of_boost]
        found, bounds = [], []
        for boost, group in groups:
            share = np.count_nonzero(group) / len(group)
            if not share:
                continue
            bounds.append(boost)
            for name, known in values.items():
                if not (weight := self.weights.get(name, 1.0)):
                    continue
                rows, bound = known.best(n, group, share)
                found.append(rows)
                bounds[-1] += weight * bound
        return np.unique(np.concatenate(found)), max(bounds)

    def _best(
        self, values: Mapping[str, Values], rows: np.ndarray, k: int
    ) -> tuple[Candidate, ...]:
        """Return the best k of some rows, which are in ascending order."""
        scores = self._fused(values, rows)
        if k < len(rows):
            # All that reach the k-th best score, ties too: the stable sort then settles those.
            reach = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
            rows, scores = rows[reach], scores[reach]
        order = np.argsort(-scores, kind="stable")[:k]
        rows, scores = rows[order], scores[order]
        names = [name for name in values if name != _FALLBACK]
        table = zip(*(values[name].at(rows).tolist() for name in names), strict=True)
        return tuple(
            Candidate(item_id, score, dict(zip(names, line, strict=True)))
            for item_id, score, line in zip(
                self.index.ids.take(rows), scores.tolist(), table, strict=True
            )
        )

    def _fused(self, values: Mapping[str, Values], rows: np.ndarray) -> np.ndarray:
        """Return the scores of some rows."""
        total = np.zeros(len(rows))
        for name, known in values.items():
            weight = self.weights.get(name, 1.0)
            standardised = known.standardised(rows) if weight else None
            if standardised is None:
                continue
            if self.fusion == "weighted" or name == _FALLBACK:
                total += weight * standardised
            else:
                from scipy.stats import rankdata  # noqa: PLC0415 (half a second; few need it)

                total += weight / (RANK_CONSTANT + rankdata(-known.everything())[rows])
        return total if self._rules is None else total + self._rules.boosts[rows]


def _given(name: str, signal: Signal, n_items: int) -> ValuesOf:
    """Take the caller's own signal; refuse scores that are not one finite number an item."""

    def of(user: User, _: Sequence[int]) -> Full:
        scores = np.asarray(signal.scores(user), dtype=np.float64)
        if scores.shape != (n_items,) or not np.isfinite(scores).all():
            broken = np.count_nonzero(~np.isfinite(scores))
            raise OptionError(
                f"The signal {name!r} gave scores of shape {scores.shape}, {broken:,} of them not "
                f"finite; allowed are {n_items:,} finite numbers, one an item.",
                hint="Give an item of which the signal knows nothing the mean, or 0.",
            )
        return Full(scores)

    return of


def _kept(index: Index) -> Mapping[str, float]:
    """The weights that were learned for an index, else the defaults of what it can know."""
    absent = set() if any(index.friends.values()) else {"friends"}
    kept = index.weights.get(WEIGHTS_KEY, DEFAULT_WEIGHTS)
    return {name: weight for name, weight in kept.items() if name not in absent}


def _check(weights: Mapping[str, float], known: Mapping[str, object]) -> None:
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise OptionError(
            f"There is no signal {unknown[0]!r}; there are {', '.join(sorted(known))}.",
            hint=nearest(unknown[0], known) or "Give the signal itself in signals=.",
        )
    if not weights:
        raise OptionError("weights names no signal.", hint=f"Name some of {', '.join(known)}.")
    check_weights(weights, weights)
