from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import DataError, OptionError, StorageError, UnknownItemError
from llmrec.retrieval.vectors import VectorStore

CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.integers(0, 30), st.integers(0, 999)),
    max_size=40,
)


def made(n: int, exact_below: int = 1000, seed: int = 0) -> VectorStore:
    vectors = np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)
    return VectorStore.of([f"i{number}" for number in range(n)], vectors, exact_below=exact_below)


@settings(deadline=None, max_examples=60)
@given(changes=CHANGES, k=st.integers(1, 40), masked=st.booleans())
def test_exact_search_is_that_of_a_dict(
    changes: list[tuple[str, int, int]], k: int, masked: bool
) -> None:
    store, plain = VectorStore.of([], np.empty((0, 3))), dict[str, np.ndarray]()
    for what, name, seed in changes:
        item_id = str(name)
        if what == "put":
            plain[item_id] = np.random.default_rng(seed).integers(-2, 3, 3).astype(np.float32)
            store = store.put([item_id], plain[item_id][None])
        elif item_id in plain:
            del plain[item_id]
            store = store.delete([item_id])
    assert store.ids == tuple(plain)
    allowed = np.arange(len(plain)) % 3 > 0 if masked else None
    query = np.array([1, -1, 0.5], dtype=np.float32)
    scores = np.array([vector @ query for vector in plain.values()])
    order = [r for r in np.argsort(-scores, kind="stable") if allowed is None or allowed[r]][:k]
    rows, found = store.search(query[None], k, allowed=allowed)
    assert rows[0].tolist() == order + [-1] * (k - len(order))
    np.testing.assert_array_equal(found[0, : len(order)], scores[order])
    assert np.isnan(found[0, len(order) :]).all()


def test_lists_find_what_exact_search_finds_after_changes() -> None:
    lists, exact = made(500, exact_below=50), made(500)
    queries = exact[:20]
    lists.prepare()
    for change in (
        lambda s: s.delete([f"i{number}" for number in range(100, 160)]),
        lambda s: s.put(["i3", "new"], -queries[:2]),
        lambda s: s.put([f"n{number}" for number in range(800)], made(800, seed=1)[:]),
    ):
        lists, exact = change(lists), change(exact)
        for left, right in zip(lists.search(queries, 10), exact.search(queries, 10), strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("exact_below", [10, 1000])
def test_saved_and_opened_it_is_the_same(tmp_path: Path, exact_below: int) -> None:
    store = made(200, exact_below).delete(["i7"])
    store.save(tmp_path)
    opened = VectorStore.open(tmp_path, verify=True, exact_below=exact_below)
    (large,) = tmp_path.glob("vectors0-*")
    written = large.stat().st_mtime_ns
    opened.put(["x"], store[:1]).save(tmp_path)
    assert large.stat().st_mtime_ns == written
    assert VectorStore.open(tmp_path).ids == (*store.ids, "x")
    np.testing.assert_array_equal(opened.search(store[:5], 9)[0], store.search(store[:5], 9)[0])


def test_damage_is_named(tmp_path: Path) -> None:
    made(20).save(tmp_path)
    (large,) = tmp_path.glob("vectors0-*")
    content = bytearray(large.read_bytes())
    content[5] ^= 1
    large.write_bytes(content)
    VectorStore.open(tmp_path)
    with pytest.raises(StorageError, match=large.name):
        VectorStore.open(tmp_path, verify=True)
    large.write_bytes(content[:-4])
    with pytest.raises(StorageError, match=large.name):
        VectorStore.open(tmp_path)


def test_bad_input_is_refused() -> None:
    store = made(5)
    with pytest.raises(DataError, match="not finite, the first that of 'b'"):
        store.put(["a", "b"], np.array([[0.0] * 8, [np.nan] * 8]))
    with pytest.raises(DataError, match="8 numbers a vector"):
        store.put(["a"], np.ones((1, 7)))
    with pytest.raises(DataError, match="more than once: 'a'"):
        store.put(["a", "a"], np.ones((2, 8)))
    with pytest.raises(UnknownItemError, match="'i9'"):
        store.delete(["i9"])
    with pytest.raises(OptionError, match="k is 0"):
        store.search(store[:1], 0)
    with pytest.raises(OptionError, match="mask"):
        store.search(store[:1], 1, allowed=np.ones(4, dtype=bool))
    assert (store.search(store[:1], 9, allowed=np.zeros(5, dtype=bool))[0] == -1).all()
