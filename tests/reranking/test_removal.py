from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from llmrec.errors import OptionError, UnknownItemError
from llmrec.explaining.units import rewordings, units_of, without
from llmrec.models import LabelRequest, LogProbs
from llmrec.prompting import Budget, Context, context_of, load_template
from llmrec.records import Candidate, Insight, Interaction, Item, Prompt, Review, User
from llmrec.reranking import STRATEGIES, Calibrated, Gate, Likelihood, Pointwise, Request, Reranker
from llmrec.reranking.contrast import OutOfTop, contrast, smallest_removal
from llmrec.reranking.removal import LEAST_NOISE, Removal, find_reasons, noise_of
from llmrec.retrieval import Index, Retriever
from tests.reranking.oracle import Oracle


def whim(title: str, place: int, prompt: Prompt) -> float:
    """An answer that every word of the prompt moves."""
    return (
        zlib.crc32(f"{title}{place}{prompt.system}{prompt.user}{prompt.text}".encode()) % 997 / 99
    )


def kites(n: int = 6) -> dict[str, Item]:
    colours = ("red", "blue")
    texts = "It flies. It lands."
    items = {
        f"k{i}": Item(f"k{i}", f"Kite {i}", texts, {"colour": colours[i % 2]}) for i in range(n)
    }
    return items | {f"m{i}": Item(f"m{i}", f"Mug {i}") for i in range(4)}


@pytest.fixture(scope="module")
def shop() -> Index:
    items = kites()
    rows = [
        ("u", "m0"),
        ("u", "m1"),
        ("u", "m2"),
        ("v", "m1"),
        ("v", "k1"),
        ("w", "m2"),
        ("w", "k1"),
    ]
    rows += [("x", "m2"), ("x", "k3"), ("y", "m0"), ("y", "k2")]
    met = tuple(Interaction(user, item, 5.0, at) for at, (user, item) in enumerate(rows))
    vectors = np.random.default_rng(0).normal(size=(len(items), 5)).astype(np.float32)
    return Index(items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), met)


def asked(index: Index | None, user: User | None = None) -> Request:
    """The six kites for a user, by the retriever where there is an index."""
    met = tuple(Interaction("u", f"m{i}", 5.0, i) for i in range(3))
    if index is None:
        scores = [0.9, 0.1, float("nan"), 0.3, 0.2, 0.7]
        given = tuple(Candidate(f"k{i}", score) for i, score in enumerate(scores))
        return Request(user or User("u", met), given, Context(kites()))
    user = user or index.user("u")
    found = Retriever(index).candidates(user, [f"k{i}" for i in range(6)])
    return Request(user, found, context_of(index))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("known", [True, False])
def test_parts_are_exact_and_add_up(name: str, known: bool, shop: Index) -> None:
    index = shop if known else None
    weights = {"retrieval": 0.7, name: 0.4, f"{name} x history": 0.1}
    gate = Gate(weights | {"popularity": 0.2} if known else weights, history=(0.5, 2.0))
    reranker = Reranker(Oracle(whim), index, strategy=name, weights=gate)
    request = asked(index)
    (reasons,) = find_reasons(reranker, request, ["k1"], pairs=2)
    unit = "history:2"
    past = tuple(row for row in request.user.history if row.item_id != "m1")
    changed = replace(request, user=replace(request.user, history=past))
    before, after = ({c.item_id: c.score for c in r.candidates} for r in (request, changed))
    if index is not None:
        after = {
            c.item_id: c.score for c in Retriever(index).candidates(changed.user, list(before))
        }
    (old, new) = (each[name].scores for each in reranker.judge_many([request, changed]))
    at = list(before).index("k1")
    slope = (0.4 + 0.1 * (np.log1p(3) - 0.5) / 2.0) / np.std(old)
    spread = np.nanstd(list(before.values()))
    parts = reasons.parts[unit]
    assert parts[name] == pytest.approx(slope * (old[at] - new[at]), abs=1e-9)
    assert parts.get("retrieval", 0.0) == pytest.approx(0.7 * (before["k1"] - after["k1"]) / spread)
    assert bool(parts.get("retrieval")) == known
    assert reasons.weights[unit] == pytest.approx(sum(parts.values()))
    (fact,) = [fact for fact in reasons.evidence if fact.unit == unit]
    assert fact.weight == pytest.approx(sum(fact.parts.values())) == reasons.weights[unit]
    (ranking,) = reranker.rank_many([request])
    (row,) = [row for row in ranking.items if row.item_id == "k1"]
    assert reasons.score == pytest.approx(row.score)
    assert sum(reasons.carried.values()) == pytest.approx(row.score, abs=1e-3)
    assert np.isfinite(list(reasons.pairs.values())).all()


