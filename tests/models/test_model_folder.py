"""Damaged and crafted model folders end in an error that names the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmrec.errors import LlmrecError, ModelError, ModelNotFoundError
from llmrec.models import TransformersModel, resolve_model
from tests.models.conftest import tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model("llama", "eager").save_pretrained(folder)
    words = {word: place for place, word in enumerate(["<unk>", "<s>", "</s>", "a", "b"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "mine"))


def load(folder: Path) -> TransformersModel:
    return TransformersModel.from_pretrained(str(folder), device="cpu")


def test_the_whole_folder_loads(folder: Path) -> None:
    assert load(folder).name == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", "abc"),
        ("hidden_size", 32.5),
        ("hidden_size", 10**400),
        ("num_attention_heads", 0),
        ("num_key_value_heads", -1),
        ("vocab_size", -97),
        ("vocab_size", True),
        ("num_hidden_layers", 10**9),
        ("intermediate_size", [48]),
        ("head_dim", 10**12),
        ("rms_norm_eps", "small"),
        ("hidden_act", "no_such"),
        ("model_type", 7),
        ("layer_types", "full"),
        ("rope_parameters", [1]),
        ("eos_token_id", "x"),
        ("quantization_config", "int1"),
    ],
)
def test_a_configuration_with_a_wrong_value_names_the_file(
    folder: Path, name: str, value: object
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ModelError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
@pytest.mark.parametrize("content", ["[]", "7", "{", "\xff\xfe", "[" * 5000, "9" * 5000])
def test_a_json_file_of_another_kind_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load(folder)


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"weight_map": []},
        {"weight_map": {"a": 7}},
        {"weight_map": {"a": "../other.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": "pytorch_model.bin"}},
    ],
)
def test_a_broken_weight_index_is_named(folder: Path, index: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"index\.json is damaged"):
        resolve_model(folder)


def test_mutated_model_files_never_end_in_a_traceback(whole: Path, tmp_path: Path) -> None:
    random = Random(0)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    refused = 0
    for turn in range(60):
        folder = Path(shutil.copytree(whole, tmp_path / str(turn)))
        path = folder / names[turn % len(names)]
        content = bytearray(path.read_bytes())
        if turn % 3 == 0:
            del content[random.randrange(len(content)) :]
        else:
            head = min(len(content), 3000)  # beyond its header a weight file is numbers only
            for _ in range(3):
                content[random.randrange(head)] = random.randrange(256)
        path.write_bytes(content)
        try:
            load(folder)
        except LlmrecError:
            refused += 1
    assert refused > 20


# Encoders


@pytest.mark.parametrize("part", ["", "2_Dense"])
def test_pickled_weights_of_an_encoder_are_refused_wherever_they_lie(
    folder: Path, part: str
) -> None:
    place = folder / part
    place.mkdir(exist_ok=True)
    kind = "sentence_transformers.models.Dense"
    (folder / "modules.json").write_text(json.dumps([{"type": kind, "path": part}]))
    if not part:
        (folder / "model.safetensors").unlink()
        (folder / "other").mkdir()
        (folder / "other" / "x.safetensors").write_bytes(b"")
    (place / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ModelNotFoundError, match=r"pickled weights.*save_pretrained"):
        resolve_model(folder)


@pytest.mark.parametrize(
    "modules",
    [
        {},
        ["a"],
        [{"type": "os.system"}],
        [{"type": "evil.Module", "path": ""}],
        [{"type": "sentence_transformers.models.Dense", "path": "../x"}],
        [{"type": "sentence_transformers.models.Dense", "path": "/etc"}],
        [{"type": 7}],
    ],
)
def test_parts_of_an_encoder_from_elsewhere_are_refused(folder: Path, modules: object) -> None:
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=r"modules\.json is damaged"):
        resolve_model(folder)


@pytest.mark.parametrize("name", ["vocab.bpe", "qwen.tiktoken", "efficientnet-lite0.pth"])
def test_the_revision_covers_every_file_that_is_loaded(folder: Path, name: str) -> None:
    before = resolve_model(folder).revision
    (folder / name).write_bytes(b"1")
    assert resolve_model(folder).revision != before
