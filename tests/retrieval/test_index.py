from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any
from unicodedata import normalize
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from filelock import FileLock

from llmrec.catalog import Catalog
from llmrec.errors import DataError, StorageError, UnknownItemError, UnknownUserError
from llmrec.records import Interaction, Item, Review
from llmrec.retrieval import Index, Retriever, verify_index


class Lengths:
    """Embeds a text by its length."""

    name = "lengths@1"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        return np.array([[len(text), 1.0] for text in texts])


def text_index(catalog: Catalog) -> Index:
    return Index.build(catalog, Lengths(), modalities=(), insights={})


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_datasets(
        [
            {
                "item_id": 1,
                "title": "Kettle 🫖",
                "description": 'كتاب\n"quoted" \\ ',
                "image": "images/1.png",
                "tags": ["a", "b"],
                "price": 24.5,
                "year": 1990,
                "in_stock": True,
            },
            {"item_id": "01", "title": "茶壶", "tags": []},
            {"item_id": "x" * 300, "description": "long " * 20_000},
        ],
        interactions=[
            {"user_id": "u", "item_id": "01", "timestamp": 20, "rating": 4.5},
            {"user_id": "u", "item_id": "1", "timestamp": 10, "rating": None},
            {"user_id": "v", "item_id": "1", "timestamp": 30, "rating": 2},
        ],
        reviews=[
            {"item_id": "1", "text": "Hot.", "rating": 5},
            {"item_id": "01", "text": "冷", "user_id": "v", "timestamp": 5},
            {"item_id": "1", "text": "Loud."},
        ],
        users=[{"user_id": "w", "age": 31, "likes": ["tea"]}],
        social=[{"user_id": "u", "friend_id": "w"}],
    )


@pytest.fixture
def index(catalog: Catalog) -> Index:
    return text_index(catalog)


def parts(index: Index) -> tuple[object, ...]:
    return (
        list(index.items.values()),
        index.vectors.tolist(),
        index.interactions,
        index.reviews,
        {user: dict(profile) for user, profile in index.profiles.items()},
        dict(index.friends),
        index.encoder,
        index.fingerprint,
        index.folder,
        dict(index.weights),
    )


def test_index_holds_the_catalogue(catalog: Catalog, index: Index) -> None:
    assert index.item_ids == ("1", "01", "x" * 300)
    assert index.vectors.dtype == np.float32
    assert index.vectors.shape == (3, 2)
    assert index.encoder == "lengths@1"
    assert index.fingerprint == catalog.fingerprint
    assert index.popularity.tolist() == [2.0, 1.0, 0.0]
    assert [review.text for review in index.reviews_of("1")] == ["Hot.", "Loud."]
    assert index.reviews_of("x" * 300) == ()
    for user_id in catalog.user_ids:
        assert index.user(user_id) == catalog.user(user_id)
    assert [entry.item_id for entry in index.user("u").history] == ["1", "01"]


def test_saved_and_opened_it_is_the_same(index: Index, tmp_path: Path) -> None:
    weighted = index.with_weights("content alone", {"content": 1.0})
    gate = {"weights": {"retrieval": 1.0, "likelihood.prior": -0.1}, "popularity": [0.5, 2.0]}
    weighted = replace(weighted, gates={"likelihood/1": gate})
    weighted.save(tmp_path / "new" / "index")
    opened = Index.open(tmp_path / "new" / "index")
    assert parts(opened) == parts(weighted)
    assert opened.items["1"].attributes["in_stock"] is True
    assert isinstance(opened.items["1"].attributes["year"], int)
    assert isinstance(opened.items["1"].attributes["price"], float)
    assert Retriever(opened).retrieve(opened.user("v")) == Retriever(index).retrieve(
        index.user("v")
    )


def test_remembers_where_the_pictures_are(catalog: Catalog, tmp_path: Path) -> None:
    data = tmp_path / "data"
    text_index(replace(catalog, folder=data)).save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    image = opened.items["1"].image
    assert opened.folder is not None
    assert image is not None
    assert opened.folder / image == data / "images" / "1.png"


