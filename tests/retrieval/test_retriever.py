from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import pytest

from llmrec.errors import OptionError, UnknownItemError
from llmrec.records import Interaction, Item, User
from llmrec.retrieval import Equals, Filter, Index, OneOf, Retriever, standardise

KINDS = ("tea", "tea", "tea", "book", "book", "book")
IDS = tuple(f"{kind} {number}" for number, kind in enumerate(KINDS))
VECTORS = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9], [0.2, 0.8]])


class OneHot:
    """Embeds a text by the kind that it names."""

    name = "one-hot"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        return np.array([[float("tea" in text), float("book" in text)] for text in texts])


def make_index(chosen: Sequence[str] = ()) -> Index:
    return Index(
        {id_: Item(id_, attributes={"kind": kind}) for id_, kind in zip(IDS, KINDS, strict=True)},
        VECTORS.astype(np.float32),
        tuple(Interaction(f"user {number}", item_id) for number, item_id in enumerate(chosen)),
        encoder="one-hot",
    )


def user(*history: tuple[str, float | None]) -> User:
    return User("me", tuple(Interaction("me", item_id, rating) for item_id, rating in history))


def content_and(popularity: float) -> dict[str, float]:
    return {"content": 1.0, "popularity": popularity}


def ids(retriever: Retriever, who: User, k: int = 100) -> list[str]:
    return [candidate.item_id for candidate in retriever.retrieve(who, k)]


def kind(retriever: Retriever, who: User) -> str:
    """The kind of the best item."""
    return ids(retriever, who, 1)[0].split()[0]


def test_content_retrieves_items_similar_to_the_history() -> None:
    retriever = Retriever(make_index(), weights=content_and(0))
    found = retriever.retrieve(user(("book 3", None)), 2)
    assert {candidate.item_id for candidate in found} == {"book 4", "book 5"}
    assert found[0].score > found[1].score
    assert all(candidate.signals["content"] > 0.9 for candidate in found)


def test_popularity_retrieves_popular_items() -> None:
    index = make_index(["tea 2", "tea 2", "tea 2", "book 5"])
    found = Retriever(index, weights=content_and(100)).retrieve(user(("book 3", None)), 2)
    assert [candidate.item_id for candidate in found] == ["tea 2", "book 5"]
    assert found[0].signals["popularity"] == pytest.approx(math.log(4))


def test_the_score_is_the_sum_of_the_standardised_signals() -> None:
    index = make_index(["tea 2", "book 5", "book 5"])
    retriever = Retriever(index, weights=content_and(0.7))
    found = {c.item_id: c for c in retriever.retrieve(user(("tea 0", 3.0)), include_seen=True)}
    content = standardise([found[item_id].signals["content"] for item_id in IDS])
    popularity = standardise([found[item_id].signals["popularity"] for item_id in IDS])
    for row, item_id in enumerate(IDS):
        assert found[item_id].score == pytest.approx(content[row] + 0.7 * popularity[row], abs=1e-6)


def test_recent_and_liked_items_weigh_more() -> None:
    retriever = Retriever(make_index(), weights=content_and(0), half_life=1)
    assert kind(retriever, user(("tea 0", None), ("book 3", None))) == "book"
    assert kind(retriever, user(("book 3", None), ("tea 0", None))) == "tea"
    even = Retriever(make_index(), weights=content_and(0), half_life=math.inf)
    assert kind(even, user(("tea 0", 5.0), ("book 3", 1.0))) == "tea"
    assert kind(even, user(("tea 0", 1.0), ("book 3", 5.0))) == "book"


def test_seen_items_are_excluded_during_the_search() -> None:
    retriever = Retriever(make_index())
    who = user(("tea 0", None), ("tea 1", None))
    assert set(ids(retriever, who, 4)) == set(IDS) - {"tea 0", "tea 1"}
    seen_too = retriever.retrieve(who, include_seen=True)
    assert len(seen_too) == 6


def test_filters_hold_during_the_search() -> None:
    retriever = Retriever(make_index())
    found = retriever.retrieve(user(("tea 0", None)), 3, filters=[Equals("kind", "book")])
    assert {candidate.item_id for candidate in found} == {"book 3", "book 4", "book 5"}


def test_filter_without_matches_returns_no_items() -> None:
    filters: list[Filter] = [Equals("kind", "book"), OneOf("kind", ("tea", "cup"))]
    assert Retriever(make_index()).retrieve(user(("tea 0", None)), filters=filters) == ()


def test_large_k_returns_all_items() -> None:
    assert len(Retriever(make_index()).retrieve(user(("tea 0", None)), 1_000)) == 5


