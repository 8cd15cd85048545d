from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
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


def changed(
    store: VectorStore, changes: list[tuple[str, int, int]]
) -> tuple[VectorStore, dict[str, np.ndarray]]:
    plain = dict(zip(store.ids, store[:], strict=True))
    for what, name, seed in changes:
        item_id = f"i{name}"
        if what == "put":
            plain[item_id] = np.random.default_rng(seed).integers(-2, 3, 3).astype(np.float32)
            store = store.put([item_id], plain[item_id][None])
        elif item_id in plain:
            del plain[item_id]
            store = store.delete([item_id])
    assert store.ids == tuple(plain)
    return store, plain


@settings(deadline=None, max_examples=60)
@given(changes=CHANGES, k=st.integers(1, 40), masked=st.booleans())
def test_exact_search_is_that_of_a_dict(
    changes: list[tuple[str, int, int]], k: int, masked: bool
) -> None:
    store, plain = changed(VectorStore.of([], np.empty((0, 3))), changes)
    allowed = np.arange(len(plain)) % 3 > 0 if masked else None
    query = np.array([1, -1, 0.5], dtype=np.float32)
    scores = np.array([vector @ query for vector in plain.values()])
    order = [r for r in np.argsort(-scores, kind="stable") if allowed is None or allowed[r]][:k]
    rows, found = store.search(query[None], k, allowed=allowed)
    assert rows[0].tolist() == order + [-1] * (k - len(order))
    np.testing.assert_array_equal(found[0, : len(order)], scores[order])
    assert np.isnan(found[0, len(order) :]).all()


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(0, 60),
    changes=CHANGES,
    k=st.integers(1, 40),
    keep=st.one_of(st.none(), st.integers(1, 5)),
    at=st.integers(0, 40),
)
def test_lists_find_the_scores_that_exact_search_finds(
    n: int, changes: list[tuple[str, int, int]], k: int, keep: int | None, at: int
) -> None:
    # Scores of whole numbers lie further apart than what a byte a number may be off.
    vectors = np.random.default_rng(n).integers(-2, 3, (n, 3)).astype(np.float32)
    store = VectorStore.of([f"i{row}" for row in range(n)], vectors, exact_below=5)
    store, _ = changed(store, changes[:at])
    store, plain = changed(store.prepare(), changes[at:])  # these are not in the lists
    query = np.array([[1, -1, 0.5]], dtype=np.float32)
    allowed = None if keep is None else np.arange(len(plain)) % keep == 0
    rows, scores = store.search(query, k, allowed=allowed)
    exact = VectorStore.of(store.ids, store[:])
    np.testing.assert_array_equal(scores, exact.search(query, k, allowed=allowed)[1])
    (found,) = rows
    found = found[found >= 0]
    assert len(set(found)) == len(found)
    assert allowed is None or allowed[found].all()
    np.testing.assert_array_equal(store[found] @ query[0], scores[0, : len(found)])


def test_a_filter_that_leaves_out_what_is_near_makes_more_lists_be_looked_through() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, 16))
    of = rng.integers(0, 300, 6000)
    vectors = (centres[of] + rng.standard_normal((6000, 16))).astype(np.float32)
    ids = [str(row) for row in range(6000)]
    lists, exact = VectorStore.of(ids, vectors, exact_below=0), VectorStore.of(ids, vectors)
    shares = []
    for query in vectors[:20]:
        allowed = vectors @ query < np.quantile(vectors @ query, 0.5)
        right = exact.search(query[None], 50, allowed=allowed)[0][0]
        shares.append(np.isin(lists.search(query[None], 50, allowed=allowed)[0][0], right).mean())
    assert np.mean(shares) > 0.9


def test_lists_find_what_exact_search_finds_after_changes() -> None:
    lists, exact = made(500, exact_below=50), made(500)
    queries = exact[:20]
    lists.prepare()
    changes: list[Callable[[VectorStore], VectorStore]] = [
        lambda s: s.delete([f"i{number}" for number in range(100, 160)]),
        lambda s: s.put(["i3", "new"], -queries[:2]),
        lambda s: s.put([f"n{number}" for number in range(800)], made(800, seed=1)[:]),
    ]
    for change in changes:
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
    with pytest.raises(OptionError, match="exact_below is -1"):
        made(5, exact_below=-1)
    with pytest.raises(DataError, match=r"shape \(3,\) make no store"):
        VectorStore.of(["a"], np.ones(3))


def test_take_reorders_and_leaves_out() -> None:
    store = made(6)
    taken = store.take(["i4", "i1"])
    assert taken.ids == ("i4", "i1")
    np.testing.assert_array_equal(taken[:], store[[4, 1]])
    assert taken.search(store[1:2], 9)[0][0].tolist()[:2] == [1, 0]
    assert len(store.take([])) == 0
    with pytest.raises(UnknownItemError, match="'i9'"):
        store.take(["i9"])
    with pytest.raises(DataError, match="more than once"):
        store.take(["i1", "i1"])


def test_what_the_caller_does_afterwards_changes_no_store() -> None:
    given = np.ones((1, 8), dtype=np.float32)
    store = made(3).put(["i1"], given)
    given[:] = 7
    np.testing.assert_array_equal(store[1], np.ones(8))
    store[1][:] = 7
    np.testing.assert_array_equal(store[1], np.ones(8))


def test_without_faiss_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(20, exact_below=10).save(tmp_path)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert made(10, exact_below=10).search(np.ones((1, 8)), 1)[0].shape == (1, 1)
    for needs in (
        lambda: made(20, exact_below=10).prepare(),
        lambda: made(20, exact_below=10).search(np.ones((1, 8)), 1),
        lambda: VectorStore.open(tmp_path),
    ):
        with pytest.raises(OptionError, match="faiss, which is not installed") as caught:
            needs()
        assert "llmrec[search]" in caught.value.hint


def test_a_file_written_halfway_is_not_read_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(20)
    store.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("llmrec.retrieval.storage.os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            made(30, seed=1).save(tmp_path)
    assert list(tmp_path.glob("*.part"))
    np.testing.assert_array_equal(VectorStore.open(tmp_path, verify=True)[:], store[:])
    store.put(["new"], store[:1]).save(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    assert len(VectorStore.open(tmp_path, verify=True)) == 21


def interrupt(_: int) -> None:
    raise KeyboardInterrupt


SAVING = """
import sys, numpy as np
from llmrec.retrieval.vectors import VectorStore
folder, seed = sys.argv[1], int(sys.argv[2])
vectors = np.full((50, 4), seed, dtype=np.float32)
for times in range(5):
    store = VectorStore.of([f"{seed}-{row}" for row in range(50)], vectors + times)
    store.save(folder)
"""


def test_two_processes_may_save_to_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    saving = [
        subprocess.Popen([sys.executable, "-c", SAVING, str(folder), str(seed)])
        for seed in (100, 200)
    ]
    assert [process.wait(60) for process in saving] == [0, 0]
    opened = VectorStore.open(folder, verify=True)
    seed = int(opened.ids[0].split("-")[0])
    np.testing.assert_array_equal(opened[:], np.full((50, 4), seed + 4))
    assert len(list(folder.iterdir())) == 4