def unscored() -> Request:
    """The kites without scores of a retriever: the strategy ranks alone."""
    request = asked(None)
    given = tuple(replace(each, score=float("nan")) for each in request.candidates)
    return replace(request, candidates=given)


def loves(*wanted: str) -> Oracle:
    """A model that answers by how many of these words its prompt has."""

    def label(title: str, place: int, prompt: Prompt) -> float:
        text = f"{prompt.user}{prompt.text}".casefold()
        return sum(word.casefold() in text for word in wanted) - 5.0

    return Oracle(label)


DETAILS = Pointwise(load_template("pointwise/details"))


def test_the_reason_comes_first_and_is_the_only_one(shop: Index) -> None:
    (reasons,) = find_reasons(Reranker(loves("mug 1")), unscored(), ["k1"], pairs=0)
    assert [fact.unit for fact in reasons.telling] == ["history:2"]
    assert reasons.evidence[0].unit == "title"
    assert reasons.evidence[0].weight is None
    reranker = Reranker(
        loves("red"), shop, strategy=DETAILS, weights={"retrieval": 0, "pointwise": 1}
    )
    (reasons,) = find_reasons(reranker, asked(shop), ["k2"], pairs=0)
    assert [fact.unit for fact in reasons.telling] == ["attribute:colour"]


def test_a_pair_that_only_counts_together_interacts() -> None:
    either = Oracle(lambda _t, _p, prompt: float("Mug 0" in str(prompt) or "Mug 2" in str(prompt)))
    model = Reranker(either, strategy=Pointwise())
    (reasons,) = find_reasons(model, unscored(), ["k1"])
    assert set(reasons.weights.values()) == {0.0}
    assert reasons.pairs == {}
    assert not reasons.telling


def test_no_reason_where_wording_moves_as_much() -> None:
    refused = 0
    for seed in range(40):

        def draw(title: str, place: int, prompt: Prompt, seed: int = seed) -> float:
            return whim(f"{seed}{title}", place, prompt)

        (reasons,) = find_reasons(Reranker(Oracle(draw)), asked(None), ["k1"], pairs=0)
        refused += not reasons.telling
        assert reasons.carried
    assert refused >= 34


def test_popularity_carries_a_score_that_rests_on_nothing_else(shop: Index) -> None:
    gate = Gate({"popularity": 1.0, "pointwise": 0.0})
    reranker = Reranker(loves(), shop, strategy="pointwise", weights=gate)
    (reasons,) = find_reasons(reranker, asked(shop), ["k1"])
    assert not reasons.telling
    assert next(iter(reasons.carried)) == "popularity"
    assert reasons.weights["popularity"] == pytest.approx(reasons.score)


def test_noise_grows_with_the_units_that_may_exceed_it() -> None:
    assert noise_of([], 5) == noise_of([0.0, float("nan")], 5) == LEAST_NOISE
    assert noise_of([1.0, -1.0, 0.0], 1) == pytest.approx(2.92, abs=0.01)  # t of 2 degrees, .95
    assert noise_of([1.0, -1.0], 10) > noise_of([1.0, -1.0], 1)
    assert noise_of([1.0, -1.0] * 10, 10) < noise_of([1.0, -1.0], 10)


def test_failed_requests_leave_facts_without_weight() -> None:
    def label(title: str, place: int, prompt: Prompt) -> float | None:
        return 1.0 if "mug 1" in f"{prompt.text}".casefold() else None

    reranker = Reranker(Oracle(label), strategy=Likelihood(prior_weight=0))
    (reasons,) = find_reasons(reranker, unscored(), ["k1"])
    assert "history:2" not in reasons.parts
    weights = {fact.unit: fact.weight for fact in reasons.evidence}
    assert weights["history:2"] is None
    assert weights["history:1"] is not None


