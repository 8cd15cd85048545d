from __future__ import annotations

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError
from llmrec.items import ModalityVectors
from llmrec.items.modality import concatenate


def made(name: str, d: int, n: int = 4, gone: int | None = None) -> ModalityVectors:
    rows = np.random.default_rng(d).normal(size=(n, d)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    present = np.arange(n) != gone
    return ModalityVectors(name, f"{name}@1", rows * present[:, None].astype(np.float32), present)


def test_a_cosine_is_the_weighted_mean_of_cosines() -> None:
    a, b = made("text", 3), made("image", 5)
    joint = concatenate([a, b], {"text": 3})
    expected = (3 * a.vectors @ a.vectors.T + b.vectors @ b.vectors.T) / 4
    np.testing.assert_allclose(joint.vectors @ joint.vectors.T, expected, atol=1e-6)
    assert joint.vectors.dtype == np.float32
    assert joint.name == "joint"


def test_missing_modality_is_a_block_of_zeros() -> None:
    joint = concatenate([made("text", 3), made("image", 5, gone=1)])
    assert not joint.vectors[1, 3:].any()
    np.testing.assert_allclose(np.linalg.norm(joint.vectors, axis=1), 1, rtol=1e-6)
    alone = concatenate([made("image", 5, gone=1)])
    assert alone.present.tolist() == [True, False, True, True]
    assert not alone.vectors[1].any()


def test_bad_input_is_refused() -> None:
    a = made("text", 3)
    with pytest.raises(DataError, match="different numbers of items"):
        concatenate([a, made("image", 3, n=5)])
    for modalities, weights, says in (
        ([], None, "at least one"),
        ([a, a], None, "each once"),
        ([a], {"texts": 1.0}, "'text'"),
        ([a], {"text": -1.0}, "allowed is 0 or more"),
        ([a], {"text": 0.0}, "All weights are 0"),
    ):
        with pytest.raises(OptionError, match=says):
            concatenate(modalities, weights)
