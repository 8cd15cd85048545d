from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrec.catalog import Catalog, Split, leave_one_out
from llmrec.evaluation import training_catalog
from llmrec.items import ModalityVectors


@dataclass(frozen=True)
class World:
    """Users who stay with one kind of item; text shows the kind, the picture is on half."""

    training: Catalog
    split: Split
    modalities: tuple[ModalityVectors, ...]


KINDS, EACH, USERS, LENGTH = 4, 12, 60, 9


@pytest.fixture(scope="session")
def world() -> World:
    draw = np.random.default_rng(7)
    items = [{"item_id": f"i{n}", "title": f"item {n}"} for n in range(KINDS * EACH)]
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{item * KINDS + user % KINDS}", "timestamp": place}
        for user in range(USERS)
        for place, item in enumerate(draw.permutation(EACH)[:LENGTH])
    ]
    catalog = Catalog.from_datasets(items, interactions=rows)
    split = leave_one_out(catalog)
    n = len(items)
    kind = np.eye(KINDS)[np.arange(n) % KINDS]
    text = np.hstack([kind, 0.3 * draw.normal(size=(n, 6))])
    image = np.hstack([kind, 0.3 * draw.normal(size=(n, 3))])
    seen = np.arange(n) % 3 > 0
    made = (
        ModalityVectors("text", "t@1", _units(text), np.ones(n, dtype=bool)),
        ModalityVectors("image", "v@1", _units(image) * seen[:, None].astype(np.float32), seen),
    )
    return World(training_catalog(catalog, split), split, made)


@pytest.fixture
def without_interactions(world: World) -> Catalog:
    return replace(world.training, interactions=())


@pytest.fixture(scope="session")
def label_model(byte_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model that reads bytes, with a token for Yes and one for No."""
    made = tmp_path_factory.mktemp("labels")
    tokenizer = AutoTokenizer.from_pretrained(byte_model)
    tokenizer.add_tokens(["Yes", "No"])
    tokenizer.save_pretrained(made)
    model = AutoModelForCausalLM.from_pretrained(byte_model)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(made)
    return made


def _units(rows: np.ndarray) -> np.ndarray:
    made: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made