@pytest.mark.parametrize("known", [True, False])
def test_an_unscored_candidate_is_the_last_and_has_no_weights(known: bool, shop: Index) -> None:
    def label(title: str, place: int, prompt: Prompt) -> float | None:
        return None if "Kite 0" in prompt.user else whim(title, place, prompt)

    weights = {"retrieval": 3.0, "pointwise": 1.0, "popularity": 3.0 * known}
    index = shop if known else None
    reranker = Reranker(Oracle(label), index, strategy="pointwise", weights=Gate(weights))
    for request in (asked(index), unscored()):
        (ranking,) = reranker.rank_many([request])
        found = {each.item_id: each for each in find_reasons(reranker, request, ranking.item_ids)}
        assert [each.rank for each in found.values()] == [1, 2, 3, 4, 5, 6]
        gone = found["k0"]
        assert (np.isnan(gone.score), gone.rank, gone.weights, gone.carried) == (True, 6, {}, {})
        assert {fact.weight for fact in gone.evidence} == {None}


def rated(*rows: tuple[str, float]) -> User:
    return User("u", tuple(Interaction("u", i, r, n) for n, (i, r) in enumerate(rows)))


@pytest.mark.parametrize(
    ("user", "candidates", "units"),
    [
        (User("new"), ["k1", "k2"], {"attribute:colour", "description#1", "description#2"}),
        (User("new"), ["m1", "m2"], set()),
        (User("new", profile={"town": "Bergen"}, query="red"), ["m1"], {"profile:town", "query"}),
        (rated(("m0", 1.0), ("m1", 1.0)), ["m2", "m3"], {"history:1", "history:2"}),
        (rated(("m1", 5.0), ("m0", 5.0)), ["m1", "m3"], {"history:1", "history:2"}),
        (rated(("m0", 5.0), ("m2", 4.0), ("m0", 2.0)), ["m1", "m3"], {"history:2", "history:3"}),
        (rated(("m0", 5.0)), ["m1"], {"history:1"}),
    ],
    ids=["no history", "no unit", "profile", "all disliked", "in history", "twice", "alone"],
)
@pytest.mark.parametrize("known", [True, False])
def test_unusual_requests(
    user: User, candidates: list[str], units: set[str], known: bool, shop: Index
) -> None:
    reranker = Reranker(Oracle(whim), shop if known else None, strategy=DETAILS)
    if known:
        request = Request(user, Retriever(shop).candidates(user, candidates), context_of(shop))
    else:
        request = Request(user, tuple(Candidate(c, 0.5) for c in candidates), Context(kites()))
    (reasons,) = find_reasons(reranker, request, candidates[:1])
    assert reasons.parts.keys() - {"popularity"} == units
    assert np.isfinite([*reasons.weights.values(), reasons.score, reasons.noise]).all()
    assert all(fact.unit for fact in reasons.evidence)
    own = find_reasons(reranker, request, candidates)[0]
    assert own.weights == pytest.approx(reasons.weights)


def test_an_item_that_is_no_candidate() -> None:
    with pytest.raises(UnknownItemError, match="m3"):
        find_reasons(Reranker(Oracle(whim)), asked(None), ["m3"])


def test_no_older_item_takes_the_place_of_one_left_out() -> None:
    request = asked(None, rated(*((f"m{n}", 5.0) for n in range(4))))
    reranker = Reranker(Oracle(whim), budget=Budget(history_items=2))
    removal = Removal(reranker, request)
    assert removal.left_out("k1", []).shown == 2
    assert removal.left_out("k1", ["history:4"]).shown == 1
    assert removal.left_out("k1", ["history:3", "history:4"]).shown == 0
    (reasons,) = find_reasons(reranker, request, ["k1"])
    assert {unit for unit in reasons.parts if "history" in unit} == {"history:3", "history:4"}


def test_all_units_are_judged_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    answer = Oracle.label_log_probs

    def counted(model: Oracle, requests: Sequence[LabelRequest]) -> LogProbs:
        calls.append(len(requests))
        return answer(model, requests)

    monkeypatch.setattr(Oracle, "label_log_probs", counted)
    reranker = Reranker(Oracle(whim), strategy=DETAILS)
    find_reasons(reranker, asked(None), ["k1", "k2"], pairs=0)
    assert len(calls) == 1
    reranker.explain_many([asked(None)], weigh=True)  # texts read no pairs
    assert len(calls) == 2
    (*_, last) = reranker.reasons(asked(None))
    assert len(calls) == 4
    assert last.pairs


