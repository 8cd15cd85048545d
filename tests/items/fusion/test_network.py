from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from llmrec.errors import OptionError
from llmrec.items.fusion import FusionConfig
from llmrec.items.fusion.network import (
    FusionNetwork,
    Histories,
    HistoryEncoder,
    ItemTower,
    by_distance,
    gap_features,
    softmax_loss,
)

CONFIG = FusionConfig(dimension=8, history=5, layers=2)


def tower() -> ItemTower:
    return FusionNetwork({"text": 4, "image": 3}, 2, 0, CONFIG).items


def made_up(times: list[int], profiles: int = 0) -> tuple[torch.Tensor, Histories]:
    t = len(times)
    given = Histories(
        torch.zeros(1, t, dtype=torch.int64),
        torch.ones(1, t, dtype=torch.bool),
        torch.tensor([times]),
        torch.zeros(1, profiles),
    )
    return torch.nn.functional.normalize(torch.randn(1, t, 8), dim=-1), given


def awake(encoder: HistoryEncoder) -> HistoryEncoder:
    """Give random values to the parameters that begin as zeros."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def test_a_missing_modality_has_no_say() -> None:
    items = tower().eval()
    text, image = torch.randn(3, 4), torch.randn(3, 3)
    present = {
        "text": torch.tensor([True, True, False]),
        "image": torch.tensor([True, False, False]),
    }
    known = torch.tensor([0, -1, -1])
    fused = items({"text": text, "image": image}, present, known)
    other = items({"text": text, "image": image + 9 * ~present["image"][:, None]}, present, known)
    torch.testing.assert_close(fused, other)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(fused[1], unit(items.projections["text"](text)[1], dim=0))
    torch.testing.assert_close(fused[2], unit(items.missing, dim=0))
    fused.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in items.parameters() if p.grad is not None)


def test_an_identity_is_hidden_only_where_a_modality_remains() -> None:
    items = ItemTower({"text": 4}, 2, FusionConfig(dimension=8, identity_dropout=0.99)).train()
    present = {"text": torch.tensor([True, False])}
    torch.manual_seed(0)
    fused = items({"text": torch.randn(2, 4)}, present, torch.tensor([0, 1]))
    assert items.identities is not None
    own = torch.nn.functional.normalize(items.identities.weight[1], dim=0)
    torch.testing.assert_close(fused[1], own)


def test_a_user_begins_as_the_recent_mean_of_the_items_met() -> None:
    encoder = HistoryEncoder(0, CONFIG).eval()
    history, given = made_up([1, 2, 3])
    with torch.no_grad():
        encoder.start.zero_()
        encoder.opinion.weight.zero_()
        encoder.out.bias.zero_()
    user = encoder(history, given)[0, -1]
    ages = torch.tensor([2.0, 1.0, 0.0])
    mean = (torch.exp(-0.1 * ages)[:, None] * history[0]).sum(dim=0)
    torch.testing.assert_close(torch.cosine_similarity(user, mean, dim=0), torch.tensor(1.0))
    torch.testing.assert_close(user.norm(), encoder.log_scale.exp()[0])


def test_attention_is_causal() -> None:
    encoder = awake(HistoryEncoder(0, CONFIG))
    history, given = made_up([0, 10, 20, 30, 40])
    whole = encoder(history, given)
    assert whole.shape == (1, 6, 8)
    torch.testing.assert_close(encoder(history, given, last=True)[:, 0], whole[:, -1])
    changed = history.clone()
    changed[0, 3:] += 1
    torch.testing.assert_close(encoder(changed, given)[0, :4], whole[0, :4])
    assert not torch.allclose(encoder(changed, given)[0, 4], whole[0, 4])


CHANGES: dict[str, Callable[[Histories], Histories]] = {
    "opinions": lambda g: Histories(g.items, ~g.liked, g.times, g.profiles),
    "times": lambda g: Histories(g.items, g.liked, g.times**2, g.profiles),
    "profile": lambda g: Histories(g.items, g.liked, g.times, g.profiles + 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_reads(change: str) -> None:
    encoder = awake(HistoryEncoder(2, CONFIG))
    history, given = made_up([5, 50, 500], profiles=2)
    assert not torch.allclose(
        encoder(history, CHANGES[change](given))[0, -1], encoder(history, given)[0, -1]
    )


def test_only_the_time_between_events_counts() -> None:
    encoder = awake(HistoryEncoder(0, CONFIG))
    history, given = made_up([5, 50, 500])
    later = Histories(given.items, given.liked, given.times + 10**9, given.profiles)
    torch.testing.assert_close(encoder(history, later), encoder(history, given))


def test_values_by_distance_are_laid_out() -> None:
    table = by_distance(torch.tensor([1.0, 2.0, 3.0]), floor=0)
    assert table.tolist() == [[1, 0, 0], [2, 1, 0], [3, 2, 1]]
    last = by_distance(torch.tensor([1.0, 2.0, 3.0]), floor=0, last=True)
    assert torch.equal(last, table[-1:])


def test_gaps_of_unknown_and_of_equal_times() -> None:
    features = gap_features(torch.tensor([[-1, 7, 7, 7 + 60]]))[:, 0]
    assert not features[:, 0].any()
    assert not features[:, :, 0].any()
    assert features[:, 2, 1].tolist() == [0, 0, 1]
    assert features[0, 3, 1] > 0
    assert features[2, 3, 1] == 0
    assert torch.isfinite(gap_features(torch.tensor([[0, 2**62]]))).all()


@pytest.mark.parametrize("rows", [3, 1100])
def test_the_loss_and_its_gradient_are_those_of_the_softmax(rows: int) -> None:
    torch.manual_seed(0)
    users, items = (torch.randn(n, 4, dtype=torch.float64).requires_grad_() for n in (rows, 7))
    targets, log_q = torch.randint(7, (rows,)), torch.randn(7, dtype=torch.float64)
    for correction in (None, log_q):
        loss = 3 * softmax_loss(users, items, targets, correction)
        scores = users @ items.T - (0 if correction is None else correction)
        expected = 3 * torch.nn.functional.cross_entropy(scores, targets)
        torch.testing.assert_close(loss, expected)
        for one, other in zip(
            torch.autograd.grad(loss, (users, items)),
            torch.autograd.grad(expected, (users, items)),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dimension": 0}, r"dimension is 0 \(int\); allowed is a whole number from 1 to 4096"),
        ({"layers": 65}, "layers is 65"),
        ({"history": 10**400}, "history is 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"dimension": 9}, "multiple of heads, 2"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 0.0}, "more than 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"identities": 1}, "True or False"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        FusionConfig(**change)  # type: ignore[arg-type]


def test_settings_from_texts() -> None:
    read = CONFIG.with_texts({"layers": "0", "identities": "false", "dropout": "0"})
    assert (read.layers, read.identities, read.dropout) == (0, False, 0.0)
    assert read.dimension == 8
    with pytest.raises(OptionError, match="no setting 'layer'"):
        CONFIG.with_texts({"layer": "1"})
    with pytest.raises(OptionError, match="epochs is 'many'"):
        CONFIG.with_texts({"epochs": "many"})
