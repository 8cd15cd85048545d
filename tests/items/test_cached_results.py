from __future__ import annotations

import logging
import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from llmrec.catalog import MediaError
from llmrec.errors import StorageError
from llmrec.items import VectorCache
from llmrec.items.cached_results import FileTask, from_files

VECTORS = {f"key {number}": np.full(4, number, dtype=np.float32) for number in range(3)}


def test_cached_results_round_trip(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "new folder" / "vectors.sqlite3")
    assert cache.get_many(["key 0"]) == {}
    cache.put_many(VECTORS)
    found = VectorCache(cache.path).get_many([*VECTORS, "never kept"])
    assert found.keys() == VECTORS.keys()
    for key, vector in found.items():
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, VECTORS[key])


def test_a_key_kept_again_has_the_new_vector(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    cache.put_many({"key": np.zeros(2)})
    cache.put_many({"key": np.ones(2)})
    np.testing.assert_array_equal(cache.get_many(["key"])["key"], np.ones(2))


def test_asks_for_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    many = {str(number): np.array([number], dtype=np.float32) for number in range(1_700)}
    cache.put_many(many)
    assert cache.get_many(list(many)).keys() == many.keys()


@pytest.mark.parametrize("content", [b"this is not a database at all", b"\0" * 5_000])
def test_a_file_that_is_no_database_is_moved_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    cache.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        cache.put_many(VECTORS)
    assert "vectors.sqlite3.damaged" in caplog.text
    assert (tmp_path / "vectors.sqlite3.damaged").read_bytes() == content
    assert cache.get_many(list(VECTORS)).keys() == VECTORS.keys()


def test_a_truncated_file_never_gives_wrong_vectors(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    cache.put_many({str(n): np.full(384, n, dtype=np.float32) for n in range(100)})
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[: len(whole) // 2])
    assert cache.get_many(["7"]) == {}
    assert cache.path.with_name("vectors.sqlite3.damaged").exists()


def test_a_flipped_bit_inside_a_vector_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    cache.put_many(VECTORS)
    content = cache.path.read_bytes()
    place = content.index(VECTORS["key 2"].tobytes())
    cache.path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    assert cache.get_many([*VECTORS]).keys() == {"key 0", "key 1"}
    assert "1 rows of" in caplog.text
    assert "checksum" in caplog.text


@pytest.mark.parametrize("blob", [None, 7, "text", b"", b"abc"])
def test_a_row_of_another_type_counts_as_missing(tmp_path: Path, blob: object) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    cache.put_many(VECTORS)
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        connection.execute("CREATE TABLE other (key TEXT PRIMARY KEY, content)")
        connection.execute("INSERT INTO other SELECT * FROM contents WHERE key != 'key 1'")
        connection.execute("INSERT INTO other VALUES ('key 1', ?)", (blob,))
        connection.execute("DROP TABLE contents")
        connection.execute("ALTER TABLE other RENAME TO contents")
    assert cache.get_many([*VECTORS]).keys() == {"key 0", "key 2"}


def test_a_cache_of_another_format_is_refused_and_kept(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    cache.put_many(VECTORS)
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match=r"vectors\.sqlite3 has format 99"):
        cache.get_many(["key 0"])
    assert cache.path.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file") as caught:
        VectorCache(tmp_path / "file" / "vectors.sqlite3").put_many(VECTORS)
    assert "LLMREC_CACHE" in caught.value.hint
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        VectorCache(tmp_path / "folder").put_many(VECTORS)


def _keep_many(path: Path, start: int) -> None:
    cache = VectorCache(path)
    for number in range(start, start + 40):
        cache.put_many({str(number): np.array([number], dtype=np.float32)})


def test_two_processes_keep_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite3"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_keep_many, args=(path, start)) for start in (0, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    keys = [str(number) for number in range(80)]
    assert {key: float(vector[0]) for key, vector in VectorCache(path).get_many(keys).items()} == {
        key: float(key) for key in keys
    }


def test_a_file_that_changes_while_it_is_read_is_a_gap(tmp_path: Path) -> None:
    """A cached result must belong to the bytes that its key was made of."""
    path = tmp_path / "x"
    path.write_bytes(b"first")

    def read(name: Path) -> bytes:
        content = name.read_bytes()
        name.write_bytes(b"second")
        return content

    task = FileTask("file", "Reading", ("recipe",), read, list, 1, None, lambda _: ())
    found = from_files([path, MediaError("refused")], task)
    assert not found.results
    assert found.gaps == {
        0: f"The file {str(path)!r} changed while it was read.",
        1: "refused",
    }
