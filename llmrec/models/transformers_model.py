"""A causal language model of transformers: loading, quantization and the interface to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
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

from llmrec.documents import parse_json
from llmrec.errors import HardwareError, ModelError, OptionError, OutOfMemoryError, naming
from llmrec.models import tree_attention
from llmrec.models.adapter import AdapterRecord, apply_adapter, read_adapter
from llmrec.models.build_cache import build_once, cache_folder
from llmrec.models.generation import LabelOrder, control_tokens, decode
from llmrec.models.hardware import Placement, choose_placement, free_memory
from llmrec.models.hub import progress_bars
from llmrec.models.prefix_scoring import (
    SMALLEST,
    PrefixCache,
    check_prefix_sharing,
    score_sequences,
)
from llmrec.models.prefix_tree import ScoredSequence
from llmrec.models.prompt_tokenizer import PromptTokenizer, load_tokenizer
from llmrec.models.protocol import ContinuationRequest, Generated, LabelRequest, LogProbs
from llmrec.models.resolve import ModelFolder, resolve_model, revision_of
from llmrec.models.scoring import score_continuations, score_labels
from llmrec.records import Prompt, Usage

logger = logging.getLogger(__name__)

LONGEST = 8192
"""Maximum tokens per prompt if the model's configuration names no limit."""
ROWS_ON_CPU, ROWS_ON_ACCELERATOR = 1024, 32_768
"""Most tokens forwarded at once: matrix products gain nothing from more."""


