from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.items.efficientnet import EfficientNetLite0, prepare
from llmrec.items.pictures import open_picture
from llmrec.models import resolve_model


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    try:
        return EfficientNetLite0(resolve_model("efficientnet-lite0").path)
    except ModelNotFoundError as error:
        pytest.skip(str(error))


def test_the_middle_square_is_read_and_scaled_as_the_authors_do() -> None:
    picture = Image.new("RGB", (512, 256), "black")
    picture.paste((255, 127, 0), (144, 16, 368, 240))  # the 224 pixels in the middle
    pixels = prepare(picture)
    assert pixels.shape == (3, 224, 224)
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), [1.0, 0.0, -127 / 128], atol=1e-6)


def test_product_pictures_get_their_class(
    network: EfficientNetLite0, shared_data: Callable[[str], Path]
) -> None:
    """The order of the class names is right: else no kind would fit."""
    folder = shared_data("fashion_small")
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    expected = {"Tshirts": {"jersey"}, "Watches": {"digital watch", "stopwatch", "analog clock"}}
    for kind, names in expected.items():
        of_kind = [row for row in rows if row["categories"][-1] == kind][:24]
        pictures = [open_picture(folder / row["image"]) for row in of_kind]
        shares = network.probabilities(pictures)
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
        top = [{network.class_names[n] for n in np.argsort(-row)[:3]} for row in shares]
        assert np.mean([bool(names & some) for some in top]) > 0.6


def test_a_picture_has_the_same_features_in_any_batch(network: EfficientNetLite0) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (90, 60, 3), dtype=np.uint8)) for _ in range(3)
    ]
    together = network.encode(pictures)
    alone = network.encode(pictures, batch_size=1)
    assert together.shape == (3, 1280)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert network.encode([]).shape == (0, 1280)


def test_a_folder_that_holds_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "efficientnet-lite0.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=str(tmp_path)):
        EfficientNetLite0(tmp_path)
