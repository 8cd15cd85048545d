"""The files of a model folder, checked before a library loads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrec.documents import parse_json
from llmrec.errors import ModelError, ModelNotFoundError, naming, shown

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""The files that a model needs; weights in any other format are not downloaded."""
_LOADED = (*WANTED, "*.tiktoken", "*.bpe", "*.vocab", "*.pth")
"""The files that a revision's digest covers: all that a library may load."""
_PICKLED = {"pytorch_model": "model", "adapter_model": "adapter_model"}
"""Pickled weights, by the name of the safetensors weights that are loaded instead."""
_INDEX = "model.safetensors.index.json"
_AGAIN = "Download or save the model again."
_OBJECTS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "preprocessor_config.json", "processor_config.json",
    "config_sentence_transformers.json", "sentence_bert_config.json",
)  # fmt: skip
"""Small files that hold a JSON object; tokenizer.json is large, and read when it is loaded."""
_LAYERS = frozenset({
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
})  # fmt: skip
_SIZES = frozenset({
    "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "n_embd", "n_head", "n_inner", "d_model", "d_ff", "num_heads", "image_size",
    "max_position_embeddings", "patch_size", "type_vocab_size", "num_experts", "embedding_size",
})  # fmt: skip
_MOST_LAYERS = 4096
_LARGEST_SIZE = 1 << 26
_ZERO_ALLOWED = {"type_vocab_size", "num_experts"}


def missing_parts(folder: Path) -> str | None:
    """Say what a model folder lacks to be loaded, or None where it is complete.

    Raises:
        ModelError: The index of its weights is damaged, or names files outside the folder.
    """
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        return "it holds neither config.json nor modules.json"
    if (folder / _INDEX).is_file():
        absent = sorted(shard for shard in _shards(folder) if not (folder / shard).is_file())
        return f"{absent[0]} is missing" if absent else None
    if not any(folder.rglob("*.safetensors")):
        return "it holds no safetensors weights"
    return None


def loaded_files(folder: Path) -> list[Path]:
    """All files of a model folder that a library may load, sorted."""
    found = {file for pattern in _LOADED for file in folder.rglob(pattern) if file.is_file()}
    return sorted(found)


def check_model_folder(folder: Path) -> None:
    """Check the JSON files of a model and its encoder's parts, and that no weights are pickled.

    Raises:
        ModelNotFoundError: A part has pickled weights only.
        ModelError: A file is damaged or has a value that is not allowed; it is named.
    """
    for part in (folder, *_parts(folder)):
        for name in _OBJECTS:
            if (part / name).is_file():
                document = _object(part / name)
                if name == "config.json":
                    _check_sizes(part / name, document)
        for pickled, safe in _PICKLED.items():
            if any(part.glob(f"{pickled}*.bin")) and not any(part.glob(f"{safe}*.safetensors")):
                raise ModelNotFoundError(
                    f"The folder {str(part)!r} holds pickled weights ({pickled}.bin) and no "
                    "safetensors weights: unpickling could run code.",
                    hint="Load the model where you trust it and save it again with "
                    "save_pretrained(FOLDER), which writes safetensors.",
                )


def _parts(folder: Path) -> Iterator[Path]:
    """The folders of an encoder's parts, as modules.json lists them."""
    path = folder / "modules.json"
    if not path.is_file():
        return
    parts = _parsed(path)
    if not isinstance(parts, list) or not all(isinstance(each, dict) for each in parts):
        raise _damaged(path, "a list of parts is expected")
    for each in parts:
        kind, place = each.get("type"), each.get("path", "")
        if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
            raise _damaged(path, f"type is {shown(kind)}; only sentence_transformers' are loaded")
        if not isinstance(place, str) or not _inside(folder, place):
            raise _damaged(path, f"path is {shown(place)}; a folder inside the model is expected")
        if place.strip("/."):
            yield folder / place


def _shards(folder: Path) -> set[str]:
    path = folder / _INDEX
    index = _object(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise _damaged(path, "it has no weight_map of tensors by name")
    for shard in index.values():
        if not isinstance(shard, str) or not _inside(folder, shard):
            raise _damaged(path, f"it names {shown(shard)}; a file inside the folder is expected")
        if not shard.endswith(".safetensors"):
            raise _damaged(path, f"it names {shown(shard)}; a .safetensors file is expected")
    return set(index.values())


def _inside(folder: Path, name: str) -> bool:
    return (
        "\0" not in name
        and folder.absolute()
        in (
            place := Path(folder.absolute(), name),
            *place.parents,
        )
        and ".." not in place.parts
    )


def _check_sizes(path: Path, config: Mapping[str, Any], where: str = "") -> None:
    """Refuse sizes of which a library would make a model that fits no memory, or none at all."""
    for name, value in config.items():
        if isinstance(value, dict):
            _check_sizes(path, value, f"{where}{name}.")
        most = _MOST_LAYERS if name in _LAYERS else _LARGEST_SIZE
        if value is None or isinstance(value, list | dict) or name not in _LAYERS | _SIZES:
            continue
        least = int(name not in _ZERO_ALLOWED)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            allowed = f"a whole number from {least} to {most:,}"
            raise _damaged(path, f"{where}{name} is {shown(value)}; allowed is {allowed}")


def _object(path: Path) -> dict[str, Any]:
    document = _parsed(path)
    if not isinstance(document, dict):
        raise _damaged(path, f"it holds a {type(document).__name__} instead of an object")
    return document


def _parsed(path: Path) -> Any:  # noqa: ANN401 - any JSON
    with naming(f"{path} cannot be read", ModelError, hint=_AGAIN):
        # Some configurations hold Infinity (time_step_limit of Mamba).
        return parse_json(path.read_text(encoding="utf-8"), finite=False)


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is damaged: {what}.", hint=_AGAIN)