def test_an_index_from_elsewhere_does_not_name_the_folder_of_pictures(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "theirs"))
    text_index(replace(catalog, folder=Path("/"))).save(tmp_path / "index")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "mine"))
    opened = Index.open(tmp_path / "index")
    assert (opened.folder, opened.media_root) == (None, None)
    opened = Index.open(tmp_path / "index", media_root=tmp_path / "pictures")
    assert (opened.folder, opened.media_root) == (tmp_path / "pictures", None)


def test_vectors_and_counts_cannot_be_changed(index: Index) -> None:
    for array in (index.vectors, index.popularity):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_weights_do_not_touch_the_index_they_came_from(index: Index) -> None:
    once = index.with_weights("a", {"content": 1.0})
    twice = once.with_weights("b", {"content": 2.0}).with_weights("a", {"content": 3.0})
    assert (dict(index.weights), dict(once.weights)) == ({}, {"a": {"content": 1.0}})
    assert dict(twice.weights) == {"a": {"content": 3.0}, "b": {"content": 2.0}}


def test_unknown_ids_are_refused_with_the_nearest(index: Index) -> None:
    with pytest.raises(UnknownItemError, match="'001'") as item:
        index.row("001")
    assert "'01'" in item.value.hint
    with pytest.raises(UnknownUserError, match="'stranger'"):
        index.user("stranger")


def test_vectors_that_are_not_finite_are_refused(catalog: Catalog) -> None:
    class Broken(Lengths):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
            return np.array([[1.0], [np.nan], [1.0]])

    with pytest.raises(DataError, match="not finite, the first that of '01'"):
        Index.build(catalog, Broken(), modalities=(), insights={})


def test_items_and_vectors_must_match() -> None:
    with pytest.raises(DataError, match=r"1 items and vectors of shape \(2, 3\)"):
        Index({"1": Item("1")}, np.ones((2, 3), dtype=np.float32))
    with pytest.raises(DataError, match="0 items"):
        Index({}, np.ones((0, 3), dtype=np.float32))


@pytest.fixture
def saved(index: Index, tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    index.save(folder)
    return folder


TABLES = ("vectors", "items", "interactions", "users", "profiles", "reviews", "insights")


def file_of(folder: Path, table: str) -> Path:
    (path,) = folder.glob(f"{table}-*")
    return path


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_file_is_refused_by_name(saved: Path, table: str) -> None:
    path = file_of(saved, table)
    path.unlink()
    with pytest.raises(StorageError, match=path.name) as caught:
        Index.open(saved)
    assert "llmrec index" in caught.value.hint


@pytest.mark.parametrize("table", TABLES)
def test_a_truncated_file_is_refused_by_name(saved: Path, table: str) -> None:
    path = file_of(saved, table)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(StorageError, match=f"{path.name} is damaged: it has {len(content) - 1}"):
        Index.open(saved)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("place", [0, 0.5, 0.9999])
def test_a_flipped_bit_is_found_by_verify(saved: Path, table: str, place: float) -> None:
    path = file_of(saved, table)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=f"{path.name} is damaged"):
        Index.open(saved, verify=True)
    report = verify_index(saved)
    assert not report.whole
    assert [file.name for file in report.files if file.fault] == [path.name]


def test_every_damaged_file_is_named_and_a_whole_index_is_whole(saved: Path) -> None:
    report = verify_index(saved)
    assert report.whole
    assert {file.name for file in report.files} | {"manifest.json"} == {
        path.name for path in saved.iterdir()
    }
    file_of(saved, "items").unlink()
    file_of(saved, "users").write_bytes(b"")
    faults = {file.name.split("-")[0]: file.fault for file in verify_index(saved).files}
    assert {name for name, fault in faults.items() if fault} == {"items", "users"}
    assert "cannot be read: No such file" in faults["items"]


def resealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as somebody would who can compute its checksum too."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())["content"]
    change(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({"sha256": digest, "content": content}))


@pytest.mark.parametrize(
    "name",
    ["../{}", "{folder}/{}", "/etc/passwd", "x/{}", "..", "", ".", "{}\n", "\0", "manifest.json",
     "file:{}", "{}/../{}"],
)  # fmt: skip
def test_a_manifest_that_names_another_place_is_refused(saved: Path, name: str) -> None:
    path = file_of(saved, "vectors")
    shutil.copy(path, saved.parent / path.name)
    named = name.replace("{folder}", str(saved)).replace("{}", path.name)
    resealed(saved, lambda content: content["files"]["vectors.npy"].update(name=named))
    for opens in (Index.open, verify_index):
        with pytest.raises(StorageError, match=r"manifest\.json is damaged: it names the file"):
            opens(saved)


