from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError
from llmrec.records import Interaction, Item, User
from llmrec.retrieval import (
    DEFAULT_WEIGHTS,
    WEIGHTS_KEY,
    Index,
    Retriever,
    Rules,
    learn_weights,
    standardise,
)
from llmrec.retrieval.retriever import Fusing

USER = User("me")


@dataclass(frozen=True)
class Fixed:
    values: tuple[float, ...]

    def scores(self, user: User) -> np.ndarray:
        return np.array(self.values)


def make_index(n: int = 4, weights: Mapping[str, Mapping[str, float]] | None = None) -> Index:
    items = {str(i): Item(str(i)) for i in range(n)}
    rows = (Interaction("u", "1"), Interaction("v", "1"), Interaction("u", "2"))
    return Index(items, np.ones((n, 2), dtype=np.float32), rows, weights=weights or {})


FIRST, SECOND = Fixed((4.0, 3.0, 2.0, 1.0)), Fixed((0.0, 5.0, 5.0, 9.0))
SIGNALS = {"first": FIRST, "second": SECOND}


def test_reciprocal_rank_fusion_by_hand() -> None:
    retriever = Retriever(
        make_index(),
        weights={"first": 1.0, "second": 2.0},
        fusion="reciprocal_rank",
        signals=SIGNALS,
    )
    found = {c.item_id: c.score for c in retriever.retrieve(USER)}
    # Equal values share the mean of their ranks, 2 and 3.
    assert found["0"] == pytest.approx(1 / 61 + 2 / 64)
    assert found["1"] == pytest.approx(1 / 62 + 2 / 62.5)
    assert found["2"] == pytest.approx(1 / 63 + 2 / 62.5)
    assert found["3"] == pytest.approx(1 / 64 + 2 / 61)


def test_the_weighted_sum_by_hand() -> None:
    weights = {"first": 1.0, "second": 2.0}
    retriever = Retriever(make_index(), weights=weights, signals=SIGNALS)
    expected = standardise(FIRST.values) + 2 * standardise(SECOND.values)
    found = {c.item_id: c.score for c in retriever.retrieve(USER)}
    assert [found[str(i)] for i in range(4)] == pytest.approx(list(expected))
    np.testing.assert_allclose(retriever.scores(USER), expected)


@pytest.mark.parametrize("fusion", ["weighted", "reciprocal_rank"])
def test_a_silent_signal_and_one_of_weight_zero_do_not_count(fusion: Fusing) -> None:
    signals = {"first": FIRST, "second": SECOND, "silent": Fixed((2.0,) * 4)}
    weights = {"first": 1.0, "second": 0.0, "silent": 5.0}
    found = Retriever(make_index(), weights=weights, fusion=fusion, signals=signals).retrieve(USER)
    alone = Retriever(
        make_index(), weights={"first": 1.0}, fusion=fusion, signals=signals
    ).retrieve(USER)
    assert [(c.item_id, c.score) for c in found] == [(c.item_id, c.score) for c in alone]
    assert found[0].signals == {"first": 4.0, "second": 0.0, "silent": 2.0}


@pytest.mark.parametrize("fusion", ["weighted", "reciprocal_rank"])
def test_where_all_signals_are_silent_popularity_serves(fusion: Fusing) -> None:
    found = Retriever(make_index(), weights={"content": 1.0}, fusion=fusion).retrieve(USER)
    assert [c.item_id for c in found] == ["1", "2", "0", "3"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1.0, math.nan, 2.0, math.inf), r"shape \(4,\), 2 of them not finite"),
        ((1.0, 2.0, 3.0), r"shape \(3,\), 0 of them"),
    ],
)
def test_a_signal_that_is_not_one_finite_number_an_item_is_named(
    values: tuple[float, ...], said: str
) -> None:
    retriever = Retriever(make_index(), signals={"mine": Fixed(values)})
    for search in (retriever.retrieve, retriever.scores, retriever.signals):
        with pytest.raises(OptionError, match=f"signal 'mine' gave scores of {said}"):
            search(USER)


