"""Tuned weights of a language model, with what they were tuned for, and their application.

A folder holds ``llmrec_adapter.json`` and, by ``kind``, LoRA weights as PEFT saves them, a plain
transformers model, or nothing: then the base was better on validation, and it is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from llmrec.documents import parse_json
from llmrec.errors import LlmrecError, ModelError, StorageError, naming

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RECORD = "llmrec_adapter.json"
PARITY = 1e-4
"""Largest difference of log-probabilities that merging may make."""
_SAMPLED = 64
"""Numbers of each tensor that a fingerprint reads."""


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """What an adapter is for, and how it was made.

    Attributes:
        kind: ``lora``, ``full`` weights, or ``base``: the untuned model was better.
        base: ``name@revision`` of the model that was tuned.
        base_weights: Fingerprint of its weights, whatever their name and precision.
        tokenizer: Fingerprint of its vocabulary and chat template.
        strategy: Whose prompts it was tuned on.
        template: Name of their template.
        template_sha256: Hash of the template's text.
        data: Fingerprint of the training data.
        settings: How it was tuned.
        validation: nDCG@10 by row, and the number of validation lists.
        gate: Weights of the gate by feature, fitted on all validation lists.
        versions: Of the packages that made it.
    """

    kind: Literal["lora", "full", "base"]
    base: str
    base_weights: str
    tokenizer: str
    strategy: str
    template: str
    template_sha256: str
    data: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    gate: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identifies the adapter in the revision of a model."""
        plain = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:12]

    def save(
        self,
        folder: Path,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Write the weights, then the record in one move: a folder without it is no adapter.

        Raises:
            StorageError: The folder cannot be written.
        """
        import torch  # noqa: PLC0415

        precision = torch.float16 if self.kind == "lora" else torch.bfloat16
        weights = model.state_dict()
        if self.kind == "lora":
            weights = {name: value for name, value in weights.items() if "lora_" in name}
        part = folder / f"{RECORD}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RECORD).unlink(missing_ok=True)
            if self.kind != "base":
                model.save_pretrained(
                    str(folder), state_dict={n: value.to(precision) for n, value in weights.items()}
                )
                tokenizer.save_pretrained(folder)
            with part.open("w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            part.replace(folder / RECORD)
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be written: {error}.",
                hint="Free disk space or fix permissions, then run the same command to resume.",
            ) from error


_RECORDS = TypeAdapter(AdapterRecord)


def read_adapter(folder: str | Path) -> AdapterRecord:
    """Read what an adapter is for.

    Raises:
        StorageError: The folder holds none, or it is damaged.
    """
    path = Path(folder).expanduser() / RECORD
    if not path.is_file():
        raise StorageError(
            f"{str(folder)!r} is no adapter: {RECORD} is missing.",
            hint="Name a folder that `llmrec train reranker` wrote; run it again if it was "
            "interrupted.",
        )
    try:
        return _RECORDS.validate_python(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError, LlmrecError) as error:
        raise StorageError(
            f"{path} is damaged: {error}.", hint="Train the adapter again."
        ) from error


@contextmanager
def _without_old_names() -> Iterator[None]:
    """PEFT reads a property of models by its old name, which no user of llmrec can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


@_without_old_names()
def apply_adapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
) -> PreTrainedModel:
    """Return the model with an adapter's weights.

    LoRA is merged into the weights, unless they are quantized.

    Args:
        model: The base, just loaded; it is changed.
        tokenizer: Its tokenizer.
        folder: The adapter.

    Raises:
        StorageError: The folder holds no adapter, or it is damaged.
        ModelError: The adapter is another model's.
        LlmrecError: ``peft`` is not installed.
    """
    record = check_base(folder, model, tokenizer)
    if record.kind == "base":
        return model
    folder = Path(folder).expanduser()
    if record.kind == "full":
        from safetensors.torch import load_file  # noqa: PLC0415

        with _reading(folder / "model.safetensors") as path:
            result = model.load_state_dict(load_file(path, device=str(model.device)), strict=False)
        model.tie_weights()
        if result.unexpected_keys:
            raise StorageError(f"{folder} holds weights unknown to the model.")
        return model
    wrapped: Any = _with_lora(model, folder)
    quantized = hasattr(model, "hf_quantizer")
    applied: PreTrainedModel = wrapped.get_base_model() if quantized else wrapped.merge_and_unload()
    return applied


@_without_old_names()
def add_lora(
    model: PreTrainedModel, rank: int, dropout: float = 0.0, start: str | Path | None = None
) -> PeftModel:
    """Put trainable LoRA on all linear layers, or that of an adapter to start from.

    Raises:
        ModelError: There are no linear layers but the projection to the vocabulary.
        StorageError: The adapter is damaged.
        LlmrecError: ``peft`` is not installed.
    """
    from torch import nn  # noqa: PLC0415
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    peft = need_peft()
    if start is not None and read_adapter(start).kind == "lora":
        return _with_lora(model, Path(start).expanduser(), dropout=dropout)
    head = model.get_output_embeddings()
    if not any(isinstance(m, nn.Linear | Conv1D) and m is not head for m in model.modules()):
        raise ModelError(
            f"{type(model).__name__} has no linear layers for LoRA.",
            hint="Tune all weights: --weights full.",
        )
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    made: PeftModel = peft.get_peft_model(model, config)
    return made