@pytest.mark.parametrize("table", [*TABLES, "manifest"])
def test_a_link_or_another_kind_of_file_is_refused(saved: Path, table: str) -> None:
    path = saved / "manifest.json" if table == "manifest" else file_of(saved, table)
    path.rename(saved.parent / "elsewhere")
    path.symlink_to(saved.parent / "elsewhere")
    with pytest.raises(StorageError, match=f"{path.name} is damaged"):
        Index.open(saved)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StorageError, match=r"is damaged|is not an index"):
        Index.open(saved)


def test_saving_writes_through_no_link(index: Index, saved: Path) -> None:
    outside = saved.parent / "outside"
    outside.write_text("mine")
    for name in ("vectors-000000000000.npy", "users-000000000000.arrow", "manifest.json"):
        (saved / f"{name}.part").symlink_to(outside)
    index.save(saved)
    assert outside.read_text() == "mine"
    assert parts(Index.open(saved)) == parts(index)


def planted(folder: Path, table: str, content: bytes) -> None:
    """Replace a file of an index, its checksums too."""
    path = file_of(folder, table.split(".", maxsplit=1)[0])
    path.write_bytes(content)
    new = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    resealed(folder, lambda manifest: manifest["files"][table].update(new))


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused_on_opening(saved: Path, value: float) -> None:
    content = bytearray(file_of(saved, "vectors").read_bytes())
    content[-4:] = np.float32(value).tobytes()
    planted(saved, "vectors.npy", bytes(content))
    with pytest.raises(StorageError, match=r"vectors-.* a vector is not finite"):
        Index.open(saved)
    assert "a vector is not finite" in verify_index(saved).fault


