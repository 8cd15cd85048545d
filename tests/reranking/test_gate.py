from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError, StorageError
from llmrec.reranking import DEFAULT_GATES, Gate, GateLists, catalogue_scale, choose_gate, fit_gate
from llmrec.reranking.gate_fit import by_rarity
from llmrec.retrieval import fuse

PARTS = ("conditional", "prior")
TRUE = {"retrieval": 1.0, "popularity": 0.3}
HEARD = {**TRUE, "lm.conditional": 0.5, "lm.conditional x popularity": -0.4}
SCALE = (1.5, 0.8)


def made_up(n: int, weights: dict[str, float], seed: int = 0, width: int = 20) -> GateLists:
    """Lists whose target is drawn by a gate with these weights."""
    rng = np.random.default_rng(seed)
    names = ("retrieval", *(f"lm.{part}" for part in PARTS))
    signals = {name: rng.normal(size=(n, width)) for name in names}
    popularity = rng.geometric(0.2, size=(n, width)).astype(np.float64) - 1
    history = rng.integers(1, 30, n).astype(float)
    lists = GateLists(signals, popularity, history, np.full(n, width))
    gate = Gate(weights, popularity=SCALE)
    utility = gate.scores(lists) + rng.gumbel(size=(n, width))
    return GateLists(signals, popularity, history, lists.sizes, np.argmax(utility, axis=1))


def test_a_gate_without_products_is_the_weighted_sum_of_standardised_signals() -> None:
    signals = {"retrieval": np.array([3.0, 1.0, 2.0]), "lm": np.array([1.0, np.nan, 5.0])}
    weights = {"retrieval": 1.0, "lm": 0.2}
    one = GateLists.of(signals, [0, 0, 0], 3)
    assert Gate(weights).scores(one)[0].tolist() == fuse(signals, weights).tolist()


def test_products_multiply_by_popularity_over_the_catalogue() -> None:
    counts = np.array([0.0, np.e - 1])  # log(1 + n): 0 and 1
    one = GateLists.of({"retrieval": [1.0, 1.0], "lm": [2.0, 4.0]}, counts, 3)
    gate = Gate({"lm x popularity": 2.0}, popularity=(0.5, 0.25))
    assert gate.scores(one)[0].tolist() == pytest.approx([2 * -1 * -2, 2 * 1 * 2])
    # Without a scale of its own, the gate takes that of the index at hand.
    assert Gate({"lm x popularity": 2.0}).scores(one, (0.5, 0.25)).tolist() == [[4.0, 4.0]]


def test_a_limit_cuts_what_products_multiply_by() -> None:
    one = GateLists.of({"retrieval": [1.0, 1.0], "lm": [2.0, 4.0]}, [0.0, np.expm1(9)], 3)
    gate = Gate({"lm x popularity": 2.0}, popularity=(0.0, 1.0), limit=1.5)
    assert gate.scores(one)[0].tolist() == pytest.approx([0, 2 * 1 * 1.5])
    assert gate.slopes(one)["lm"][0].tolist() == pytest.approx([0, 2 * 1.5])


def test_the_default_gate_hears_little_of_the_model_for_the_most_popular_items() -> None:
    gate = DEFAULT_GATES["likelihood"]
    assert gate.limit is not None
    for part in gate.parts:
        rest = gate.weights[part] + gate.limit * gate.weights[f"{part} x popularity"]
        assert abs(rest) < 0.25 * abs(gate.weights[part])


@pytest.mark.parametrize(
    ("name", "expected"), [("lm x history", (np.log1p(9) - 1) / 2), ("lm x margin", (2 - 1) / 2)]
)
def test_history_and_margin_are_multipliers(name: str, expected: float) -> None:
    one = GateLists.of({"retrieval": [0.0, 5.0], "lm": [1.0, 0.0]}, [0, 0], 9)
    gate = Gate({name: 1.0}, history=(1, 2), margin=(1, 2))
    assert gate.scores(one)[0].tolist() == pytest.approx([expected, -expected])


@pytest.mark.parametrize(
    "signals",
    [
        {"retrieval": [np.nan, np.nan], "lm": [1.0, 1.0]},
        {"retrieval": [7.0, 7.0]},
        {"retrieval": [1e300, -1e300], "lm": [np.nan, 1.0]},
    ],
    ids=["no retriever", "no part", "huge"],
)
def test_what_is_not_known_counts_as_average(signals: dict[str, list[float]]) -> None:
    gate = Gate({"retrieval": 1.0, "lm": 1.0, "lm x popularity": 1.0, "retrieval x margin": 1.0})
    assert np.isfinite(gate.scores(GateLists.of(signals, [0, 3], 0))).all()


