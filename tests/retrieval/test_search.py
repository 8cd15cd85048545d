"""A large index: signals propose, their union is scored exactly; saved, opened and updated."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmrec.catalog import Catalog
from llmrec.errors import OptionError, StorageError
from llmrec.records import Interaction, Item, User
from llmrec.retrieval import (
    Equals,
    Filter,
    Index,
    Interactions,
    Range,
    Retriever,
    Rules,
    verify_index,
)
from llmrec.retrieval.item_table import Ids, ItemTable
from llmrec.retrieval.search import VectorSearch

N, USERS = 3_000, 300
NAMES = ("content", "co_occurrence", "keywords", "popularity", "friends")


class Drawn:
    """Embeds a text by a draw that the text seeds."""

    name = "drawn@1"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).normal(size=16) for text in texts]
        vectors: np.ndarray = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
        return vectors.astype(np.float32)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    rng = np.random.default_rng(0)
    items = {
        f"i{row}": Item(
            f"i{row}",
            f"word{row % 40} thing{row % 7}",
            attributes={"kind": "abc"[row % 3], "year": 1990 + row % 30, "tags": ("x", str(row))},
        )
        for row in range(N)
    }
    rows = tuple(
        Interaction(f"u{user}", f"i{item}", float(rng.integers(1, 6)), int(step))
        for user in range(USERS)
        for step, item in enumerate((rng.pareto(1, 20) * 50).astype(int) % N)
    )
    friends = {f"u{user}": (f"u{user + 1}", "nobody") for user in range(0, USERS - 1, 2)}
    return Catalog(items, rows, profiles={"cold": {"likes": "word3"}}, friends=friends)


@pytest.fixture(scope="module")
def large(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index that was saved and opened as if it were large."""
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        as_if_large(patch)
        Index.build(catalog, Drawn(), modalities=(), insights={}).save(folder)
        return Index.open(folder, verify=True)


@pytest.fixture(scope="module")
def small(catalog: Catalog) -> Index:
    return Index.build(catalog, Drawn(), modalities=(), insights={})


def as_if_large(patch: pytest.MonkeyPatch) -> None:
    for module in ("index", "saved_parts", "search"):
        patch.setattr(f"llmrec.retrieval.{module}.EXACT_UP_TO", 100)
    patch.setattr("llmrec.retrieval.item_table._DICTIONARY_UP_TO", 100)
    patch.setattr("llmrec.retrieval.retriever._FEW", 50)
    patch.setattr("llmrec.retrieval.retriever.PROPOSALS", 300)