COLUMNS = [
    ("items", "item_id", ["1", "1", "x"]), ("items", "item_id", [1, 2, 3]),
    ("items", "item_id", ["1", None, "x"]), ("items", "order", [0, 1, 3]),
    ("items", "order", [-1, 0, 1]), ("items", "title", [1, 2, 3]),
    ("items", "attributes", ["{}", "{", "{}"]), ("items", "attributes", ["{}", "[]", "{}"]),
    ("items", "attributes", ["{}", '{"a": 1e999}', "{}"]),
    ("items", "attributes", ["{}", f'{{"a": {"9" * 400}}}', "{}"]),
    ("items", "attributes", ["{}", f'{{"a": {"[" * 900}{"]" * 900}}}', "{}"]),
    ("items", "attributes", ["{}", '{"a": {"b": 1}}', "{}"]),
    ("items", "attributes", ["{}", '{"a": [1]}', "{}"]),
    ("interactions", "item", [0, 1, 3]), ("interactions", "item", [-1, 0, 0]),
    ("interactions", "user", [0, 0, 2]), ("interactions", "user", [0.0, 0.0, 1.0]),
    ("interactions", "user", [0, None, 1]), ("interactions", "by_user", [0, 1, 7]),
    ("interactions", "rating", [1.0, np.inf, 2.0]), ("interactions", "rating", ["a", "b", "c"]),
    ("interactions", "time", [1.0, np.nan, 2.0]), ("users", "user_id", [1, 2]),
    ("users", "end", [3, 2]), ("users", "end", [1, 9]), ("users", "order", [0, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column", "values"), COLUMNS)
def test_numbers_and_ids_that_do_not_belong_together_are_refused(
    saved: Path, table: str, column: str, values: list[object]
) -> None:
    read = pa.ipc.open_file(file_of(saved, table)).read_all()
    kind = read.schema.field(column).type
    given = pa.array(values)
    fits = pa.types.is_string(given.type) and pa.types.is_large_string(kind)
    small = pa.types.is_integer(given.type) and pa.types.is_integer(kind)
    cast = given.cast(kind) if fits or small else given
    planted(
        saved,
        f"{table}.arrow",
        arrow(read.set_column(read.column_names.index(column), column, cast)),
    )
    with pytest.raises(StorageError, match=r"-[0-9a-f]{12}\.arrow is damaged: ."):
        Index.open(saved)
    assert "is damaged" in verify_index(saved).fault


def test_a_file_of_another_index_is_refused(index: Index, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    replace(index, vectors=np.zeros((3, 2), dtype=np.float32)).save(other)
    shutil.copy(file_of(other, "vectors"), file_of(saved, "vectors"))
    with pytest.raises(StorageError, match="vectors-"):
        Index.open(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"lengths@1"', b'"lengths@2"'), (b'"dimension": 2', b'"dimension": 3'), (b"}", b"")],
)
def test_a_changed_manifest_is_refused(saved: Path, old: bytes, new: bytes) -> None:
    manifest = saved / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(old, new))
    with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
        Index.open(saved)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"content": 1, "sha256": 2}']
)
def test_a_manifest_that_is_something_else_is_refused(saved: Path, content: bytes) -> None:
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
        Index.open(saved)


def test_other_format_version_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.retrieval.storage.FORMAT", 0)
    with pytest.raises(StorageError, match="has format 3; this llmrec reads format 0"):
        Index.open(saved)


def test_non_index_folder_is_refused(tmp_path: Path) -> None:
    for folder, why in ((tmp_path, "it has no man"), (tmp_path / "no", "there is no such folder")):
        with pytest.raises(StorageError, match=f"{folder} is not an index: {why}"):
            Index.open(folder)


def test_a_damaged_index_can_be_made_again(index: Index, saved: Path) -> None:
    (saved / "manifest.json").write_text("{")
    file_of(saved, "items").unlink()
    index.save(saved)
    assert parts(Index.open(saved)) == parts(index)


def test_saving_again_replaces_all_files(index: Index, saved: Path) -> None:
    smaller = replace(index, reviews=(), interactions=())
    smaller.save(saved)
    assert parts(Index.open(saved)) == parts(smaller)
    assert len(list(saved.iterdir())) == 1 + len(TABLES)


@pytest.mark.parametrize("stop_after", range(6))
def test_an_interrupted_save_leaves_the_old_index(
    index: Index, saved: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    renamed = Path.replace
    written: list[Path] = []

    def interrupted(self: Path, target: Path) -> Path:
        if len(written) == stop_after:
            raise KeyboardInterrupt
        written.append(self)
        return renamed(self, target)

    other = replace(index, vectors=np.ones((3, 2), dtype=np.float32), reviews=(), encoder="other")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            other.save(saved)
    assert parts(Index.open(saved)) == parts(index)
    other.save(saved)
    assert parts(Index.open(saved)) == parts(other)
    assert len(list(saved.iterdir())) == 1 + len(TABLES)


def test_a_save_waits_for_another_of_the_same_folder(index: Index, saved: Path) -> None:
    other = replace(index, reviews=(), encoder="other")
    with FileLock(f"{saved}.lock"):
        saving = Thread(target=other.save, args=(saved / ".." / saved.name,))
        saving.start()
        saving.join(0.3)
        assert saving.is_alive()
        assert parts(Index.open(saved)) == parts(index)
    saving.join()
    assert parts(Index.open(saved)) == parts(other)


def test_an_index_may_lie_beside_another_and_its_lock(index: Index, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for folder in (tmp_path / "one", tmp_path / "two", tmp_path / "one"):
        index.save(folder)
        assert parts(Index.open(folder)) == parts(index)
        assert not list(folder.glob("*.lock"))


def test_a_folder_of_other_things_is_not_written_to(index: Index, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "a web page"}))
    with pytest.raises(StorageError, match="neither empty nor an index"):
        index.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_place_that_cannot_be_written_is_named(index: Index, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        index.save(tmp_path / "file" / "index")


VALUES = [
    "007", "a|b", "caf\u00e9", "half \ud83d", "line\u2028break", "nul \\u0000", "Infinity", "1e999",
    "",    0, -1, 1, 2**53 + 1, 2**63, -(2**70), 10**40, True, False, 0.1, 1.0, -0.0, 5e-324, 1e308,
    Decimal("9007199254740993"), Decimal("19.990"), Decimal("1E+30"), UUID(int=1), time(3),
    datetime(2024, 3, 1, 13, tzinfo=UTC), [], [1, [2, "x"], None], {"a": [1, {"b": 2}]}, None,
    np.float32(0.1), np.int64(7), np.array([1, 2]), float("nan"),
]  # fmt: skip


def test_whatever_reading_accepts_is_the_same_after_saving(tmp_path: Path) -> None:
    items = [{"item_id": n, "mixed": value, f"of {n}": value} for n, value in enumerate(VALUES)]
    items.append({"item_id": "odd", "": 1, "half \ud83d": 2, "order": 3, "attribute:x": 4})
    users = [{"user_id": n, "mixed": value} for n, value in enumerate(VALUES)]
    times = [1700000000.1, 1700000000.9, -5, -0.25, 0, None, 253402300799, "2024-03-01"]
    rows: list[dict[str, object]]
    rows = [{"user_id": "u", "item_id": n, "timestamp": each} for n, each in enumerate(times)]
    ratings = [1e308, -1e308, 5e-324, 0, None, Decimal("4.5"), "3"]
    rows += [{"user_id": "v", "item_id": n, "rating": each} for n, each in enumerate(ratings)]
    reviews = [{**row, "text": f"t {n} \ud83d"} for n, row in enumerate(rows)]
    catalog = Catalog.from_datasets(items, interactions=rows, users=users, reviews=reviews)
    text_index(catalog).save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    for item_id, item in catalog.items.items():
        assert repr(opened.items[item_id]) == repr(replace(item, attributes=dict(item.attributes)))
    assert [repr(row) for row in opened.interactions] == [repr(row) for row in catalog.interactions]
    assert repr(opened.reviews) == repr(catalog.reviews)
    assert opened.profiles == catalog.profiles
    for user_id in catalog.user_ids:
        assert opened.user(user_id) == catalog.user(user_id)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", ["item", "review", "profile"])
def test_numbers_that_are_not_finite_are_never_saved(
    tmp_path: Path, value: float, place: str
) -> None:
    items = {"1": Item("1", attributes={"ratio": value if place == "item" else 1.0})}
    reviews = (Review("1", "NaN, Infinity: fine.", value if place == "review" else 1.0),)
    profiles = {"u": {"income": value if place == "profile" else 1.0}}
    made = text_index(Catalog(items, reviews=reviews, profiles=profiles))
    with pytest.raises(DataError, match="infinit"):
        made.save(tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_interaction_with_an_unknown_item_is_refused_on_saving(tmp_path: Path) -> None:
    made = text_index(Catalog({"a": Item("a")}, (Interaction("u", "b"),)))
    with pytest.raises(UnknownItemError, match="'b'"):
        made.save(tmp_path / "index")


def test_the_neutral_rating_is_that_of_the_catalogue(tmp_path: Path) -> None:
    rows = [
        {"user_id": "u", "item_id": 1, "rating": 0},
        {"user_id": "v", "item_id": 1, "rating": 1},
    ]
    catalog = Catalog.from_datasets([{"item_id": 1}], interactions=rows)
    for given, expected in ((None, 0.5), (0.0, 0.0)):
        text_index(replace(catalog, neutral_rating=given)).save(tmp_path / "index")
        assert Index.open(tmp_path / "index").user("v").neutral_rating == expected


def test_ids_are_found_in_any_unicode_form() -> None:
    row = {"user_id": "Ame\u0301lie", "item_id": "cafe\u0301"}
    index = text_index(Catalog.from_datasets([{"item_id": "caf\u00e9"}], interactions=[row]))
    for form in ("NFC", "NFD"):
        assert index.row(normalize(form, "caf\u00e9")) == 0
        assert index.user(normalize(form, "Am\u00e9lie")).user_id == "Am\u00e9lie"


def test_what_is_known_of_an_item_is_found_in_any_unicode_form() -> None:
    cafe = "caf\u00e9"
    known = Catalog({cafe: Item(cafe, "Caf\u00e9")}, (), (Review(cafe, "Good."),))
    index = text_index(known)
    for name in (cafe, "cafe\u0301"):
        assert index.row(name) == 0
        assert index.item(name).item_id == cafe
        assert [review.text for review in index.reviews_of(name)] == ["Good."]