def test_one_candidate_has_the_score_0() -> None:
    gate = Gate({**HEARD, "retrieval x margin": 1.0})
    one = GateLists.of({"retrieval": [2.0], "lm.conditional": [-7.0]}, [5], 3)
    assert gate.scores(one).tolist() == [[0.0]]


def test_lists_of_different_lengths_are_scored_like_each_alone() -> None:
    rng = np.random.default_rng(0)
    each = [
        GateLists.of(
            {"retrieval": rng.normal(size=n), "lm.prior": rng.normal(size=n)}, [n] * n, n, 0
        )
        for n in (5, 1, 3)
    ]
    gate = Gate({"retrieval": 1.0, "lm.prior x popularity": 0.5, "retrieval x margin": 0.1})
    together = gate.scores(GateLists.joined(each))
    for row, one in zip(together, each, strict=True):
        n = one.popularity.shape[1]
        assert row[:n].tolist() == pytest.approx(gate.scores(one)[0].tolist())
        assert np.isnan(row[n:]).all()


def test_margins_do_not_depend_on_the_lists_beside() -> None:
    scores = ([3, 1], [9, 1, 1], [5], [np.nan, 2, 1], range(8))
    each = [GateLists.of({"retrieval": some}, [1] * len(some), 3, 0) for some in scores]
    alone = [float(one.margins[0]) for one in each]
    assert alone[:3] == pytest.approx([2.0, 3 / np.sqrt(2), 0.0])
    assert GateLists.joined(each).margins.tolist() == pytest.approx(alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"retrieval": float("nan")}}, "no finite number"),
        ({"weights": {"retrieval x weather": 1.0}}, "signals times popularity, history, margin"),
        ({"weights": {"": 1.0}}, "allowed are signals"),
        ({"weights": {"retrieval": "much"}}, "valid number"),
        ({"weights": [1.0]}, "dictionary"),
        ({"popularity": [0.0, 0.0]}, "deviation must be above 0"),
        ({"history": [0.0, float("inf")]}, "deviation must be above 0"),
        ({"margin": [1.0]}, "Field required"),
        ({"limit": 0.0}, "a number above 0"),
        ({"popularity": "wide"}, "tuple"),
    ],
    ids=str,
)
def test_a_damaged_gate_is_refused(change: dict[str, Any], message: str) -> None:
    document = json.loads(json.dumps(Gate(HEARD, popularity=SCALE, source="test").document()))
    assert Gate.from_document(document) == Gate(HEARD, popularity=SCALE, source="test")
    with pytest.raises(StorageError, match=message) as error:
        Gate.from_document({**document, **change})
    assert "llmrec fit" in error.value.hint


@pytest.mark.parametrize("document", [None, [], "gate", {}], ids=repr)
def test_what_is_no_gate_is_refused(document: object) -> None:
    with pytest.raises(StorageError, match="damaged gate"):
        Gate.from_document(document)


def test_the_weights_that_made_the_choices_are_found() -> None:
    gate, p_values = choose_gate(made_up(1500, HEARD), popularity=SCALE)
    for name, weight in HEARD.items():
        assert gate.weights[name] == pytest.approx(weight, abs=0.12)
    assert gate.parts == ("lm.conditional",)
    assert p_values["lm.conditional"] < 1e-6 < 0.05 < p_values["lm.prior"]


def test_a_part_may_have_a_negative_weight() -> None:
    gate, _ = choose_gate(made_up(500, {**TRUE, "lm.prior": -0.5}), popularity=SCALE)
    assert gate.weights["lm.prior"] == pytest.approx(-0.5, abs=0.2)


def test_the_product_with_the_history_is_found_where_there_is_one() -> None:
    weights = {"retrieval": 1.0, "lm.conditional": 0.3, "lm.conditional x history": 0.9}
    gate, _ = choose_gate(made_up(800, weights), popularity=SCALE)
    assert gate.weights["lm.conditional x history"] > 0.2
    without, _ = choose_gate(made_up(800, HEARD), popularity=SCALE)
    assert not [name for name in without.weights if name.endswith(("history", "margin"))]


def test_the_gate_is_served_where_it_is_above_its_control() -> None:
    fitted = fit_gate(made_up(200, HEARD), popularity=SCALE, source="made up")
    assert fitted.best == "gate"
    assert fitted.served is fitted.gate
    assert fitted.served.source == "made up"
    assert fitted.gain.low > 0
    assert fitted.ndcg["gate"].mean - fitted.ndcg["control"].mean == pytest.approx(
        fitted.gain.difference
    )
    assert "The language model adds +0." in fitted.verdict
    assert set(fitted.control.parts) == set()
    assert sum(rarity.lists for rarity in fitted.rarity) == fitted.lists == 200


