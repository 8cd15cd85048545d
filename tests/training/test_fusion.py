from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmrec.catalog import Catalog
from llmrec.errors import DataError, ModelError, OptionError, StorageError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import Fusion, FusionConfig
from llmrec.items.fusion.fusion_files import read_tensors, write_tensors
from llmrec.records import Interaction, User
from llmrec.training import TrainedFusion, hold_out_last_rows, objective, train_fusion
from llmrec.training.train_fusion import move
from tests.training.conftest import World

SMALL = FusionConfig(
    dimension=16, history=6, epochs=6, patience=0, batch_size=64, learning_rate=0.01, dropout=0.1
)
SHORT = replace(SMALL, epochs=3)


class KilledError(Exception):
    pass


class Kill:
    """A tracker that kills the run after an epoch."""

    def __init__(self, after: int) -> None:
        self.after = after

    def log(self, figures: Mapping[str, float], *, step: int) -> None:
        if step == self.after:
            raise KilledError

    def close(self) -> None: ...


def train(world: World, config: FusionConfig = SHORT, **more: Any) -> TrainedFusion:  # noqa: ANN401
    return train_fusion(world.training, world.modalities, world.split.validation, config, **more)


@pytest.fixture(scope="module")
def trained(world: World) -> TrainedFusion:
    return train(world, SMALL)


def test_it_learns_a_clear_pattern(trained: TrainedFusion) -> None:
    # Popularity is at chance over all items: 10 of 42. The user's own kind has at most 5 left.
    assert trained.best.recall is not None
    assert trained.best.recall > 0.9
    assert trained.best.hybrid is not None
    assert trained.best.hybrid > 0.3
    assert trained.epochs[-1].loss < trained.epochs[0].loss


def test_a_new_item_of_the_users_kind_ranks_above_new_items_of_others(
    world: World, trained: TrainedFusion
) -> None:
    fusion, text = trained.fusion, world.modalities[0]
    known = fusion.item_vectors(world.modalities, list(world.training.items))
    new = fusion.item_vectors([replace_rows(text, slice(0, 4))], ["a", "b", "c", "d"])
    user = fusion.user_vector(known[[1, 5, 9]], who("i1", "i5", "i9"))  # all of kind 1
    assert np.argmax(new @ user) == 1


def test_a_modality_missing_on_all_items_or_not_given_counts_the_same(
    world: World, trained: TrainedFusion
) -> None:
    ids = list(world.training.items)
    text, image = world.modalities
    nowhere = ModalityVectors(
        "image", "v@1", np.zeros_like(image.vectors), np.zeros(len(ids), dtype=bool)
    )
    empty = trained.fusion.item_vectors([text, nowhere], ids)
    np.testing.assert_allclose(empty, trained.fusion.item_vectors([text], ids), atol=1e-6)
    nothing = trained.fusion.item_vectors([], ["new", "newer"])
    assert np.isfinite(nothing).all()
    np.testing.assert_array_equal(nothing[0], nothing[1])


def test_only_the_last_items_of_a_long_history_count(trained: TrainedFusion) -> None:
    history = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    user = who(*"abcdefghijklmnopqrst")
    last = replace(user, history=user.history[-6:])
    whole = trained.fusion.user_vector(history, user)
    np.testing.assert_array_equal(whole, trained.fusion.user_vector(history[-6:], last))
    assert np.isfinite(trained.fusion.user_vector(history[:0], who())).all()


def test_the_same_seed_gives_the_same_bytes(world: World) -> None:
    torch.rand(3)  # what was drawn before does not matter
    one, two = train(world), train(world)
    assert one.fusion.name == two.fusion.name
    assert one.fusion.name != train(world, replace(SHORT, seed=1)).fusion.name


