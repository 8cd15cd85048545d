from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, DistilBertConfig, DistilBertForSequenceClassification

from llmrec.content_cache import ContentCache, content_key
from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.items.sentiment_model import _VERSION, ModelSentiment, label_values
from llmrec.records import Review, SentimentSource

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "."]
STARS = {at: f"{at + 1} stars" if at else "1 star" for at in range(5)}


def classifier(folder: Path, labels: dict[int, str]) -> Path:
    """A tiny random classifier with a vocabulary of ten words."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(WORDS),
        dim=8,
        hidden_dim=16,
        n_layers=1,
        n_heads=2,
        id2label=labels,
        label2id={name: at for at, name in labels.items()},
    )
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (STARS, [0, 0, 0.5, 1, 1]),
        ({0: "NEG", 1: "NEU", 2: "POS"}, [0, 0.5, 1]),
        ({0: "Very Negative", 1: "negative", 2: "Neutral", 3: "very_positive"}, [0, 0, 0.5, 1]),
        ({0: "POSITIVE", 1: "NEGATIVE"}, [1, 0]),
    ],
)
def test_labels_have_a_value(labels: dict[int, str], values: list[float]) -> None:
    assert label_values(labels, "m").tolist() == values


@pytest.mark.parametrize(
    "labels", [{0: "LABEL_0", 1: "LABEL_1"}, {0: "joy", 1: "anger"}, {0: "positive"}, {}]
)
def test_labels_that_are_no_sentiment_are_refused(labels: dict[int, str]) -> None:
    with pytest.raises(ModelError, match=r"labels .*; allowed are"):
        label_values(labels, "m")


@pytest.mark.parametrize("labels", [STARS, {0: "NEG", 1: "NEU", 2: "POS"}])
def test_scores_lie_between_0_and_1_and_are_kept(tmp_path: Path, labels: dict[int, str]) -> None:
    folder = classifier(tmp_path / "model", labels)
    cache = ContentCache(tmp_path / "insights.sqlite3")
    reviews = [Review("a", text) for text in ("good film.", "", "bad. good.", "Ω Ψ Ξ Λ", "a\ud83d")]
    model = ModelSentiment.from_pretrained(str(folder), cache=cache, device="cpu")
    assert model.source == SentimentSource.MODEL
    scores = model.scores(reviews)
    assert np.isnan(scores).tolist() == [False, True, False, True, False]
    told = scores[np.isfinite(scores)]
    assert ((told > 0) & (told < 1)).all()
    assert [len(each) for each in model.sentence_scores(reviews)] == [1, 0, 2, 1, 1]
    without = ModelSentiment(None, None, model.values, model.name, cache)
    np.testing.assert_array_equal(without.scores(reviews), scores)
    key = content_key(_VERSION, model.name, "bad.")
    for row in (b"", b"1234567", struct.pack("<d", np.inf), struct.pack("<d", -0.5)):
        cache.put_many({key: row})
        assert [len(each) for each in model.sentence_scores(reviews)] == [1, 0, 2, 1, 1]
        assert cache.get_many([key])[key] != row


def test_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    folder = str(classifier(tmp_path / "model", STARS))
    reviews = [Review("a", "good film " * n) for n in range(1, 9)]
    model = ModelSentiment.from_pretrained(folder, cache=ContentCache(tmp_path / "1"), device="cpu")
    alone = ModelSentiment(
        model.model, model.tokenizer, model.values, "x", ContentCache(tmp_path / "2"), batch_size=1
    )
    np.testing.assert_allclose(model.scores(reviews), alone.scores(reviews), atol=1e-6)


def test_invalid_labels_fail_before_the_weights_load(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "model", {0: "LABEL_0", 1: "LABEL_1"})
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="LABEL_0") as caught:
        ModelSentiment.from_pretrained(str(folder), cache=ContentCache(tmp_path / "cache"))
    assert "id2label" in str(caught.value.hint)


def test_another_kind_of_model_is_refused(minilm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no text-classification model"):
        ModelSentiment.from_pretrained(str(minilm_folder), cache=ContentCache(tmp_path / "cache"))


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    folder = str(classifier(tmp_path / "model", STARS))
    model = ModelSentiment.from_pretrained(folder, cache=ContentCache(tmp_path / "c"), device="cpu")
    with torch.no_grad():
        model.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        model.scores([Review("a", "good film")])


def test_missing_sentiment_model_is_an_error_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with pytest.raises(ModelNotFoundError):
        ModelSentiment.from_pretrained(
            str(tmp_path / "none"), cache=ContentCache(tmp_path / "cache")
        )