def test_opened_index_holds_the_catalogue(large: Index, catalog: Catalog) -> None:
    assert isinstance(large.items, ItemTable)
    assert dict(large.items) == catalog.items
    assert large.interactions == catalog.interactions
    assert tuple(large.item_ids) == tuple(catalog.items)
    assert large.user_ids == catalog.user_ids
    for user in ("u0", "u7", "cold", "nobody"):
        assert large.user(user) == catalog.user(user)
    assert large.row("i77") == 77
    assert "i9999" not in large.items
    met = {row.user_id for row in catalog.interactions if row.item_id == "i60"}
    assert large.met_by("i60") == met != set()


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_some_rows_are_those_of_scoring_everything(
    large: Index, small: Index, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_large(monkeypatch)
    some, every = (
        Retriever(index, weights={name: 1.0}, encoder=Drawn(), exact_up_to=limit)
        for index, limit in ((large, 0), (small, N))
    )
    rows = [f"i{row}" for row in range(0, N, 7)]
    for user in ("u0", "u5", "cold"):
        person = small.user(user)
        found = {c.item_id: c for c in some.candidates(person, rows)}
        for right in every.candidates(person, rows):
            assert found[right.item_id].score == pytest.approx(right.score, abs=1e-5)
            assert found[right.item_id].signals == pytest.approx(dict(right.signals), abs=1e-6)


RULES = """
[[drop]]
attribute = "kind"
equals = "a"
[[boost]]
attribute = "year"
equals = 1999
add = 30.0
[[at_most]]
attribute = "year"
n = 3
"""


@pytest.mark.parametrize("case", ["all", "half", "few", "rules"])
def test_the_best_are_those_of_scoring_everything(
    large: Index, small: Index, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_large(monkeypatch)
    conditions: dict[str, Filter] = {"half": Range("year", low=2005), "few": Equals("tags", "7")}
    filters = [conditions[case]] if case in conditions else []
    (tmp_path / "rules.toml").write_text(RULES)
    rules = Rules.from_file(tmp_path / "rules.toml") if case == "rules" else None
    weights = dict.fromkeys(NAMES, 1.0)
    some = Retriever(large, weights=weights, rules=rules, encoder=Drawn(), exact_up_to=0)
    every = Retriever(small, weights=weights, rules=rules, encoder=Drawn())
    shared = []
    for user in ("u0", "u3", "u100", "cold"):
        right = every.retrieve(small.user(user), 50, filters=filters)
        found = some.retrieve(small.user(user), 50, filters=filters)
        assert len(found) == len(right) > 0
        shared.append(len({c.item_id for c in found} & {c.item_id for c in right}) / len(right))
    assert np.mean(shared) >= 0.98


def test_a_cap_brings_as_many_as_scoring_everything(
    large: Index, small: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_large(monkeypatch)
    (tmp_path / "rules.toml").write_text('[[at_most]]\nattribute = "kind"\nn = 20')
    rules = Rules.from_file(tmp_path / "rules.toml")
    some, every = (
        Retriever(index, weights={"popularity": 1.0}, rules=rules, exact_up_to=limit)
        for index, limit in ((large, 0), (small, N))
    )
    assert len(some.retrieve(User("new"), 100)) == len(every.retrieve(User("new"), 100)) == 60


def test_a_changed_catalogue_is_searched_as_if_built_anew(
    large: Index, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_large(monkeypatch)
    items = dict(list(catalog.items.items())[200:])
    items["i500"] = Item("i500", "changed")
    items["new"] = Item("new", "word3 new")
    known = tuple(row for row in catalog.interactions if row.item_id in items)
    changed = Catalog(items, known, friends=catalog.friends)
    large.updated(changed, Drawn(), insights={}).save(tmp_path)
    opened = Index.open(tmp_path)
    fresh = Index.build(changed, Drawn(), modalities=(), insights={})
    np.testing.assert_array_equal(opened.vectors, fresh.vectors)
    user = User("me", (Interaction("me", "new"), Interaction("me", "i700")))
    weights = dict.fromkeys(NAMES, 1.0)
    found = Retriever(opened, weights=weights, exact_up_to=0).retrieve(user, 30)
    right = Retriever(fresh, weights=weights, exact_up_to=N).retrieve(user, 30)
    assert len({c.item_id for c in found} & {c.item_id for c in right}) >= 29


def test_held_out_interactions_are_not_in_prepared_data(large: Index) -> None:
    without = replace(large, interactions=())
    assert not without.popularity.any()
    assert not len(without.neighbours[1])
    assert without.content is large.content


def test_proposals_grow_until_nothing_better_can_be_missing(
    large: Index, small: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item may be among the best of a sum and among the first of no signal."""
    as_if_large(monkeypatch)
    monkeypatch.setattr("llmrec.retrieval.retriever.PROPOSALS", 20)
    weights = {"content": 1.0, "popularity": 0.5}
    some = Retriever(large, weights=weights, exact_up_to=0)
    every = Retriever(small, weights=weights, exact_up_to=N)
    users = [small.user(f"u{number}") for number in range(20)]

    def overlap() -> float:
        found = [(some.retrieve(user, 4), every.retrieve(user, 4)) for user in users]
        ids = [({c.item_id for c in one}, {c.item_id for c in other}) for one, other in found]
        return float(np.mean([len(one & other) / 4 for one, other in ids]))

    assert overlap() > 0.97
    monkeypatch.setattr("llmrec.retrieval.retriever._MOST_PROPOSALS", 1)
    assert overlap() < 0.8


def test_nearest_vectors_are_found_under_a_filter() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, 16))
    vectors = (centres[rng.integers(0, 100, 6000)] + rng.standard_normal((6000, 16))).astype(
        np.float32
    )
    search = VectorSearch(vectors, centred=False)
    shares = []
    for query in vectors[:20]:
        allowed = vectors @ query < np.quantile(vectors @ query, 0.5)
        right = np.flatnonzero(allowed)[np.argsort(-(vectors @ query)[allowed])[:50]]
        shares.append(np.isin(right, search.best(query, 500, allowed, 0.5)[0]).mean())
    assert np.mean(shares) > 0.9


def test_mean_and_spread_follow_from_the_moments(large: Index) -> None:
    query = np.asarray(large.vectors[3])
    mean, spread = large.content.scale(query)
    products = large.content.products(query)
    assert (mean, spread) == pytest.approx((products.mean(), products.std()), abs=1e-6)
    assert large.content.scale(np.zeros(16)) == (0, 0)


def test_missing_faiss_fails_before_embedding(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(Drawn):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
            raise AssertionError

    as_if_large(monkeypatch)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(OptionError, match="faiss, which is not installed") as caught:
        Index.build(catalog, Never())
    assert "pip install 'llmrec[search]'" in caught.value.hint


def test_damaged_lists_are_named(large: Index, tmp_path: Path) -> None:
    (tmp_path / "content-x.faiss").write_bytes(b"something else")
    search = VectorSearch(large.vectors, centred=True, lists=tmp_path / "content-x.faiss")
    with pytest.raises(StorageError, match=r"content-x\.faiss is damaged"):
        search.best(large.vectors[0], 5, np.ones(N, dtype=bool), 1.0)


def test_interactions_are_read_as_records() -> None:
    rows = (
        Interaction("v", "b", 4.5, 30),
        Interaction("u", "a", None, 20),
        Interaction("v", "a", 1.0, None),
        Interaction("v", "c", 2.0, 30),
    )
    columns = Interactions.of(rows)
    assert columns == rows == tuple(columns)
    assert columns[1:3] == rows[1:3]
    assert columns[-1] == rows[3]
    assert columns.of_user("v") == (rows[2], rows[0], rows[3])
    assert columns.of_user("nobody") == ()
    assert repr(columns) == repr(Interactions.of(rows)) != repr(Interactions.of(rows[:3]))


def test_ids_are_found_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.retrieval.item_table._DICTIONARY_UP_TO", 0)
    names = ["b", "", "a", "é", "茶", "B", "a" * 300]
    ids = Ids.of(names)
    assert [ids.find(name) for name in names] == list(range(len(names)))
    assert ids.find("c") is None
    assert ids.find("\U0001f375") is None
    assert Ids.of(()).find("a") is None


@pytest.fixture(scope="module")
def saved(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped") / "index"
    with pytest.MonkeyPatch.context() as patch:
        as_if_large(patch)
        Index.build(catalog, Drawn(), modalities=(), insights={}).save(folder)
    return folder


def as_if_mapped(patch: pytest.MonkeyPatch) -> None:
    as_if_large(patch)
    patch.setattr("llmrec.retrieval.storage.MAPPED_FROM", 1)
    patch.setattr("llmrec.retrieval.storage._SAMPLED", 1)


FILES = ("content.faiss", "content.npy", "neighbours.arrow", "postings.arrow", "vectors.npy")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flip_in_a_mapped_file_is_found_by_verify(
    saved: Path, name: str, place: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_mapped(monkeypatch)
    folder = Path(shutil.copytree(saved, tmp_path / "index"))
    stem, suffix = name.split(".")
    (path,) = folder.glob(f"{stem}-*.{suffix}")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x40
    path.write_bytes(content)
    assert [file.name for file in verify_index(folder).files if file.fault] == [path.name]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("vectors.npy", "vector", np.float32(np.nan)),
        ("neighbours.arrow", "items", np.int32(N + 7)),
        ("neighbours.arrow", "items", np.int32(-1)),
        ("neighbours.arrow", "likeness", np.float32(np.inf)),
        ("postings.arrow", "items", np.int32(N)),
        ("postings.arrow", "scores", np.float32(np.nan)),
        ("interactions.arrow", "by_user", np.int32(1 << 30)),
        ("interactions.arrow", "item", np.int32(1 << 30)),
        ("items.arrow", "attributes", b"{{{{"),
    ],
)
def test_a_damaged_row_of_a_mapped_file_is_an_error_that_names_the_way_out(
    saved: Path,
    name: str,
    old: str,
    new: np.generic | bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the first row of a file is looked at on opening; all later ones are damaged."""
    as_if_mapped(monkeypatch)
    folder = Path(shutil.copytree(saved, tmp_path / "index"))
    stem, suffix = name.split(".")
    (path,) = folder.glob(f"{stem}-*.{suffix}")
    content = path.read_bytes()
    if old == "vector":
        right = np.load(path)[1:].tobytes()
    else:
        column = pa.ipc.open_file(path).read_all().column(old).chunk(0)
        values = column.values if pa.types.is_large_list(column.type) else column
        right = values.buffers()[-1].to_pybytes()[: values.nbytes][8:]
        right = right[: right.index(b"}{")] if isinstance(new, bytes) else right
    plain = new if isinstance(new, bytes) else new.tobytes()
    assert content.count(right) == 1
    damaged = (plain * len(right))[: len(right)]
    path.write_bytes(content.replace(right, damaged))
    with pytest.raises(StorageError) as caught:  # noqa: PT012
        index = Index.open(folder)
        weights = dict.fromkeys(NAMES, 1.0)
        retriever = Retriever(index, weights=weights, encoder=Drawn(), exact_up_to=0)
        for user in ("u0", "u1", "u2"):
            retriever.retrieve(index.user(user), 10)
        list(index.items.values())
    assert "damaged" in caught.value.message
    assert "verify" in caught.value.hint or path.name in caught.value.message
    assert not verify_index(folder).whole