def test_weights_come_from_the_argument_then_the_index_then_the_defaults() -> None:
    kept = make_index(weights={WEIGHTS_KEY: {"popularity": 0.5}})
    assert Retriever(replace(make_index(), friends={"u": ("v",)})).weights == DEFAULT_WEIGHTS
    friendless = {name: w for name, w in DEFAULT_WEIGHTS.items() if name != "friends"}
    assert Retriever(make_index()).weights == friendless
    assert Retriever(kept).weights == {"popularity": 0.5}
    assert Retriever(kept, weights={"content": 2.0}).weights == {"content": 2.0}
    assert Retriever(kept, signals={"first": FIRST}).weights == {"popularity": 0.5, "first": 1.0}


def test_unknown_signals_and_fusions_are_refused() -> None:
    with pytest.raises(OptionError, match="no signal 'contents'") as caught:
        Retriever(make_index(), weights={"contents": 1.0})
    assert "'content'" in caught.value.hint
    with pytest.raises(OptionError, match="fusion 'sum' is not one of weighted"):
        Retriever(make_index(), fusion="sum")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="weights names no signal"):
        Retriever(make_index(), weights={})


RULES = """
[[drop]]
attribute = "kind"
equals = "hat"

[[boost]]
attribute = "kind"
equals = "shoe"
add = 100.0

[[at_most]]
n = 1
attribute = "kind"
"""


def test_rules_mask_boost_and_cap(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    rules = Rules.from_file(tmp_path / "rules.toml")
    kinds = {"0": "hat", "1": "scarf", "2": "scarf", "3": "shoe"}
    items = {name: Item(name, attributes={"kind": kind}) for name, kind in kinds.items()}
    index = replace(make_index(), items=items)
    retriever = Retriever(index, weights={"popularity": 1.0}, rules=rules)
    assert [c.item_id for c in retriever.retrieve(USER, 3)] == ["3", "1"]
    assert [c.item_id for c in retriever.candidates(USER, ["0", "1", "3"])] == ["3", "1", "0"]


def chains(n_users: int = 60, n_items: int = 30) -> Index:
    """Everybody walks a ring of items: what comes next is told by co-occurrence alone."""
    rng = np.random.default_rng(0)
    items = {str(i): Item(str(i)) for i in range(n_items)}
    rows = []
    for user in range(n_users):
        start = int(rng.integers(n_items))
        rows += [Interaction(f"u{user}", str((start + s) % n_items), None, s) for s in range(6)]
    vectors = rng.normal(size=(n_items, 8)).astype(np.float32)
    return Index(items, vectors, tuple(rows))


def test_zero_weight_signals_are_not_computed() -> None:
    kept = make_index(weights={WEIGHTS_KEY: {"popularity": 0.5, "keywords": 0.0}})
    assert Retriever(kept).retrieve(USER)[0].signals.keys() == {"popularity"}
    asked = Retriever(kept, weights={"popularity": 0.5, "keywords": 0.0})
    assert asked.retrieve(USER)[0].signals.keys() == {"popularity", "keywords"}


def test_learned_weights_drop_noise() -> None:
    index = chains()
    fitted = learn_weights(index)
    assert fitted.lists == 60
    assert fitted.weights["co_occurrence"] > 0.5
    assert fitted.weights["content"] == fitted.weights["friends"] == 0
    assert learn_weights(index) == fitted
    learned = Retriever(index.with_weights(WEIGHTS_KEY, fitted.weights))
    blind = Retriever(index, weights={"content": 1.0, "popularity": 1.0})
    user = User("me", tuple(Interaction("me", str(i)) for i in range(5)))

    def rank(retriever: Retriever) -> int:
        return [c.item_id for c in retriever.retrieve(user)].index("5")

    assert rank(learned) < min(3, rank(blind))


def test_learning_needs_users_and_numbers_of_one_or_more() -> None:
    with pytest.raises(DataError, match="No user has four items"):
        learn_weights(make_index())
    with pytest.raises(OptionError, match="negatives is 0"):
        learn_weights(chains(), negatives=0)
    with pytest.raises(OptionError, match="users is 0"):
        learn_weights(chains(), users=0)
    with pytest.raises(OptionError, match="no signal 'taste'"):
        learn_weights(chains(), names=("taste",))
