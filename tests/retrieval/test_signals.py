from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from llmrec.catalog import Catalog, leave_one_out
from llmrec.errors import DataError, UnknownItemError
from llmrec.evaluation import training_catalog
from llmrec.records import Interaction, Item, User
from llmrec.retrieval import Index, Retriever
from llmrec.retrieval.co_occurrence import BACKWARD, NEIGHBOURS, SHRINKAGE, WINDOW
from llmrec.retrieval.keywords import Postings, tokens
from llmrec.retrieval.search import VectorSearch
from llmrec.retrieval.signals import (
    Content,
    CoOccurrence,
    Friends,
    Keywords,
    Known,
    Popularity,
    Sequential,
    history_rows,
    history_weights,
)

LETTERS = "abcdefgh"
HISTORIES = {"u": "abcd", "v": "bcde", "w": "dcaf", "x": "ab"}
NAMES = ("content", "co_occurrence", "keywords", "popularity", "friends")


def make_index(histories: Mapping[str, str] = HISTORIES, titles: Sequence[str] = ()) -> Index:
    """Items a, b, c...; a history is a word of them, oldest first."""
    titles = titles or [f"Film {letter}" for letter in LETTERS]
    items = {i: Item(i, title) for i, title in zip(LETTERS, titles, strict=False)}
    return Index(
        items,
        np.random.default_rng(0).normal(size=(len(items), 3)).astype(np.float32),
        tuple(
            Interaction(user, item, None, time)
            for user, history in histories.items()
            for time, item in enumerate(history)
        ),
        friends={"u": ("v", "w", "nobody"), "v": ()},
    )


def somebody(history: str = "", friends: tuple[str, ...] = ()) -> User:
    return User("me", tuple(Interaction("me", item) for item in history), friends=friends)


def scores_of(signal: Known, index: Index, user: User) -> np.ndarray:
    return signal.of(user, history_rows(index, user)).everything()


def test_content_is_the_cosine_from_the_mean_vector() -> None:
    index, user = make_index(), somebody("ab")
    centred = np.asarray(index.vectors) - np.asarray(index.vectors).mean(axis=0)
    units = [row / math.sqrt(sum(row**2)) for row in centred]
    taste = 0.5 ** (1 / 10) * units[0] + units[1]
    expected = [float(row @ taste) / math.sqrt(sum(taste**2)) for row in units]
    np.testing.assert_allclose(scores_of(Content(index), index, user), expected, atol=1e-6)


def plain_co_occurrence(histories: Mapping[str, str], user: User) -> list[float]:
    counts = {i: sum(word.count(i) for word in histories.values()) for i in LETTERS}
    total = dict.fromkeys(LETTERS, 0.0)
    weights = history_weights(user, 2.0)
    for row, weight in zip(user.history, weights, strict=True):
        for word in histories.values():
            for at, first in enumerate(word):
                for other, second in enumerate(word):
                    steps = other - at
                    if first != row.item_id or first == second or not 0 < abs(steps) <= WINDOW:
                        continue
                    value = abs(steps) ** -0.5 * (1.0 if steps > 0 else BACKWARD)
                    value /= (counts[first] + SHRINKAGE) ** 0.5
                    total[second] += weight * value / (counts[second] + SHRINKAGE) ** 0.6
    return [math.sqrt(value) for value in total.values()]


@pytest.mark.parametrize("history", ["a", "abc", "gb", "g", "hgfedcba"])
def test_co_occurrence_is_the_plain_formula(history: str) -> None:
    user = somebody(history)
    index = make_index()
    scores = scores_of(CoOccurrence(index), index, user)
    np.testing.assert_allclose(scores, plain_co_occurrence(HISTORIES, user), atol=1e-12)


def test_later_items_count_more_in_co_occurrence() -> None:
    index = make_index({"u": "abc"})
    scores = scores_of(CoOccurrence(index), index, somebody("b"))
    assert scores[LETTERS.index("c")] > scores[LETTERS.index("a")] > 0


