from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from llmrec.content_cache import ContentCache
from llmrec.errors import ModelError, ModelNotFoundError, OutOfMemoryError
from llmrec.items import TextEncoder, VectorCache, item_text
from llmrec.records import Item
from tests.items.small_encoders import fits, interrupted_after, letter_counts


def test_rows_are_float32_of_length_one_in_the_order_of_the_texts() -> None:
    vectors = TextEncoder(letter_counts(), "letters").encode(["aab", "h", "ccccc" * 50, "h"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    assert vectors.argmax(axis=1).tolist() == [0, 7, 2, 7]


def test_text_without_tokens_has_a_zero_row() -> None:
    assert not TextEncoder(letter_counts(), "letters").encode([""]).any()


def test_no_texts_give_no_rows_of_the_right_length() -> None:
    encoder = TextEncoder(letter_counts(), "letters")
    assert encoder.dimension == 8
    assert encoder.encode([]).shape == (0, 8)


def test_equal_texts_are_computed_once() -> None:
    model = letter_counts()
    encoded = TextEncoder(model, "letters").encode_counted(["abc", "abc", "d", "abc"])
    assert (encoded.computed, encoded.cached) == (2, 0)
    assert sorted(model.asked) == ["abc", "d"]


def test_changing_one_text_computes_one_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    texts = [f"{letter} number {number}" for number in range(100) for letter in "abc"]
    first = TextEncoder(letter_counts(), "letters", cache=cache).encode_counted(texts)
    assert (first.computed, first.cached) == (300, 0)

    model = letter_counts()
    with caplog.at_level(logging.INFO):
        second = TextEncoder(model, "letters", cache=cache).encode_counted(["hh", *texts[1:]])
    assert model.asked == ["hh"]
    assert (second.computed, second.cached) == (1, 299)
    assert "1 computed, 299 from the cache" in caplog.text
    np.testing.assert_array_equal(first.vectors[1:], second.vectors[1:])


@pytest.mark.parametrize(
    "row",
    [b"", b"odd", np.ones(1, "<f4"), np.ones(9, "<f4"), np.full(8, np.nan, "<f4"),
     np.full(8, np.inf, "<f4"), np.full(8, 3e38, "<f4"), np.full(8, 0.9, "<f4")],
)  # fmt: skip
def test_a_damaged_row_of_the_cache_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: bytes | np.ndarray
) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    encoder = TextEncoder(letter_counts(), "letters", cache=cache)
    first = encoder.encode(["a", "bb", "abc"])
    content = row if isinstance(row, bytes) else row.tobytes()
    ContentCache(cache.path).put_many({encoder._key("bb"): content})
    again = encoder.encode_counted(["a", "bb", "abc"])
    np.testing.assert_array_equal(again.vectors, first)
    assert (again.computed, again.cached) == (1, 2)
    assert "1 damaged results in the cache" in caplog.text
    assert encoder.encode_counted(["bb"]).cached == 1


def test_another_model_does_not_see_these_vectors(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    TextEncoder(letter_counts(), "letters@1", cache=cache).encode(["abc"])
    encoded = TextEncoder(letter_counts(), "letters@2", cache=cache).encode_counted(["abc"])
    assert (encoded.computed, encoded.cached) == (1, 0)


def test_an_interrupted_run_continues_where_it_stopped(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    texts = [f"a{number:03}" for number in range(20)]
    stopped = letter_counts(interrupted_after(1))
    with pytest.raises(KeyboardInterrupt):
        TextEncoder(stopped, "letters", cache=cache, batch_size=1).encode(texts)
    resumed = TextEncoder(letter_counts(), "letters", cache=cache).encode_counted(texts)
    assert (resumed.computed, resumed.cached) == (12, 8)


def test_other_scripts_and_half_characters_have_keys_of_their_own(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    texts = ["好书", "كتاب", "📚", "\ud83d", ""]
    assert TextEncoder(letter_counts(), "l", cache=cache).encode_counted(texts).computed == 5


@pytest.mark.parametrize(
    "answer", [np.full((1, 8), np.nan), np.ones(8), np.ones((2, 8))], ids=["nan", "flat", "many"]
)
def test_an_encoder_that_returns_something_else_is_named(
    answer: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = letter_counts()
    monkeypatch.setattr(model, "encode", lambda *_, **__: answer)
    with pytest.raises(ModelError, match="stubborn"):
        TextEncoder(model, "stubborn").encode(["a"])


def test_the_text_of_an_item_is_title_readable_attributes_description() -> None:
    item = Item(
        "7",
        title="Blue Kettle",
        description="Boils water.",
        attributes={"material": ("steel", "glass"), "price": 24.5, "in_stock": True, "n_sold": 9},
    )
    assert item_text(item) == (
        "Blue Kettle\nmaterial: steel, glass\nprice: 24.5\nin_stock: yes\nBoils water."
    )


def test_item_text_skips_missing_fields() -> None:
    assert item_text(Item("7", description="Boils water.")) == "Boils water."
    assert item_text(Item("7")) == ""


def test_an_unknown_model_is_named_before_anything_loads() -> None:
    with pytest.raises(ModelNotFoundError, match="no such model at all"):
        TextEncoder.from_pretrained("no such model at all")


def test_a_folder_that_holds_no_encoder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    with pytest.raises(ModelError, match=str(tmp_path)):
        TextEncoder.from_pretrained(str(tmp_path))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    cache = VectorCache(tmp_path_factory.mktemp("cache") / "vectors.sqlite3")
    return TextEncoder.from_pretrained(device="cpu", cache=cache)


def test_the_default_model_puts_like_beside_like(minilm: TextEncoder) -> None:
    kettle, teapot, novel = minilm.encode(
        ["Electric kettle", "Stoneware teapot", "A crime novel set in Glasgow"]
    )
    assert minilm.dimension == 384
    assert "minilm" in minilm.name.lower()
    assert kettle @ teapot > kettle @ novel


def test_a_very_long_text_and_other_scripts_are_embedded(minilm: TextEncoder) -> None:
    vectors = minilm.encode(
        ["long " * 20_000, "关于茶的书", "كتاب عن الشاي", "🫖📚", "half \ud83d", ""]
    )
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_padding_beside_other_texts_does_not_matter(minilm: TextEncoder) -> None:
    texts = ["tea", "a much longer text about kettles, pots and cups " * 5]
    together = TextEncoder(minilm.model, "uncached").encode(texts)
    alone = TextEncoder(minilm.model, "uncached").encode(texts[:1])
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


SHORT_OF_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_out_of_memory_halves_the_batch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    vectors = TextEncoder(letter_counts(fits(3, SHORT_OF_MEMORY)), "letters", batch_size=16).encode(
        ["a", "bb"]
    )
    np.testing.assert_allclose(vectors[:, :2], np.eye(2))
    assert "trying again with 2 texts" in caplog.text


def test_out_of_memory_to_the_end_is_a_clear_error() -> None:
    with pytest.raises(OutOfMemoryError, match="Not even one text"):
        TextEncoder(letter_counts(fits(0, SHORT_OF_MEMORY)), "letters").encode(["a"])


def test_another_runtime_error_is_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="something else"):
        TextEncoder(letter_counts(fits(0, RuntimeError("something else"))), "letters").encode(["a"])