def test_copies_leave_out_what_is_named_and_nothing_else() -> None:
    item = Item("a", "A", "One. Two! Three?", {"brand": "Acme", "year": 1990})
    reviews = (Review("a", "Mine.", user_id="u"), Review("a", "Good. Bad. Ugly.", user_id="v"))
    insight = Insight(facts=("It is old.", "It is red."))
    context = Context({"a": item}, lambda _: reviews, lambda _: insight)
    user = User("u", profile={"age": 7}, friends=("v",), query="red")
    units = units_of(context, user, "a", history=20)
    assert units == (
        "profile:age", "query", "friends", "attribute:brand", "attribute:year", "description#1",
        "description#2", "description#3", "fact:1", "fact:2", "review:2#1", "review:2#2",
        "review:2#3",
    )  # fmt: skip
    gone = ["description#2", "attribute:brand", "fact:1", "review:2#2", "query", "profile:age"]
    changed, person = without(context, user, "a", gone)
    assert changed.items["a"].description == "One.  Three?"
    assert changed.items["a"].attributes == {"year": 1990}
    assert changed.insight("a").facts == ("It is red.",)
    assert [each.text for each in changed.reviews("a")] == ["Mine.", "Good.  Ugly."]
    assert (person.query, dict(person.profile), person.friends) == ("", {}, ("v",))
    assert without(context, user, "a", [])[0] is context
    assert context.items["a"] is item
    for copy, reader in rewordings(context, user, "a", history=20):
        assert copy.items["a"].title == "A"
        assert reader.friends == user.friends


@pytest.mark.parametrize(("history", "titles"), [(0, 0), (1, 3), (2, 6), (20, 6)])
def test_few_titles_are_reworded_in_every_form(history: int, titles: int) -> None:
    items = {name: Item(name, name) for name in "abc"}
    user = rated(("a", 5.0), ("b", 5.0), ("c", 5.0), ("b", 4.0))
    copies = [c for c, _ in rewordings(Context(items), user, "a", history=history)]
    changed = [one.items[n].title for one in copies for n in items if one.items[n] != items[n]]
    assert len({*changed}) == len(copies) == titles
    assert changed[:2] == ['"b"', "c." if history > 1 else "b."][:titles]


def test_contrast_and_the_smallest_removal(shop: Index) -> None:
    items = kites(3)
    request = Request(
        unscored().user, tuple(Candidate(f"k{i}", float("nan")) for i in range(3)), Context(items)
    )
    told = {"Kite 0": ("Mug 0", "Mug 1"), "Kite 1": ("Mug 2",), "Kite 2": ()}
    likes = Oracle(lambda t, _p, q: sum(m in f"{q.text}" for m in told.get(t, ())) - 5.0)
    reranker = Reranker(likes, strategy=Likelihood(prior_weight=0))
    found = contrast(reranker, request, "k0", "k1", k=1)
    assert found.lead == pytest.approx(1.0)
    assert found.differences == {"history:1": 1.0, "history:2": 1.0, "history:3": -1.0} | {
        unit: 0.0 for unit in found.differences if "history" not in unit
    }
    assert found.drop == OutOfTop(("history:1", "history:2"), 2)
    weighed = found.reasons.usage + found.against.usage
    assert found.usage.prompts == weighed.prompts + 2 * 3  # two more lists of three titles
    assert contrast(reranker, request, "k1", "k0", k=1).drop is None  # it is not the first
    assert contrast(reranker, request, "k0", "k1", k=3).drop is None  # there is nothing behind it
    with pytest.raises(OptionError, match="with itself"):
        contrast(reranker, request, "k0", "k0")
    with pytest.raises(OptionError, match="k is 0"):
        contrast(reranker, request, "k0", "k1", k=0)


def test_the_retriever_is_ranked_anew(shop: Index) -> None:
    gate = Gate({"retrieval": 1.0, "pointwise": 0.0})
    reranker = Reranker(loves(), shop, strategy=Calibrated(Pointwise()), weights=gate)
    request = asked(shop)
    past = tuple(row for row in request.user.history if row.item_id != "m1")
    changed = Retriever(shop).candidates(
        replace(request.user, history=past), [f"k{i}" for i in range(6)]
    )
    ranking = Removal(reranker, request).ranking("k1", ["history:2"])
    assert ranking.item_ids == tuple(each.item_id for each in changed)
    (reasons,) = find_reasons(reranker, request, [request.candidates[0].item_id])
    assert reasons.rank == 1
    drop = smallest_removal(Removal(reranker, request), reasons, 1)
    assert drop is None or drop.rank > 1