def test_the_window_ends_and_users_are_kept_apart() -> None:
    long = [Interaction("u", "a"), *(Interaction("u", "b") for _ in range(WINDOW))]
    rows = (*long, Interaction("u", "c"), Interaction("v", "d"))
    index = replace(make_index(), interactions=rows)
    scores = scores_of(CoOccurrence(index), index, somebody("a"))
    assert scores[1] > 0
    assert scores[2] == scores[3] == 0


def test_only_the_best_neighbours_are_kept() -> None:
    n = NEIGHBOURS + 50
    items = {str(i): Item(str(i)) for i in range(n + 1)}
    rows = [Interaction(f"u{i}", item) for i in range(n) for item in ("0", str(i + 1))]
    rows += [Interaction("twice", item) for item in ("0", str(n))]
    index = Index(items, np.ones((n + 1, 2), dtype=np.float32), tuple(rows))
    scores = scores_of(CoOccurrence(index), index, User("me", (Interaction("me", "0"),)))
    assert np.count_nonzero(scores) == NEIGHBOURS
    assert scores[n] == scores.max() > 0


def test_keywords_are_bm25() -> None:
    titles = ["red tea", "red red book", "blue tea cup", "book"]
    index = make_index({}, titles)
    lengths = [len(title.split()) for title in titles]
    scores = []
    for title, length in zip(titles, lengths, strict=True):
        total = 0.0
        for word in ("red", "tea"):
            df = sum(word in other.split() for other in titles)
            tf = title.split().count(word)
            idf = math.log(1 + (4 - df + 0.5) / (df + 0.5))
            norm = 1.5 * (1 - 0.75 + 0.75 * length / (sum(lengths) / 4))
            total += idf * tf / (tf + norm)
        scores.append(total)
    rows, found = index.postings.search("Red TEA")
    np.testing.assert_allclose(found, np.array(scores)[rows], rtol=1e-5)
    np.testing.assert_allclose(scores_of(Keywords(index), index, somebody("a")), scores, rtol=1e-5)


def test_chinese_keywords_match_by_pairs_of_characters() -> None:
    titles = ["红楼梦", "三国演义", "红楼真梦传", "tea", "西游记"]
    index = make_index({}, titles)
    scores = scores_of(Keywords(index), index, somebody("a"))
    assert scores[0] > scores[2] > 0
    assert scores[1] == scores[3] == scores[4] == 0
    assert tokens("红楼梦 of 曹") == ["红楼", "楼梦", "of", "曹"]
    assert tokens("Straße, ÉCOLE 42") == ["strasse", "école", "42"]


def test_words_keep_their_marks_and_korean_words_match_without_their_particles() -> None:
    assert tokens("हिन्दी फ़िल्म") == ["हिन्दी", "फ़िल्म"]
    assert tokens("Ame\u0301lie") == tokens("Am\u00e9lie") == ["am\u00e9lie"]
    assert set(tokens("영화")) <= set(tokens("영화를 보다"))


def test_words_that_no_item_has_say_nothing() -> None:
    postings = Postings.of(["tea", "", "cup"])
    for query in ("", "!?", "sofa"):
        assert not postings.search(query)[0].size
    assert not Postings.of(["", "!"]).search("tea")[0].size


def test_a_profile_is_a_query_too() -> None:
    index = make_index({}, ["green tea", "book"])
    scores = scores_of(Keywords(index), index, User("new", profile={"likes": ("tea",)}))
    assert scores[0] > scores[1] == 0


def test_popularity_and_friends_are_logs_of_counts() -> None:
    index = make_index()
    np.testing.assert_allclose(
        scores_of(Popularity(index), index, somebody()), np.log1p([3, 3, 3, 3, 1, 1, 0, 0])
    )
    scores = scores_of(Friends(index), index, index.user("u"))
    np.testing.assert_allclose(scores, np.log1p([1, 1, 2, 2, 1, 1, 0, 0]))
    assert not scores_of(Friends(index), index, somebody("ab", ("nobody",))).any()


