from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.catalog import Catalog
from llmrec.errors import DataError, OptionError
from llmrec.items import ModalityVectors
from llmrec.records import Caption, CaptionSource, Insight, Interaction, Item
from llmrec.retrieval import Index


class Counting:
    """Embeds a text by its length and remembers what it was asked."""

    name = "counting@1"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        self.texts += texts
        return np.array([[len(text), 1.0] for text in texts])


def catalog_of(**titles: str) -> Catalog:
    items = {item_id: Item(item_id, title) for item_id, title in titles.items()}
    return Catalog(items, (Interaction("u", next(iter(titles))),)) if titles else Catalog({})


OLD = catalog_of(a="one", b="three", c="seventeen")
NEW = catalog_of(c="seventeen", d="four", b="thirty")


def caption(text: str) -> Insight:
    return Insight(picture=Caption(text, CaptionSource.GIVEN))


def test_only_changed_items_are_embedded(tmp_path: Path) -> None:
    insights = {name: caption(name) for name in "abc"}
    built = Index.build(OLD, Counting(), modalities=(), insights=insights).with_weights(
        "key", {"content": 1}
    )
    built.save(tmp_path)
    encoder = Counting()
    updated = Index.open(tmp_path).updated(NEW, encoder)
    assert encoder.texts == ["four", "thirty"]
    fresh = Index.build(NEW, Counting(), modalities=())
    np.testing.assert_array_equal(updated.vectors, fresh.vectors)
    assert updated.item_ids == ("c", "d", "b")
    assert updated.interactions == NEW.interactions
    assert updated.fingerprint == fresh.fingerprint
    assert updated.insights == {"c": caption("c")}
    assert updated.weights == {"key": {"content": 1}}
    updated.save(tmp_path)
    assert Index.open(tmp_path, verify=True).items == NEW.items


def test_unchanged_items_are_not_embedded() -> None:
    encoder = Counting()
    updated = Index.build(OLD, Counting(), modalities=()).updated(
        OLD, encoder, insights={"a": caption("new")}
    )
    assert encoder.texts == []
    assert updated.items == OLD.items
    assert updated.insights == {"a": caption("new")}


def modalities(catalog: Catalog, seed: int) -> tuple[ModalityVectors, ...]:
    rng = np.random.default_rng(seed)
    n = len(catalog.items)
    text = np.array([[len(item.title), 1.0] for item in catalog.items.values()], dtype=np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    image = np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]
    present = np.ones(n, dtype=bool)
    return (
        ModalityVectors("text", "counting@1", text, present),
        ModalityVectors("image", "pictures@1", image, present),
    )


def test_with_several_modalities_changed_vectors_are_put() -> None:
    index = Index.build(OLD, Counting(), modalities=modalities(OLD, 0))
    given = modalities(NEW, 1)
    updated = index.updated(NEW, Counting(), modalities=given)
    fresh = Index.build(NEW, Counting(), modalities=given)
    np.testing.assert_array_equal(updated.vectors, fresh.vectors)
    same = index.updated(OLD, Counting(), modalities=modalities(OLD, 0))
    np.testing.assert_array_equal(same.vectors, index.vectors)


def test_mismatched_updates_are_refused() -> None:
    index = Index.build(OLD, Counting(), modalities=modalities(OLD, 0))
    with pytest.raises(OptionError, match=r"text \(counting@1\), image.*given is text"):
        index.updated(NEW, Counting())
    other = Counting()
    other.name = "other@2"
    plain = Index.build(OLD, Counting(), modalities=())
    with pytest.raises(OptionError, match="other@2"):
        plain.updated(NEW, other)
    with pytest.raises(DataError, match="0 items"):
        plain.updated(catalog_of(), Counting())


def test_vectors_that_are_not_finite_are_refused() -> None:
    class Broken(Counting):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
            return np.full((len(texts), 2), np.nan)

    index = Index.build(OLD, Counting(), modalities=())
    with pytest.raises(DataError, match="not finite, the first that of 'd'"):
        index.updated(NEW, Broken())
    assert replace(index, weights={}).updated(OLD, Broken()).items == OLD.items
