"""Loads a causal language model and its tokenizer, on the right device, as precisely as it pays."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch.distributed import is_torchelastic_launched
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed.configuration_utils import DistributedConfig

from llmrec.errors import HardwareError, ModelError, OptionError, OutOfMemoryError
from llmrec.models.build_cache import cache_folder, keep
from llmrec.models.hardware import Placement, choose_placement
from llmrec.models.progress import transformers_bars
from llmrec.models.prompt_tokenizer import load_tokenizer
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
    tp_plan: str | None = None,
    skip_last_layers: int = 0,
    compile: bool = False,  # noqa: A002 - what torch and transformers call it
    attn_implementation: str = "sdpa",
    progress: bool = False,
) -> LoadedModel:
    """Load a causal language model, fetching it first where it is not on the disk.

    Args:
        ref: What ``resolve_model`` takes: a hub id, a folder, a .gguf file or a packaged name.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None takes the fastest there is; ``auto``
            spreads the layers over all GPUs and, where those are full, main memory and disk.
        dtype: What to compute in; None takes what suits the device.
        quantization: ``none``, ``nf4`` or ``int8``. A quantized model is kept in the cache, so that
            only the first start quantizes.
        tp_plan: ``auto`` cuts every layer over the processes that ``torchrun`` started, by the plan
            that transformers has for the model. All of them have to ask the same, in one order.
        skip_last_layers: How many of the last decoder layers are left out, to trade quality for
            speed.
        compile: Refused, with the reason.
        attn_implementation: The name of transformers' attention implementation.
        progress: Show progress bars on a terminal.

    Raises:
        OptionError: An argument has a value that is not allowed.
        HardwareError: The device is not there, or ``tp_plan`` was given outside of ``torchrun``.
        ModelNotFoundError: The reference names nothing that can be had.
        OutOfMemoryError: The model does not fit into the device's memory.
        ModelError: What was found is not a whole causal language model.
    """
    placement = choose_placement(device, dtype, quantization, spread=True)
    if compile:
        raise OptionError(
            "compile=True: prefix trees are of another shape in every call, so torch.compile fails "
            "on their attention, and compiling the layers between gained nothing where measured.",
            hint="Leave it out.",
        )
    if skip_last_layers < 0:
        raise OptionError(f"skip_last_layers={skip_last_layers}: at least 0 is needed.")
    if tp_plan is not None:
        _check_tensor_parallel(tp_plan, device, placement)
    source = resolve_model(ref, progress=progress)
    if not (source.path / "config.json").is_file():
        raise ModelError(
            f"{source.name} is not a causal language model: {source.path} holds no config.json."
        )
    with transformers_bars(shown=progress):
        weights = _weights(source, placement)
        model = _load(
            weights,
            source.name,
            placement,
            attn_implementation,
            {**_where(placement, tp_plan), **_without(weights, source.name, skip_last_layers)},
        )
        tokenizer = load_tokenizer(source)
    # Scores of a quantized or shortened model are not those of the weights it was made from.
    changes: list[str] = [placement.quantization] if placement.quantization != "none" else []
    changes += [f"skip-{skip_last_layers}"] if skip_last_layers else []
    revision = "+".join([source.revision, *changes])
    return LoadedModel(model, tokenizer, source.name, revision, placement)


def _check_tensor_parallel(tp_plan: str, device: str | None, placement: Placement) -> None:
    if tp_plan != "auto":
        raise OptionError(f"The tp_plan {tp_plan!r} is not 'auto', the only one there is.")
    if device is not None or placement.quantization != "none":
        raise OptionError(
            f"tp_plan='auto' with device {device!r} and quantization {placement.quantization!r}: "
            "each process takes its own device, and quantized weights cannot be cut.",
            hint="Leave both out, or take device='auto' instead of tp_plan.",
        )
    if not is_torchelastic_launched():
        raise HardwareError(
            "tp_plan='auto' was asked for by a process that torchrun did not start.",
            hint="Run `torchrun --nproc-per-node GPUS program.py`, or take device='auto'.",
        )


def _where(placement: Placement, tp_plan: str | None) -> dict[str, object]:
    """Where transformers puts the weights."""
    if tp_plan is not None:
        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    return {"device_map": "auto" if placement.device == "auto" else {"": placement.device}}


def _without(folder: Path, name: str, layers: int) -> dict[str, object]:
    """The configuration of a model without its last layers; transformers leaves their weights."""
    if not layers:
        return {}
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name} cannot be loaded as a causal language model: {error}") from error
    text = config.get_text_config()
    there = text.num_hidden_layers
    if layers >= there:
        raise OptionError(
            f"skip_last_layers={layers}: {name} has {there} layers; allowed is 0 to {there - 1}."
        )
    text.num_hidden_layers = there - layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: there - layers]
    return {"config": config}


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
        given = {**_where(placement, None), "quantization_config": config}
        _load(source.path, source.name, placement, "sdpa", given).save_pretrained(folder)

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
    given: Mapping[str, object],
) -> PreTrainedModel:
    """Load weights; ``given`` holds what not every model is loaded with."""
    reports = logging.getLogger("transformers.modeling_utils")
    try:
        reports.addFilter(_nothing_unexpected)
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, placement.dtype),
            attn_implementation=attn_implementation,
            **given,
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
    finally:
        reports.removeFilter(_nothing_unexpected)
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


def _nothing_unexpected(record: logging.LogRecord) -> bool:
    """Drop the report on weights that no layer takes: those of layers left out."""
    return "UNEXPECTED" not in record.getMessage()