class Last:
    """A user is the vector of the last item."""

    def __init__(self, *item_ids: str) -> None:
        self.item_ids = item_ids

    def user_vector(self, history: np.ndarray, user: User) -> np.ndarray:
        assert len(history) == len(user.history)
        found: np.ndarray = history[-1] if len(history) else np.zeros(8)
        return found


def test_the_sequence_signal_is_an_inner_product() -> None:
    index = make_index()
    signal = Sequential(index, Last(), np.eye(8))
    assert scores_of(signal, index, somebody("ac")).tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match="8 items"):
        Sequential(index, Last(), np.eye(7))


def test_an_item_that_training_did_not_meet_is_average_in_the_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def best(
        search: VectorSearch, query: np.ndarray, n: int, allowed: np.ndarray, share: float
    ) -> tuple[np.ndarray, float]:
        assert share == np.mean(allowed)
        rows = np.flatnonzero(allowed)[:n]
        return rows, float(search.products_at(rows, query).min())

    monkeypatch.setattr(VectorSearch, "best", best)
    index = make_index()
    vectors = np.arange(64, dtype=np.float32).reshape(8, 8) ** 2
    history = somebody("gc")
    plain = Sequential(index, Last(), vectors).of(history, [6, 2])
    values = Sequential(index, Last(*"abcdef"), vectors).of(history, [6, 2])
    known, new = np.arange(6), np.array([6, 7])
    np.testing.assert_array_equal(values.at(known), plain.at(known))
    standardised = values.standardised(new)
    assert standardised is not None
    np.testing.assert_allclose(standardised, 0, atol=1e-9)
    np.testing.assert_array_equal(values.everything()[new], values.at(new))
    rows, bound = values.best(4, np.ones(8, dtype=bool), 1.0)
    assert rows.tolist() == [0, 1, 2, 3]
    assert bound == 0  # the new ones reach more than these low ones
    assert not values.best(4, np.isin(np.arange(8), new), 0.25)[0].size
    for all_alike in (Last(*"abcdefgh"), Last("another shop's")):
        np.testing.assert_array_equal(
            Sequential(index, all_alike, vectors).of(history, [6, 2]).at(new), plain.at(new)
        )


def values_of(index: Index, name: str, user: User) -> np.ndarray:
    return Retriever(index, weights={name: 1.0}).signals(user)[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_held_out_row_changes_nothing(name: str) -> None:
    histories = {f"u{i}": word for i, word in enumerate(["abcdef", "bcdefg", "cadbef"])}
    other = {user: f"{word[:-2]}hg" for user, word in histories.items()}
    found = []
    for whole in (histories, other):
        index = make_index(whole)
        catalog = Catalog(index.items, tuple(index.interactions))
        kept = training_catalog(catalog, leave_one_out(catalog))
        index = replace(index, interactions=kept.interactions)
        user = User("me", (Interaction("me", "a"),), friends=("u0", "u1"))
        found.append(values_of(index, name, user))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_signal_is_float64_finite_deterministic_and_serves_a_cold_user(name: str) -> None:
    for user in (somebody(), somebody("abc"), somebody("a", ("v",))):
        first, again = (values_of(index, name, user) for index in (make_index(), make_index()))
        assert first.shape == (8,)
        assert first.dtype == np.float64
        assert np.isfinite(first).all()
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", NAMES)
def test_an_index_without_interactions_is_served(name: str) -> None:
    index = make_index({})
    assert len(Retriever(index, weights={name: 1.0}).retrieve(somebody("a"))) == 7


@pytest.mark.parametrize("name", NAMES)
def test_a_history_of_unknown_items_is_refused(name: str) -> None:
    retriever = Retriever(make_index(), weights={name: 1.0})
    with pytest.raises(UnknownItemError, match="'z'"):
        retriever.retrieve(somebody("az"))
