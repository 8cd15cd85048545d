from __future__ import annotations

import pytest
import torch

from llmrec.errors import OptionError
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.network import FusionNetwork, HistoryEncoder

CONFIG = FusionConfig(dimension=8, history=5, layers=2)


def test_a_missing_modality_has_no_say() -> None:
    tower = FusionNetwork({"text": 4, "image": 3}, 2, CONFIG).eval().items
    text, image = torch.randn(3, 4), torch.randn(3, 3)
    present = {
        "text": torch.tensor([True, True, False]),
        "image": torch.tensor([True, False, False]),
    }
    known = torch.tensor([0, -1, -1])
    fused = tower({"text": text, "image": image}, present, known)
    other = tower({"text": text, "image": image + 9 * ~present["image"][:, None]}, present, known)
    torch.testing.assert_close(fused, other)
    torch.testing.assert_close(fused[1], tower.projections["text"](text)[1])
    torch.testing.assert_close(fused[2], tower.missing)
    fused.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters() if p.grad is not None)


def test_attention_is_causal() -> None:
    encoder = HistoryEncoder(CONFIG).eval()
    history, liked = torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool)
    whole = encoder(history, liked)
    assert whole.shape == (1, 6, 8)
    changed = history.clone()
    changed[0, 3:] += 1
    torch.testing.assert_close(encoder(changed, liked)[0, :4], whole[0, :4])
    assert not torch.allclose(encoder(changed, liked)[0, 4], whole[0, 4])
    assert not torch.allclose(encoder(history, ~liked)[0, 5], whole[0, 5])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dimension": 0}, "dimension is 0; allowed is a whole number of 1 or more"),
        ({"dimension": 9}, "multiple of heads, 2"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"negatives": "some"}, "'full' or 'batch'"),
        ({"augmentation": ("flip",)}, "crop, mask, reorder"),
        ({"infonce": 0.0}, "more than 0 for at least one"),
        ({"bpr": -1.0}, "bpr is -1.0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"identities": 1}, "True or False"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        FusionConfig(**change)  # type: ignore[arg-type]


def test_settings_from_texts() -> None:
    read = CONFIG.with_texts({"layers": "0", "identities": "false", "augmentation": "crop,mask"})
    assert (read.layers, read.identities, read.augmentation) == (0, False, ("crop", "mask"))
    assert read.dimension == 8
    with pytest.raises(OptionError, match="no setting 'layer'"):
        CONFIG.with_texts({"layer": "1"})
    with pytest.raises(OptionError, match="epochs is 'many'"):
        CONFIG.with_texts({"epochs": "many"})