def test_a_model_that_knows_nothing_is_left_out() -> None:
    found = [fit_gate(made_up(80, TRUE, seed), popularity=SCALE) for seed in range(3)]
    assert sum(fitted.best != "gate" for fitted in found) >= 2
    left_out = next(fitted for fitted in found if fitted.best != "gate")
    assert left_out.served.parts == ()
    assert "adds nothing that validation shows" in left_out.verdict
    assert left_out.dropped


def test_the_fit_is_deterministic_whatever_the_order_of_parts() -> None:
    lists = made_up(30, HEARD)
    assert fit_gate(lists, popularity=SCALE) == fit_gate(lists, popularity=SCALE)


@pytest.mark.parametrize("value", [np.nan, 3.0], ids=["unscored", "constant"])
def test_a_part_that_says_nothing_is_dropped(value: float) -> None:
    lists = made_up(200, HEARD)
    silent = np.full(lists.popularity.shape, value)
    lists = GateLists(
        {**lists.signals, "lm.prior": silent}, lists.popularity, lists.history, lists.sizes,
        lists.targets,
    )  # fmt: skip
    gate, p_values = choose_gate(lists, popularity=SCALE)
    assert gate.parts == ("lm.conditional",)
    assert p_values["lm.prior"] == pytest.approx(1)
    assert all(np.isfinite(weight) for weight in gate.weights.values())


def test_unscored_candidates_do_not_break_the_fit() -> None:
    lists = made_up(300, HEARD)
    holes = np.random.default_rng(1).random(lists.popularity.shape) < 0.2
    part = np.where(holes, np.nan, lists.signals["lm.conditional"])
    lists = GateLists(
        {**lists.signals, "lm.conditional": part}, lists.popularity, lists.history, lists.sizes,
        lists.targets,
    )  # fmt: skip
    assert "lm.conditional" in choose_gate(lists, popularity=SCALE)[0].parts


def test_a_part_that_separates_everything_keeps_a_finite_weight() -> None:
    lists = made_up(50, TRUE)
    assert lists.targets is not None
    oracle = np.eye(20)[lists.targets]
    lists = GateLists(
        {**lists.signals, "lm.prior": oracle}, lists.popularity, lists.history, lists.sizes,
        lists.targets,
    )  # fmt: skip
    fitted = fit_gate(lists, popularity=SCALE)
    assert fitted.ndcg["gate"].mean == 1
    assert 0 < fitted.gate.weights["lm.prior"] < 100


def test_lists_of_one_candidate_add_nothing() -> None:
    ones = [
        GateLists.of({"retrieval": [1.0], "lm.conditional": [1.0], "lm.prior": [1.0]}, [3], 2, 0)
    ] * 12
    fitted = fit_gate(GateLists.joined(ones), popularity=SCALE)
    assert fitted.best == "retriever"
    many = made_up(200, HEARD)
    alone, _ = choose_gate(many, popularity=SCALE)
    both, _ = choose_gate(GateLists.joined([*ones, many]), popularity=SCALE)
    assert both.weights["lm.conditional"] == pytest.approx(alone.weights["lm.conditional"], abs=0.1)


def test_lists_that_cannot_be_fitted_on_are_refused() -> None:
    lists = made_up(30, HEARD)
    with pytest.raises(DataError, match="9 lists hold their target; a gate is fitted on 10"):
        fit_gate(lists.rows(np.arange(9)), popularity=SCALE)
    for targets in (None, np.full(30, -1), np.full(30, 20)):
        broken = GateLists(lists.signals, lists.popularity, lists.history, lists.sizes, targets)
        with pytest.raises(OptionError, match="does not hold its target"):
            fit_gate(broken, popularity=SCALE)
    with pytest.raises(OptionError, match="0 lists"):
        GateLists.joined([])
    with pytest.raises(OptionError, match="no target"):
        GateLists.joined([GateLists.of({"retrieval": [1.0]}, [1], 1)])


def test_a_catalogue_of_equal_items_has_a_scale() -> None:
    assert catalogue_scale([3, 3, 3]) == pytest.approx((np.log(4), 1.0))
    assert catalogue_scale([0.0]) == (0.0, 1.0)


def test_classes_of_rarity_hold_each_target_once() -> None:
    met = np.array([0, 4, 5, 9, 10, 29, 30, 5000], dtype=float)
    classes = by_rarity({"row": np.arange(8.0)}, met)
    assert [(each.name, each.lists) for each in classes] == [
        ("0-4", 2), ("5-9", 2), ("10-29", 2), ("30+", 2)
    ]  # fmt: skip
    assert [each.ndcg["row"] for each in classes] == [0.5, 2.5, 4.5, 6.5]
    assert np.isnan(by_rarity({"row": np.ones(1)}, np.ones(1))[3].ndcg["row"])