def test_equal_scores_come_in_the_order_of_the_index() -> None:
    items = {str(number): Item(str(number)) for number in range(50)}
    retriever = Retriever(Index(items, np.ones((50, 4), dtype=np.float32)))
    assert ids(retriever, User("new"), 7) == [str(number) for number in range(7)]


def test_the_best_k_are_the_beginning_of_all() -> None:
    rng = np.random.default_rng(0)
    items = {str(number): Item(str(number)) for number in range(300)}
    vectors = rng.integers(-2, 3, (300, 3)).astype(np.float32)  # many ties
    retriever = Retriever(Index(items, vectors), weights=content_and(0))
    whole = ids(retriever, user(("5", None)))
    for k in (1, 10, 99):
        assert ids(retriever, user(("5", None)), k) == whole[:k]


def test_given_candidates_are_scored_as_in_the_search() -> None:
    retriever = Retriever(make_index(["tea 2", "book 5", "book 5"]))
    who = user(("book 3", 4.0))
    searched = {candidate.item_id: candidate for candidate in retriever.retrieve(who)}
    given = retriever.candidates(who, ["tea 2", "book 4", "tea 0"])
    assert sorted(candidate.item_id for candidate in given) == ["book 4", "tea 0", "tea 2"]
    assert [c.score for c in given] == sorted((c.score for c in given), reverse=True)
    assert all(candidate == searched[candidate.item_id] for candidate in given)


def test_the_order_of_given_candidates_does_not_matter() -> None:
    items = {name: Item(name) for name in "abcd"}
    retriever = Retriever(Index(items, np.ones((4, 2), dtype=np.float32)))
    for order in ("abcd", "dcba", "cadb"):
        given = retriever.candidates(User("new"), list(order))
        assert "".join(candidate.item_id for candidate in given) == "abcd"


def test_one_candidate_and_one_already_seen() -> None:
    retriever = Retriever(make_index())
    (only,) = retriever.candidates(user(("tea 0", None)), ["tea 0"])
    assert only.item_id == "tea 0"
    assert only.signals["content"] == pytest.approx(1)


def test_no_candidates_and_repeated_ones_are_refused() -> None:
    retriever = Retriever(make_index())
    with pytest.raises(OptionError, match="no candidates"):
        retriever.candidates(User("new"), [])
    with pytest.raises(OptionError, match="more than once: tea 1"):
        retriever.candidates(User("new"), ["tea 1", "book 3", "tea 1"])


def test_unknown_ids_are_refused_with_the_nearest() -> None:
    retriever = Retriever(make_index())
    with pytest.raises(UnknownItemError, match="'tee 1'") as caught:
        retriever.candidates(User("new"), ["tee 1"])
    assert "tea 1" in caught.value.hint
    with pytest.raises(UnknownItemError, match="'cup 9'"):
        retriever.retrieve(user(("cup 9", None)))


def test_cold_start_falls_back_to_popularity_with_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = make_index(["tea 2", "book 5", "book 5"])
    with caplog.at_level(logging.INFO):
        for weight in (0.0, 0.5):
            found = Retriever(index, weights=content_and(weight)).retrieve(User("new"), 2)
            assert [candidate.item_id for candidate in found] == ["book 5", "tea 2"]
            assert found[0].signals["content"] == 0
    assert "new has no history" in caplog.text


def test_cold_start_uses_the_profile() -> None:
    index = make_index(["tea 2", "tea 2"])
    reader = User("new", profile={"hobbies": ("book clubs",)})
    with_encoder = Retriever(index, weights=content_and(0), encoder=OneHot())
    assert kind(with_encoder, reader) == "book"
    assert ids(Retriever(index, weights=content_and(0)), reader, 1) == ["tea 2"]


def test_one_item_and_equal_items_can_be_searched() -> None:
    one = Retriever(Index({"1": Item("1")}, np.ones((1, 3), dtype=np.float32)))
    assert one.retrieve(User("new"))[0].score == 0
    assert one.retrieve(user(("1", 2.0))) == ()


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_popularity_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(OptionError, match="finite numbers from 0 on"):
        Retriever(make_index(), weights=content_and(weight))


@pytest.mark.parametrize("half_life", [0, -1, math.nan])
def test_a_half_life_out_of_range_is_refused(half_life: float) -> None:
    with pytest.raises(OptionError, match="half_life"):
        Retriever(make_index(), half_life=half_life)


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(k: int) -> None:
    with pytest.raises(OptionError, match="k is"):
        Retriever(make_index()).retrieve(User("new"), k)


def test_another_encoder_than_the_indexs_is_refused() -> None:
    index = Index({"1": Item("1")}, np.ones((1, 2), dtype=np.float32), encoder="other")
    with pytest.raises(OptionError, match=r"'other'.*'one-hot'"):
        Retriever(index, encoder=OneHot())