@dataclass(frozen=True)
class TransformersModel:
    """SmolLM2, Qwen, Llama, Gemma...: anything ``AutoModelForCausalLM`` loads that routes its
    attention through transformers' attention interface.

    Make one with `from_pretrained`. ``max_rows`` bounds the tokens forwarded at once in scoring,
    and with it memory.
    """  # noqa: D205

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    placement: Placement
    max_rows: int
    cached: PrefixCache | None = None
    adapter: AdapterRecord | None = None

    @classmethod
    def from_pretrained(
        cls,
        ref: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        quantization: str = "none",
        tp_plan: str | None = None,
        skip_last_layers: int = 0,
        adapter: str | Path | None = None,
        max_rows: int | None = None,
        progress: bool = False,
    ) -> TransformersModel:
        """Load a model by hub id, folder, ``.gguf`` file or packaged name.

        Args:
            ref: The model; see `llmrec.models.resolve_model`.
            device: See `llmrec.load_model`; ``auto`` goes on with main memory, then the disk.
            dtype: See `llmrec.load_model`.
            quantization: Quantized weights are cached, so that only the first start quantizes.
            tp_plan: ``auto`` splits every layer over the processes that ``torchrun`` started. All
                of them have to make the same calls, in one order.
            skip_last_layers: Number of last decoder layers to leave out.
            adapter: Folder of tuned weights; see `llmrec.models.adapter`.
            max_rows: Tokens forwarded at once; None goes by the device and its free memory.
            progress: Show progress bars on stderr, if it is a terminal.

        Raises:
            OptionError: An argument has a value that is not allowed.
            HardwareError: The device is not available, or there is no ``torchrun`` for ``tp_plan``.
            ModelNotFoundError: The reference names no model that can be reached.
            OutOfMemoryError: The model does not fit into the device's memory.
            ModelError: It is no complete causal language model, or cannot share prefixes.
        """
        if max_rows is not None and max_rows < 1:
            raise OptionError(f"max_rows={max_rows}: at least 1 is needed.")
        if skip_last_layers < 0:
            raise OptionError(f"skip_last_layers={skip_last_layers}: at least 0 is needed.")
        tuned = None if adapter is None else read_adapter(adapter)
        if tuned and skip_last_layers:
            raise OptionError(
                f"skip_last_layers={skip_last_layers} with an adapter, which needs all layers.",
                hint="Leave out one of the two.",
            )
        placement = choose_placement(device, dtype, quantization, spread=True)
        if tp_plan is not None:
            _check_tensor_parallel(tp_plan, device, placement)
        source = resolve_model(ref, progress=progress)
        if not (source.path / "config.json").is_file():
            raise ModelError(
                f"{source.name} is not a causal language model: {source.path} holds no config.json."
            )
        with progress_bars(shown=progress):
            folder = _quantized(source, placement) if quantization != "none" else source.path
            options: dict[str, object] = {"attn_implementation": tree_attention.NAME}
            if skip_last_layers:
                options["config"] = _shortened(folder, source.name, skip_last_layers)
            model = _load(folder, source.name, placement, tp_plan, options)
            tokenizer = load_tokenizer(source)
            if adapter is not None:
                model = apply_adapter(model, tokenizer, adapter)
        check_prefix_sharing(model)
        rows = max_rows or rows_at_once(model, placement.device)
        revision = revision_of(source.revision, quantization, skip_last_layers, adapter)
        logger.info("loaded %s: %s", source.name, " ".join(placement.reasons))
        return cls(model, tokenizer, source.name, revision, placement, rows, adapter=tuned)

    @property
    def max_length(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        return longest_sequence(self.model.config)

    @cached_property
    def reader(self) -> PromptTokenizer:
        """The tokenizer with its chat template."""
        return PromptTokenizer(self.tokenizer, self.name)

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end an answer, wherever the checkpoint names them."""
        config = self.model.config
        named = [self.model.generation_config, config, config.get_text_config()]
        given = [getattr(each, "eos_token_id", None) for each in named]
        ends = [end for some in given for end in (some if isinstance(some, list) else [some])]
        ends += self.reader.end_tokens()
        known = range(config.get_text_config().vocab_size)
        unknown = [end for end in ends if end is not None and end not in known]
        if unknown:
            logger.warning("%s names end tokens that it does not have: %s", self.name, unknown)
        return tuple(dict.fromkeys(end for end in ends if end is not None and end in known))

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens."""
        return self.reader.special_tokens

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text."""
        return self.reader.encode(text)

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` of at most ``n_tokens`` tokens."""
        return self.reader.cut(text, n_tokens)

    def encode_texts(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokens of each plain text."""
        return self.reader.encode_texts(texts)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[NDArray[np.int32]]:
        """Tokens of each prompt up to where the answer begins."""
        return self.reader.encode_prompts(prompts)

    def encode_end(self) -> list[int]:
        """The token that ends the answer to a chat."""
        return self.reader.encode_end()

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of tokens of each prompt up to where the answer begins."""
        return self.reader.count_tokens(prompts)

    def session(self) -> TransformersModel:
        """The same model, which caches the prompts' common prefix from one call to the next."""
        return replace(self, cached=PrefixCache())

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Log-probabilities of the scored positions, through one prefix tree for all sequences.

        Raises:
            ModelError: A score is not a finite number, or the model cannot share prefixes.
            OutOfMemoryError: Not even a small batch fits.
        """
        started = time.perf_counter()
        with torch.inference_mode():
            passed = score_sequences(
                self.model, sequences, max_rows=self.max_rows, cached=self.cached
            )
        scores = passed.scores.cpu().double().numpy()  # the only wait for the device
        if not np.isfinite(scores).all():
            raise ModelError(
                f"{self.name} gave a score that is not a finite number "
                f"(dtype {self.placement.dtype}, quantization {self.placement.quantization}).",
                hint="Load it with dtype='float32', or without quantization.",
            )
        usage = Usage(
            tokens_given=passed.given,
            tokens_forwarded=passed.rows,
            forwards=passed.forwards,
            seconds=time.perf_counter() - started,
        )
        values = np.split(scores, np.cumsum(passed.counts)[:-1])
        return LogProbs(tuple(values), usage, _fallbacks(passed.halvings))

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label, its spellings that are one token summed."""
        return score_labels(self, requests)

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuations."""
        return score_continuations(self, requests)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        """Continue every prompt; orders of labels are constrained where possible."""
        started = time.perf_counter()
        encoded = [tokens.tolist() for tokens in self.encode_prompts(prompts)]
        decoded = decode(
            self.model,
            encoded,
            [
                LabelOrder.of(labels, self) if labels else None
                for labels in orders_of or [()] * len(prompts)
            ],
            ends=self.end_tokens,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        given = sum(map(len, encoded))
        written = sum(map(len, decoded.answers))
        seconds = time.perf_counter() - started
        return Generated(
            tuple(
                str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
                for tokens in decoded.answers
            ),
            Usage(given, decoded.rows, written, decoded.forwards, seconds),
            _fallbacks(decoded.halvings),
            decoded.finished,
            tuple(len(p) + len(a) for p, a in zip(encoded, decoded.answers, strict=True)),
        )


def rows_at_once(model: PreTrainedModel, device: str) -> int:
    """Tokens to forward at once, so that half of the free memory holds what a layer makes of them.

    That is some copies of the hidden state (norms in fp32), of the feed-forward layer's, and of
    queries, keys and values with the ancestors' of a run.
    """
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    widest = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    values = 8 * text.hidden_size + 4 * widest + 4 * heads * size + 16 * keys * size
    fitting = int(free_memory(device) / 2 / (values * model.dtype.itemsize))
    most = ROWS_ON_CPU if device == "cpu" else ROWS_ON_ACCELERATOR
    return max(min(fitting, most), SMALLEST)


def longest_sequence(config: PretrainedConfig) -> int:
    """The longest sequence a model of this configuration was made for, in tokens."""
    text = config.get_text_config()
    limit = int(getattr(text, "max_position_embeddings", None) or LONGEST)
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in {"dynamic", "longrope"}:
        # Their rotations change for all positions once a sequence passes the first length, so a
        # long and a short one could not share a tree.
        limit = min(limit, int(rope.get("original_max_position_embeddings") or limit))
    return limit


def _fallbacks(halvings: int) -> dict[str, int]:
    return {"batch_halved": halvings} if halvings else {}


def _check_tensor_parallel(tp_plan: str, device: str | None, placement: Placement) -> None:
    if tp_plan != "auto":
        raise OptionError(f"The tp_plan {tp_plan!r} is not 'auto', the only one allowed.")
    if device is not None or placement.quantization != "none":
        raise OptionError(
            f"tp_plan='auto' with device {device!r} and quantization {placement.quantization!r}: "
            "each process takes its own device, and quantized weights cannot be split.",
            hint="Leave both out, or take device='auto' instead of tp_plan.",
        )
    if not is_torchelastic_launched():
        raise HardwareError(
            "tp_plan='auto' was asked for by a process that torchrun did not start.",
            hint="Run `torchrun --nproc-per-node GPUS program.py`, or take device='auto'.",
        )


def _shortened(folder: Path, name: str, skip: int) -> PretrainedConfig:
    """The configuration of a model without its last layers; their weights are not loaded."""
    with _not_loaded(name, folder):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    text = config.get_text_config()
    layers = text.num_hidden_layers
    if skip >= layers:
        raise OptionError(
            f"skip_last_layers={skip}: {name} has {layers} layers; allowed is 0 to {layers - 1}."
        )
    text.num_hidden_layers = layers - skip
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: layers - skip]
    return config


def _quantized(source: ModelFolder, placement: Placement) -> Path:
    """Return the cached folder with the quantized weights, quantizing them first if needed."""
    # bitsandbytes says in every layer of every pass that int8 products are rounded to float16; the
    # placement's reasons say it once.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if placement.quantization == "int8":
        # Threshold 0 rounds each row by itself. With the default, columns that are large anywhere
        # in the batch are kept apart, and a score would depend on what it is batched with.
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",  # the default is fp4, which is less exact
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, placement.dtype),
        )
    what = f"{source.name} in {placement.quantization}"

    def build(folder: Path) -> None:
        logger.warning("Quantizing %s to %s, once", source.name, placement.quantization)
        _load(
            source.path, source.name, placement, None, {"quantization_config": config}
        ).save_pretrained(folder)

    made_with = [source.name, source.revision, placement.quantization, placement.dtype]
    made_with += [placement.device.partition(":")[0], config.to_json_string(use_diff=False)]
    made_with += [version(package) for package in ("torch", "transformers", "bitsandbytes")]
    key = sha256("\n".join(made_with).encode()).hexdigest()[:32]
    return build_once(cache_folder() / "quantized" / key, build, what=what)


def _load(
    folder: Path,
    name: str,
    placement: Placement,
    tp_plan: str | None,
    options: dict[str, object],
) -> PreTrainedModel:
    """Load weights onto their devices; ``options`` are further ones of ``from_pretrained``."""
    if tp_plan is not None:
        options = options | {"distributed_config": DistributedConfig(tp_plan="auto")}
    else:
        device = placement.device
        options = options | {"device_map": "auto" if device == "auto" else {"": device}}
    reports = logging.getLogger("transformers.modeling_utils")
    with _not_loaded(name, folder):
        try:
            reports.addFilter(_nothing_unexpected)
            loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, placement.dtype),
                **options,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                generation_config=control_tokens(_json(folder / "generation_config.json")),
            )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemoryError(
                f"{name} does not fit into the memory of {placement.device}.",
                hint="Ask for quantization 'nf4', another device, or a smaller model.",
            ) from error
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


def _json(path: Path) -> dict[str, object]:
    given = parse_json(path.read_text(encoding="utf-8"), finite=False) if path.is_file() else {}
    return given if isinstance(given, dict) else {}


def _not_loaded(name: str, folder: Path) -> AbstractContextManager[None]:
    return naming(
        f"{name} cannot be loaded as a causal language model",
        ModelError,
        hint=f"Look at {folder / 'config.json'}, or download the model again.",
    )


def _nothing_unexpected(record: logging.LogRecord) -> bool:
    """Drop the report on weights that no layer takes: those of layers left out."""
    return "UNEXPECTED" not in record.getMessage()
