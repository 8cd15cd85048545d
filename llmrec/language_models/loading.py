"""Loads a causal language model and its tokenizer, on the right device, as precisely as it pays."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmrec.errors import ModelError, OutOfMemoryError
from llmrec.models.bars import transformers_bars
from llmrec.models.hardware import Placement, choose_placement
from llmrec.models.kept import cache_folder, keep
from llmrec.models.sources import ModelFolder, resolve_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model, ready to run.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: Its tokenizer, with the chat template where the model has one.
        name: What to call it in results.
        revision: What tells these weights from any other.
        placement: Where it runs, how precisely, and why.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    placement: Placement


def load_causal_lm(
    ref: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: str = "none",
    attn_implementation: str = "sdpa",
    progress: bool = False,
) -> LoadedModel:
    """Load a causal language model, fetching it first where it is not on the disk.

    Args:
        ref: What ``resolve_model`` takes: a hub id, a folder, a .gguf file or a packaged name.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None takes the fastest there is.
        dtype: What to compute in; None takes what suits the device.
        quantization: ``none``, ``nf4`` or ``int8``. A quantized model is kept in the cache, so that
            only the first start quantizes.
        attn_implementation: The name of transformers' attention implementation.
        progress: Show progress bars on a terminal.

    Raises:
        OptionError: A device, dtype or quantization is not one of those allowed.
        HardwareError: The device is not there.
        ModelNotFoundError: The reference names nothing that can be had.
        OutOfMemoryError: The model does not fit into the device's memory.
        ModelError: What was found is not a whole causal language model.
    """
    placement = choose_placement(device, dtype, quantization)
    source = resolve_model(ref, progress=progress)
    if not (source.path / "config.json").is_file():
        raise ModelError(
            f"{source.name} is not a causal language model: {source.path} holds no config.json."
        )
    with transformers_bars(shown=progress):
        weights = _weights(source, placement)
        model = _load(weights, source.name, placement, attn_implementation)
        tokenizer = _load_tokenizer(source)
    return LoadedModel(model, tokenizer, source.name, source.revision, placement)


def _weights(source: ModelFolder, placement: Placement) -> Path:
    """Return the folder to load weights from, quantizing them first where that was asked for."""
    if placement.quantization == "none":
        return source.path
    # bitsandbytes says in every layer of every pass that int8 products are rounded to float16; the
    # placement's reasons say it once.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

    def build(folder: Path) -> None:
        logger.warning(
            "Quantizing %s to %s: this one time, then it is kept",
            source.name,
            placement.quantization,
        )
        config = _quantization_config(placement)
        _load(source.path, source.name, placement, "sdpa", config).save_pretrained(folder)

    made_with = [source.name, source.revision, placement.quantization, placement.dtype]
    made_with += [placement.device.partition(":")[0]]
    made_with += [_quantization_config(placement).to_json_string(use_diff=False)]
    made_with += [version(package) for package in ("torch", "transformers", "bitsandbytes")]
    key = sha256("\n".join(made_with).encode()).hexdigest()[:32]
    what = f"{source.name} in {placement.quantization}"
    return keep(cache_folder() / "quantized" / key, build, what=what)


def _quantization_config(placement: Placement) -> BitsAndBytesConfig:
    if placement.quantization == "int8":
        # Threshold 0 rounds each row by itself. With the default, columns that are large anywhere
        # in the batch are kept apart, and a score would depend on what it is batched with.
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",  # the default is fp4, which is less exact
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, placement.dtype),
    )


def _load(
    folder: Path,
    name: str,
    placement: Placement,
    attn_implementation: str,
    quantization_config: BitsAndBytesConfig | None = None,
) -> PreTrainedModel:
    # Given as None it would hide what the folder of a quantized model says of itself.
    quantized = {"quantization_config": quantization_config} if quantization_config else {}
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, placement.dtype),
            device_map={"": placement.device},
            attn_implementation=attn_implementation,
            **quantized,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(
            f"{name} does not fit into the memory of {placement.device}.",
            hint="Ask for quantization 'nf4', another device, or a smaller model.",
        ) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name} cannot be loaded as a causal language model: {error}") from error
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        raise ModelError(
            f"{name} is not a whole causal language model: {len(missing)} weights are missing, "
            f"{missing[0]} for one.",
            hint="Name a model that was made to continue text, not an encoder.",
        )
    model.eval()
    return model


def _load_tokenizer(source: ModelFolder) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"{source.name} has no tokenizer that can be loaded: {error}",
            hint=f"{source.path} should hold tokenizer.json and tokenizer_config.json.",
        ) from error
    return cast("PreTrainedTokenizerBase", tokenizer)