def _with_lora(model: PreTrainedModel, folder: Path, *, dropout: float | None = None) -> PeftModel:
    """The model with an adapter's LoRA; with ``dropout`` it is trainable."""
    peft = need_peft()
    with _reading(folder / "adapter_config.json"):
        config = peft.PeftConfig.from_pretrained(folder)
    with _reading(folder / "adapter_model.safetensors"):
        config.lora_dropout = dropout or 0.0
        trainable = dropout is not None
        made: PeftModel = peft.PeftModel.from_pretrained(
            model, folder, config=config, is_trainable=trainable
        )
    return made


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Read a file that must be there: without it PEFT would read a pickle, or ask the hub."""
    with naming(f"{path} cannot be read", StorageError, hint="Train the adapter again."):
        if not path.is_file():
            raise StorageError(f"{path} is missing.", hint="Train the adapter again.")
        yield path


def check_base(
    folder: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> AdapterRecord:
    """Read an adapter and check that it is for this model.

    The weights are not compared where the model is quantized and the adapter was not.

    Raises:
        StorageError: The folder holds no adapter, or it is damaged.
        ModelError: It was trained on another model.
    """
    record = read_adapter(folder)
    same = record.tokenizer == tokenizer_fingerprint(tokenizer)
    quantized = record.settings.get("weights") == "qlora"
    if quantized or not hasattr(model, "hf_quantizer"):
        same = same and record.base_weights == weights_fingerprint(model, quantized=quantized)
    if not same:
        raise ModelError(
            f"The adapter {str(folder)!r} was trained on {record.base}, another model.",
            hint=f"Load {record.base.partition('@')[0]}, or train an adapter for this model.",
        )
    return record


def weights_fingerprint(model: PreTrainedModel, *, quantized: bool = False) -> str:
    """Identifies weights by the first numbers of every tensor, rounded to bfloat16.

    With ``quantized``, those of linear layers are left out: a quantized model has others.
    """
    import torch  # noqa: PLC0415

    digest = hashlib.sha256()
    linear = {n for n, each in model.named_modules() if isinstance(each, torch.nn.Linear)}
    named: list[tuple[str, torch.Tensor]] = sorted(
        (name, parameter)
        for name, parameter in model.named_parameters()
        if not (quantized and name.rpartition(".")[0] in linear)
    )
    for name, tensor in named:
        first = tensor.detach().flatten()[:_SAMPLED].to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + first.cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identifies a vocabulary and a chat template."""
    known = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def need_peft() -> ModuleType:
    """Import PEFT.

    Raises:
        LlmrecError: It is not installed.
    """
    try:
        return import_module("peft")
    except ImportError as error:
        raise LlmrecError(
            "peft is not installed.", hint="Install it: pip install 'llmrec[train]'."
        ) from error


@_without_old_names()
def merge_adapter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, adapter: str | Path, out: Path
) -> float:
    """Write a plain transformers folder with an adapter's weights in it.

    The folder is loaded again and compared before it gets its name: log-probabilities of random
    tokens by the merged folder and by base and adapter apart.

    Args:
        model: The base in fp32, just loaded; it is changed.
        tokenizer: Its tokenizer.
        adapter: The adapter.
        out: Folder to write; it must not exist, or be empty.

    Returns:
        The largest difference of a log-probability.

    Raises:
        StorageError: There is no adapter, or the folder cannot be written.
        ModelError: The adapter is another model's, or the difference is above 1e-4.
    """
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out} is not empty.", hint="Name a new folder.")
    record = check_base(adapter, model, tokenizer)
    vocabulary = model.config.get_text_config().vocab_size
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (2, 32), generator=drawn).to(model.device)

    def scored(by: PreTrainedModel) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = by(input_ids=tokens, use_cache=False).logits
            return logits.float().log_softmax(-1)

    if record.kind == "lora":
        wrapped: Any = _with_lora(model, Path(adapter).expanduser())
        apart = scored(wrapped)
        merged: PreTrainedModel = wrapped.merge_and_unload()
    else:
        merged = apply_adapter(model, tokenizer, adapter)
        apart = scored(merged)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        merged.save_pretrained(part)
        tokenizer.save_pretrained(part)
        saved = AutoModelForCausalLM.from_pretrained(
            part,
            dtype=torch.float32,
            device_map={"": model.device},
            local_files_only=True,
            trust_remote_code=False,
        )
        difference = float((scored(saved) - apart).abs().max())
        if not difference <= PARITY:
            raise ModelError(
                f"The merged model differs from base and adapter by {difference:.2g} in "
                f"log-probability; allowed is {PARITY}. Nothing was written.",
                hint="Load the base with dtype float32.",
            )
        part.replace(out)
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return difference