def test_a_killed_run_resumes_to_the_same_bytes(world: World, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train(world, out=whole)
    with pytest.raises(KilledError):
        train(world, out=halves, tracker=Kill(after=2))
    resumed = train(world, out=halves)
    assert len(resumed.epochs) == SHORT.epochs
    name = "fusion.safetensors"
    assert (whole / name).read_bytes() == (halves / name).read_bytes()


def test_a_longer_run_resumes_a_shorter_one(world: World, tmp_path: Path) -> None:
    train(world, replace(SHORT, epochs=2), out=tmp_path)
    resumed, whole = train(world, SHORT, out=tmp_path), train(world)
    assert (resumed.best_epoch, resumed.fusion.name) == (whole.best_epoch, whole.fusion.name)


def test_a_checkpoint_of_another_training_is_refused(world: World, tmp_path: Path) -> None:
    train(world, replace(SHORT, epochs=1), out=tmp_path)
    with pytest.raises(StorageError, match="another training: layers"):
        train(world, replace(SHORT, layers=0), out=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="damaged"):
        train(world, out=tmp_path)


def test_the_average_follows_at_first_and_remembers_later() -> None:
    early, late, now = torch.zeros(1), torch.zeros(1), torch.ones(1)
    move([early], [now], 1)
    move([late], [now], 10_000)
    assert early.item() == pytest.approx(9 / 11)
    assert late.item() == pytest.approx(0.01)


def test_what_is_kept_is_the_average(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = train(world).fusion
    module = sys.modules[train_fusion.__module__]
    monkeypatch.setattr(
        module,
        "move",
        lambda mean, now, _: [to.copy_(value) for to, value in zip(mean, now, strict=True)],
    )
    last = train(world).fusion
    assert kept.tensors.keys() == last.tensors.keys()
    assert kept.name != last.name


def test_without_validation_the_last_epoch_counts(world: World) -> None:
    made = train_fusion(world.training, world.modalities, {}, SHORT)
    assert made.best_epoch == len(made.epochs) == SHORT.epochs
    assert made.best.recall is None


def test_training_stops_without_improvement(world: World) -> None:
    made = train(world, replace(SMALL, learning_rate=1e-9, epochs=40, patience=1))
    assert len(made.epochs) == made.best_epoch + 1 < 40


@pytest.mark.parametrize(
    "change",
    [
        {"identities": False, "layers": 0}, {"modality_dropout": 0.9, "identity_dropout": 0.9},
        {"dropout": 0.0, "heads": 4}, {"history": 1},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_trains(world: World, change: dict[str, Any]) -> None:
    made = train(world, replace(SHORT, **change))
    assert all(np.isfinite(epoch.loss) for epoch in made.epochs)
    assert made.epochs[-1].loss < made.epochs[0].loss


def test_the_sampled_softmax_learns_the_same_pattern(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(objective, "SAMPLED_ABOVE", 20)
    monkeypatch.setattr(objective, "LEAST_DRAWN", 8)
    with caplog.at_level(logging.INFO):
        made = train(world, SMALL)
    assert "48 items: the softmax is over 20 sampled ones" in caplog.text
    assert made.best.recall is not None
    assert made.best.recall > 0.8


def days(row: Interaction) -> int | None:
    return int(86_400 * (row.timestamp or 0))


BAD: dict[str, Callable[[Sequence[Interaction]], Sequence[Interaction]]] = {
    "no times": lambda rows: [replace(row, timestamp=None) for row in rows],
    "some times": lambda rows: [
        replace(row, timestamp=days(row) if n % 3 else None) for n, row in enumerate(rows)
    ],
    "equal times": lambda rows: [replace(row, timestamp=7) for row in rows],
    "times before 1970": lambda rows: [replace(row, timestamp=-5) for row in rows],
    "far times": lambda rows: [replace(row, timestamp=n * 2**50) for n, row in enumerate(rows)],
    "repeat purchases": lambda rows: [*rows, *rows, *rows],
    "one event a user": lambda rows: list({row.user_id: row for row in rows}.values()),
    "one user": lambda rows: [row for row in rows if row.user_id == "u0"],
    "one interaction": lambda rows: rows[:1],
    "one item only": lambda rows: [replace(row, item_id="i0") for row in rows],
    "a user of 20,000 events": lambda rows: [
        *rows,
        *(Interaction("much", f"i{n % 48}", None, n) for n in range(20_000)),
    ],
}


@pytest.mark.parametrize("kind", BAD)
def test_odd_interactions_train(world: World, kind: str) -> None:
    catalog = replace(world.training, interactions=tuple(BAD[kind](world.training.interactions)))
    held, validation = hold_out_last_rows(catalog)
    config = replace(SHORT, epochs=1, history=200)
    made = train_fusion(held, world.modalities, validation, config)
    assert np.isfinite(made.epochs[0].loss)
    items = made.fusion.item_vectors(world.modalities, list(held.items))
    user = held.user("u0")
    places = [list(held.items).index(row.item_id) for row in user.history]
    assert np.isfinite(made.fusion.user_vector(items[places], user)).all()


def test_an_item_without_any_modality_trains(world: World) -> None:
    text = world.modalities[0]
    present = text.present.copy()
    present[:5] = False
    bare = replace(text, present=present, vectors=text.vectors * present[:, None])
    made = train_fusion(world.training, [bare], world.split.validation, SHORT)
    assert np.isfinite(made.fusion.item_vectors([bare], list(world.training.items))).all()


def test_profiles_are_learned_and_may_be_missing(world: World) -> None:
    kinds = {f"u{n}": {"kind": n % 4, "id": n} for n in range(60)}
    catalog = replace(world.training, profiles=kinds)
    made = train_fusion(catalog, world.modalities, {}, replace(SMALL, epochs=20))
    assert made.fusion.profile_values == ("kind=0", "kind=1", "kind=2", "kind=3")
    items = made.fusion.item_vectors(world.modalities, list(catalog.items))
    for kind in range(4):
        new = User("new", profile={"kind": kind, "town": "unknown"})
        scores = items @ made.fusion.user_vector(items[:0], new)
        assert scores[kind::4].mean() > scores.mean()
    assert np.isfinite(made.fusion.user_vector(items[:0], User("nothing"))).all()


def test_bad_input_is_refused_by_name(world: World, without_interactions: Catalog) -> None:
    text = world.modalities[0]
    with pytest.raises(DataError, match="no interactions to train on"):
        train_fusion(without_interactions, world.modalities, {}, SHORT)
    with pytest.raises(DataError, match="rows for 48 items"):
        train_fusion(world.training, [replace_rows(text, slice(0, 3))], {}, SHORT)
    with pytest.raises(OptionError, match="each once"):
        train_fusion(world.training, [text, text], {}, SHORT)
    with pytest.raises(OptionError, match="all items would be the same"):
        train_fusion(world.training, [], {}, replace(SHORT, identities=False))
    leak = {"u0": world.training.user("u0").history[0]}
    with pytest.raises(DataError, match="has the validation item"):
        train_fusion(world.training, world.modalities, leak, SHORT)
    broken = replace(text, vectors=np.full_like(text.vectors, np.nan))
    with pytest.raises(DataError, match="not finite"):
        train_fusion(world.training, [broken], {}, SHORT)


def test_a_saved_fusion_opens_as_it_was(
    world: World, trained: TrainedFusion, tmp_path: Path
) -> None:
    trained.fusion.save(tmp_path)
    opened = Fusion.open(tmp_path)
    ids = list(world.training.items)
    assert opened.name == trained.fusion.name
    assert asdict(opened.config) == asdict(trained.config)
    np.testing.assert_array_equal(
        opened.item_vectors(world.modalities, ids),
        trained.fusion.item_vectors(world.modalities, ids),
    )


def test_other_encoders_dimensions_and_modalities_are_refused(
    world: World, trained: TrainedFusion
) -> None:
    ids, text = list(world.training.items), world.modalities[0]
    fusion = trained.fusion
    with pytest.raises(ModelError, match=r"vectors of t@1, not of t@2"):
        fusion.item_vectors([replace(text, encoder="t@2")], ids)
    with pytest.raises(ModelError, match="length 10, not 4"):
        fusion.item_vectors([replace(text, vectors=text.vectors[:, :4])], ids)
    with pytest.raises(ModelError, match="not with 'audio'"):
        fusion.item_vectors([replace(text, name="audio")], ids)
    with pytest.raises(DataError, match="48 rows for 2 items"):
        fusion.item_vectors([text], ids[:2])
    for shape in ((2, 3), (3, 16)):
        with pytest.raises(DataError, match="shape"):
            fusion.user_vector(np.zeros(shape, dtype=np.float32), who("a", "b"))


@pytest.mark.parametrize("place", [3, 200, -1], ids=["length", "header", "tensor"])
def test_a_damaged_fusion_is_refused(trained: TrainedFusion, tmp_path: Path, place: int) -> None:
    trained.fusion.save(tmp_path)
    path = tmp_path / "fusion.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 0x55
    path.write_bytes(bytes(content))
    with pytest.raises(StorageError):
        Fusion.open(tmp_path)
    path.write_bytes(bytes(content[:50]))
    with pytest.raises(StorageError, match="damaged"):
        Fusion.open(tmp_path)
    path.unlink()
    with pytest.raises(StorageError, match="holds no fusion"):
        Fusion.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"dimension": 10**9}},
        {"config": {"dimension": 4_096, "layers": 64}},
        {"config": {"layers": "two"}},
        {"config": {"depth": 2}},
        {"config": []},
        {"item_ids": 7},
        {"item_ids": [f"i{n}" for n in range(9_999)]},
        {"modalities": ["text"]},
        {"modalities": {"sound": "s@1"}},
        {"profile_values": None},
        {"format": None},
        {"format": [10**400]},
    ],
    ids=str,
)
def test_a_crafted_fusion_is_refused(
    trained: TrainedFusion, tmp_path: Path, change: dict[str, Any]
) -> None:
    trained.fusion.save(tmp_path)
    path = tmp_path / "fusion.safetensors"
    about, tensors = read_tensors(path, "fusion", "")
    if isinstance(change.get("config"), dict):
        change = {"config": {**about["config"], **change["config"]}}
    write_tensors(path, {**about, **change}, tensors)
    with pytest.raises(StorageError, match=r"fusion\.safetensors (is damaged|has format)"):
        Fusion.open(tmp_path)


def replace_rows(given: ModalityVectors, rows: slice) -> ModalityVectors:
    return replace(given, vectors=given.vectors[rows], present=given.present[rows])


def who(*item_ids: str) -> User:
    return User("u", tuple(Interaction("u", item_id) for item_id in item_ids))
