"""The gate: weights of the retriever, popularity and each part of a strategy.

A candidate's score is a weighted sum of features. Main features are the retriever's score, each
part of the strategies and log(1 + popularity), standardised within the list. A product multiplies
one of them by the item's popularity (standardised over the catalogue), by the length of the user's
history, or by the retriever's margin (its lead of the first over the second). So the gate can trust
the language model more for rare items, where the retriever knows little.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError

from llmrec.errors import OptionError, StorageError
from llmrec.retrieval import Index
from llmrec.retrieval.weights import standardise

RETRIEVAL, POPULARITY, HISTORY, MARGIN = "retrieval", "popularity", "history", "margin"
MULTIPLIERS = (POPULARITY, HISTORY, MARGIN)
BY = " x "
"""Between the main feature and the multiplier of a product."""
Scale: TypeAlias = tuple[float, float]
"""Mean and standard deviation."""
Table: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class GateLists:
    """Lists of candidates as a gate reads them; arrays are padded with NaN to the longest list.

    Args:
        signals: ``retrieval`` and the parts by name, each float64 ``[lists, longest]``, higher is
            better, NaN for no value.
        popularity: Interactions of each candidate, ``[lists, longest]``.
        history: Length of each user's history, ``[lists]``.
        sizes: Number of candidates, int ``[lists]``.
        targets: Place of the relevant candidate, int ``[lists]``; None where a list is only ranked.
    """

    signals: Mapping[str, Table]
    popularity: Table
    history: Table
    sizes: NDArray[np.int64]
    targets: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        signals: Mapping[str, ArrayLike],
        popularity: ArrayLike,
        history: int,
        target: int | None = None,
    ) -> GateLists:
        """Take one list; see the class, without the first axis."""
        counts = np.asarray(popularity, dtype=np.float64)[None]
        return cls(
            {name: np.asarray(values, dtype=np.float64)[None] for name, values in signals.items()},
            counts,
            np.array([float(history)]),
            np.array([counts.shape[1]]),
            None if target is None else np.array([target]),
        )

    @classmethod
    def joined(cls, lists: Sequence[GateLists]) -> GateLists:
        """Join lists of any length; a signal that one lacks has no value there.

        Raises:
            OptionError: There is no list, or one has no target.
        """
        if not lists or any(each.targets is None for each in lists):
            raise OptionError(
                f"{len(lists)} lists, of which one or more have no target, cannot be fitted on.",
                hint="Give lists that hold their relevant candidate.",
            )
        names = dict.fromkeys(name for each in lists for name in each.signals)
        longest = max(each.popularity.shape[1] for each in lists)

        def padded(tables: Iterable[Table]) -> Table:
            wide = [
                np.pad(t, ((0, 0), (0, longest - t.shape[1])), constant_values=np.nan)
                for t in tables
            ]
            return np.concatenate(wide)

        missing = [np.full(each.popularity.shape, np.nan) for each in lists]
        return cls(
            {
                name: padded(
                    each.signals.get(name, none) for each, none in zip(lists, missing, strict=True)
                )
                for name in names
            },
            padded(each.popularity for each in lists),
            np.concatenate([each.history for each in lists]),
            np.concatenate([each.sizes for each in lists]),
            np.concatenate([each.targets for each in lists if each.targets is not None]),
        )

    @property
    def there(self) -> NDArray[np.bool_]:
        """Places that hold a candidate, bool ``[lists, longest]``."""
        mask: NDArray[np.bool_] = np.arange(self.popularity.shape[1]) < self.sizes[:, None]
        return mask

    @property
    def margins(self) -> Table:
        """Lead of the retriever's first over its second, in standard deviations of the list.

        Float64 ``[lists]``; 0 for a list of one candidate.
        """
        standard = np.nan_to_num(_by_list(self.signals[RETRIEVAL]))
        best = -np.sort(-np.where(self.there, standard, -np.inf), axis=1)[:, :2]
        leads: Table = np.where(self.sizes > 1, best[:, 0] - best[:, -1], 0.0)
        return leads

    def rows(self, chosen: NDArray[Any]) -> GateLists:
        """Some of the lists."""
        return GateLists(
            {name: values[chosen] for name, values in self.signals.items()},
            self.popularity[chosen],
            self.history[chosen],
            self.sizes[chosen],
            None if self.targets is None else self.targets[chosen],
        )


@dataclass(frozen=True)
class Gate:
    """Weights of a list's features; a feature without a weight does not count.

    Args:
        weights: By feature: ``retrieval``, ``popularity``, ``STRATEGY.PART``, or a strategy's name
            for its score; and products such as ``likelihood.prior x popularity``. Any sign.
        popularity: Mean and standard deviation of log(1 + popularity) over the catalogue, for
            products; None takes those of the index at hand.
        history: The same of log(1 + length of the history), over the lists that were fitted.
        margin: The same of the retriever's margin.
        limit: Standard deviations to which multipliers are cut, up and down; None: not at all.
        source: Where the weights come from.

    Raises:
        OptionError: A feature is unknown, or a number is not allowed.
    """

    weights: Mapping[str, float]
    popularity: Scale | None = None
    history: Scale = (0.0, 1.0)
    margin: Scale = (0.0, 1.0)
    limit: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))
        for name, weight in self.weights.items():
            main, by, multiplier = name.partition(BY)
            if not main or (by and multiplier not in MULTIPLIERS):
                raise OptionError(
                    f"The gate weighs {name!r}; allowed are signals, and signals times "
                    f"{', '.join(MULTIPLIERS)}."
                )
            if not math.isfinite(weight):
                raise OptionError(f"The gate's weight of {name!r} is {weight}, no finite number.")
        for name, scale in (*self.scales.items(), ("popularity", self.popularity)):
            if scale is not None and not (math.isfinite(scale[0]) and 0 < scale[1] < math.inf):
                raise OptionError(
                    f"The gate's scale of {name} is {scale}; its deviation must be above 0."
                )
        if self.limit is not None and not 0 < self.limit < math.inf:
            raise OptionError(f"The gate's limit is {self.limit}; it needs a number above 0.")

    @property
    def scales(self) -> Mapping[str, Scale]:
        """The scales of multipliers that are constant in a list."""
        return {HISTORY: self.history, MARGIN: self.margin}

    @property
    def mains(self) -> tuple[str, ...]:
        """The main features with a weight other than 0, alone or in a product."""
        used = [name.partition(BY)[0] for name, weight in self.weights.items() if weight]
        return tuple(dict.fromkeys(used))

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of the language model: all but the retriever's score and popularity."""
        return tuple(name for name in self.mains if name not in {RETRIEVAL, POPULARITY})

    @property
    def needs_popularity(self) -> bool:
        """Whether any feature reads popularity."""
        return any(w and name.endswith(POPULARITY) for name, w in self.weights.items())

    def scores(self, lists: GateLists, catalogue: Scale = (0.0, 1.0)) -> Table:
        """Score candidates, float64 ``[lists, longest]``, NaN where a list has none.

        A candidate without a value of a signal, and a signal that the lists lack, count as average.

        Args:
            lists: What is known of the candidates.
            catalogue: Scale of log(1 + popularity) where the gate has none of its own.
        """
        total = np.zeros(lists.popularity.shape)
        for values in self.terms(lists, catalogue).values():
            total += values
        return np.where(lists.there, total, np.nan)

    def terms(self, lists: GateLists, catalogue: Scale = (0.0, 1.0)) -> dict[str, Table]:
        """The terms of the scores by feature, float64 ``[lists, longest]``; see :meth:`scores`."""
        names = [name for name, weight in self.weights.items() if weight]
        values = features(lists, names, self._scales(catalogue), self.limit)
        return {name: self.weights[name] * each for name, each in zip(names, values, strict=True)}

    def slopes(self, lists: GateLists, catalogue: Scale = (0.0, 1.0)) -> dict[str, Table]:
        """By signal, how far a score rises per unit of it, all else held fixed.

        Held fixed are the list's means and standard deviations, and the multipliers of products.
        See :meth:`scores`; a signal without spread in its list has the slope 0.
        """
        names = [name for name, weight in self.weights.items() if weight]
        known = {**lists.signals, POPULARITY: np.log1p(lists.popularity)}
        found: dict[str, Table] = {}
        values = factors(lists, names, self._scales(catalogue), self.limit)
        for name, factor in zip(names, values, strict=True):
            main = name.partition(BY)[0]
            if main in known:
                steps = np.apply_along_axis(_step, 1, known[main])[:, None]
                found[main] = found.get(main, 0.0) + self.weights[name] * factor * steps
        return {main: np.broadcast_to(each, lists.popularity.shape) for main, each in found.items()}

    def _scales(self, catalogue: Scale) -> dict[str, Scale]:
        return {POPULARITY: self.popularity or catalogue, **self.scales}

    def without(self, signal: str) -> dict[str, float]:
        """The weights of features that do not read a signal."""
        return {name: w for name, w in self.weights.items() if name.partition(BY)[0] != signal}

    def document(self) -> dict[str, Any]:
        """The gate as JSON can hold it."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**plain, "weights": dict(self.weights)}

    @classmethod
    def from_document(cls, document: object) -> Gate:
        """Read a gate.

        Raises:
            StorageError: It is no gate, or a number or feature is not allowed.
        """
        try:
            return _GATES.validate_python(document)
        except (ValidationError, OptionError) as error:
            what = error.message if isinstance(error, OptionError) else error.errors()[0]["msg"]
            raise StorageError(
                f"The index holds a damaged gate: {what.rstrip('.')}.",
                hint="Fit it again with `llmrec fit`.",
            ) from error


_GATES = TypeAdapter(Gate)


def keep_gate(index: Index, key: str, gate: Gate) -> Index:
    """Return an index that also holds a gate; save it to keep the gate.

    Args:
        index: Whose users the gate was fitted on.
        key: `Reranker.weights_key` of the strategies and model that the gate is for.
        gate: It replaces the one under this key.
    """
    return replace(index, gates={**index.gates, key: gate.document()})


def features(
    lists: GateLists,
    names: Collection[str],
    scales: Mapping[str, Scale],
    limit: float | None = None,
) -> tuple[Table, ...]:
    """Values of features by name, each float64 ``[lists, longest]``, 0 where nothing is known.

    Args:
        lists: What is known of the candidates.
        names: Of signals, and of products with a multiplier.
        scales: Of the multipliers.
        limit: Of the multipliers; see `Gate`.
    """
    known = {**lists.signals, POPULARITY: np.log1p(lists.popularity)}
    mains: dict[str, Table] = {}
    found = []
    for name, factor in zip(names, factors(lists, names, scales, limit), strict=True):
        main = name.partition(BY)[0]
        if main not in mains:
            values = known.get(main)
            mains[main] = (
                np.zeros(lists.popularity.shape)
                if values is None
                else np.nan_to_num(_by_list(values))
            )
        found.append(mains[main] * factor)
    return tuple(found)


def factors(
    lists: GateLists,
    names: Collection[str],
    scales: Mapping[str, Scale],
    limit: float | None = None,
) -> tuple[Table, ...]:
    """What each feature multiplies its standardised signal by: 1, or the multiplier of a product.

    Args:
        lists: See :func:`features`.
        names: See :func:`features`.
        scales: See :func:`features`.
        limit: See :func:`features`.

    Returns:
        For each feature float64 ``[lists, longest]``, or ``[lists, 1]`` where it is constant in a
        list.
    """
    raw = {POPULARITY: np.log1p(lists.popularity), HISTORY: np.log1p(lists.history)[:, None]}
    found: dict[str, Table] = {"": np.ones((len(lists.sizes), 1))}
    for multiplier in dict.fromkeys(name.partition(BY)[2] for name in names):
        if multiplier:
            mean, spread = scales[multiplier]
            plain = lists.margins[:, None] if multiplier == MARGIN else raw[multiplier]
            standard = np.nan_to_num((plain - mean) / spread)
            found[multiplier] = standard if limit is None else np.clip(standard, -limit, limit)
    return tuple(found[name.partition(BY)[2]] for name in names)


def scale_of(values: ArrayLike) -> Scale:
    """Mean and standard deviation; a deviation of 1 where all values are equal."""
    known = np.asarray(values, dtype=np.float64)
    return float(known.mean()), float(known.std()) or 1.0


def catalogue_scale(popularity: ArrayLike) -> Scale:
    """The scale of log(1 + popularity) over a catalogue.

    Args:
        popularity: Interactions by item, ``[items]``.
    """
    return scale_of(np.log1p(np.asarray(popularity, dtype=np.float64)))


def _step(values: NDArray[np.float64]) -> float:
    """Standard deviations per unit of a list's values; 0 without spread."""
    return 1.0 / float(np.nanstd(values)) if np.nan_to_num(standardise(values)).any() else 0.0


def _by_list(values: Table) -> Table:
    table: Table = np.apply_along_axis(standardise, 1, values)
    return table
