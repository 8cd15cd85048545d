"""An index of whole items: several modalities, insights, a trained fusion; saved and opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from llmrec.catalog import Catalog
from llmrec.errors import ModelError, OptionError, StorageError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import Fusion, FusionConfig
from llmrec.records import Aspect, Caption, CaptionSource, Insight, Opinion, SentimentSource, User
from llmrec.retrieval import Index, Retriever
from llmrec.training import train_fusion

N = 12


class Counts:
    """Embeds a text by how many of its letters are an a and how many a b."""

    name = "counts@1"

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        rows = np.array([[text.count("a") + 0.1, text.count("b") + 0.1] for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.from_datasets(
        [{"item_id": str(n), "title": "a" * (n + 1) + "b" * (N - n)} for n in range(N)],
        interactions=[
            {"user_id": f"u{user}", "item_id": str((user + step) % N), "timestamp": step}
            for user in range(8)
            for step in range(5)
        ],
        users=[{"user_id": "cold", "likes": "aaaa"}],
    )


@pytest.fixture(scope="module")
def modalities(catalog: Catalog) -> tuple[ModalityVectors, ...]:
    texts = Counts().encode([item.title for item in catalog.items.values()])
    there = np.arange(N) % 2 == 0
    pictures = np.where(there[:, None], np.eye(3, dtype=np.float32)[np.arange(N) % 3], 0)
    return (
        ModalityVectors("text", Counts.name, texts, np.ones(N, dtype=bool)),
        ModalityVectors("image", "eye@1", pictures.astype(np.float32), there, {1: "it is torn"}),
    )


@pytest.fixture(scope="module")
def fusion(catalog: Catalog, modalities: tuple[ModalityVectors, ...]) -> Fusion:
    config = FusionConfig(epochs=2, dimension=8, heads=2)
    return train_fusion(catalog, modalities, {}, config).fusion


INSIGHT = Insight(
    Caption("a red tent", CaptionSource.MODEL),
    None,
    Opinion(3, 2 / 3, ("Dry.",), (), (Aspect("pegs", 1, 0),), SentimentSource.RATINGS),
    ("made by: A",),
    {"clip": "it has no picture"},
)


@pytest.fixture(scope="module")
def whole(catalog: Catalog, modalities: tuple[ModalityVectors, ...], fusion: Fusion) -> Index:
    return Index.build(
        catalog, Counts(), modalities=modalities, insights={"0": INSIGHT}, fusion=fusion
    )


def test_modalities_are_concatenated_text_first(whole: Index) -> None:
    vectors = whole.vectors
    assert vectors.shape == (N, 5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert not vectors[1, 2:].any()  # no picture
    np.testing.assert_allclose(vectors[1, :2], Counts().encode([whole.items["1"].title])[0])
    assert list(whole.modalities) == ["text", "image"]


def test_a_file_that_could_not_be_embedded_is_a_gap_of_its_item(whole: Index) -> None:
    assert whole.insight_of("1").gaps == {"image": "it is torn"}
    assert whole.insight_of("0") == INSIGHT
    assert whole.insight_of("2") == Insight()


def test_all_of_it_comes_back_from_the_disk(whole: Index, tmp_path: Path) -> None:
    whole.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", verify=True)
    assert opened.insights == whole.insights
    assert opened.modalities == whole.modalities
    assert opened.fusion is not None
    assert whole.fusion is not None
    assert opened.fusion.name == whole.fusion.name
    np.testing.assert_array_equal(opened.vectors, whole.vectors)
    np.testing.assert_array_equal(np.asarray(opened.fused), np.asarray(whole.fused))
    user = whole.user("u1")
    assert Retriever(opened).retrieve(user, 3) == Retriever(whole).retrieve(user, 3)


def test_a_trained_fusion_is_a_signal_of_its_own(whole: Index, fusion: Fusion) -> None:
    user = whole.user("u1")
    retriever = Retriever(whole)
    assert "sequence" in retriever.weights
    assert whole.fused is not None
    rows = [whole.row(row.item_id) for row in user.history]
    taste = fusion.user_vector(whole.fused[rows], user)
    np.testing.assert_allclose(retriever.signals(user)["sequence"], whole.fused @ taste, rtol=1e-5)
    assert (
        "sequence"
        not in Retriever(Index.build(Catalog(whole.items), Counts(), modalities=())).weights
    )


def test_a_profile_is_compared_with_the_text_block_alone(whole: Index) -> None:
    cold = User("new", profile={"likes": "aaaaaaaaaaaa"})
    content = Retriever(whole, weights={"content": 1.0}, encoder=Counts()).signals(cold)["content"]
    assert int(np.argmax(content)) == N - 1


def test_a_fusion_of_other_encoders_is_refused(
    catalog: Catalog, modalities: tuple[ModalityVectors, ...], fusion: Fusion
) -> None:
    text, image = modalities
    other = ModalityVectors("text", "other@1", text.vectors, text.present)
    with pytest.raises(ModelError, match=r"text vectors of counts@1, not of other@1"):
        Index.build(catalog, Counts(), modalities=(other, image), fusion=fusion)


def test_an_updated_index_is_fused_anew(
    whole: Index, catalog: Catalog, modalities: tuple[ModalityVectors, ...]
) -> None:
    fewer = Catalog(dict(list(catalog.items.items())[2:]))
    rows = tuple(
        ModalityVectors(given.name, given.encoder, given.vectors[2:], given.present[2:])
        for given in modalities
    )
    updated = whole.updated(fewer, Counts(), modalities=rows)
    np.testing.assert_array_equal(updated.vectors, whole.vectors[2:])
    np.testing.assert_allclose(np.asarray(updated.fused), np.asarray(whole.fused)[2:], atol=1e-6)
    with pytest.raises(OptionError, match="given is text"):
        whole.updated(fewer, Counts())


def test_a_fusion_needs_modalities_and_says_which_it_does_not_know(
    catalog: Catalog,
    modalities: tuple[ModalityVectors, ...],
    fusion: Fusion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(OptionError, match=r"modalities is \(\)"):
        Index.build(catalog, Counts(), modalities=(), fusion=fusion)
    sound = ModalityVectors("audio", "ear@1", np.ones((N, 1), np.float32), np.ones(N, dtype=bool))
    made = Index.build(catalog, Counts(), modalities=(*modalities, sound), fusion=fusion)
    assert "was not trained with audio" in caplog.text
    assert made.fused is not None


def test_a_damaged_fusion_is_named(whole: Index, tmp_path: Path) -> None:
    whole.save(tmp_path / "index")
    (path,) = (tmp_path / "index").glob("fusion-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match=path.name):
        Index.open(tmp_path / "index")


def test_a_fusion_of_other_items_is_noticed(
    catalog: Catalog,
    modalities: tuple[ModalityVectors, ...],
    fusion: Fusion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    few = Catalog.from_datasets([{"item_id": str(n), "title": "ab"} for n in (3, 100)])
    rows = [
        ModalityVectors(one.name, one.encoder, one.vectors[:2], one.present[:2])
        for one in modalities
    ]
    Index.build(few, Counts(), modalities=rows, fusion=fusion)
    said = f"Of the {N} items that {fusion.name} was trained on, 1 are in this catalogue"
    assert said in caplog.text
    caplog.clear()
    Index.build(catalog, Counts(), modalities=modalities, fusion=fusion)
    assert "are in this catalogue" not in caplog.text
