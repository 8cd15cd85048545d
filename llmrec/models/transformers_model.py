"""A causal language model of transformers, behind the one protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmrec.errors import ModelError, OptionError
from llmrec.models import tree_attention
from llmrec.models.generation import Order, decode
from llmrec.models.hardware import Placement
from llmrec.models.loading import load_causal_lm
from llmrec.models.prefix_scoring import KeptPrefix, check_prefix_sharing, score_sequences
from llmrec.models.prompt_tokenizer import PromptTokenizer
from llmrec.models.protocol import (
    ContinuationRequest,
    Generated,
    LabelRequest,
    LogProbs,
)
from llmrec.models.scored_sequence import (
    ScoredSequence,
    score_continuations,
    score_labels,
)
from llmrec.records import Prompt, Usage

logger = logging.getLogger(__name__)

LONGEST = 8192
"""Tokens a prompt may have where the model's configuration names no limit."""
ROWS_ON_CPU = 1024
"""Tokens forwarded at once on a CPU: matrix products gain nothing from more."""
ROWS_ON_ACCELERATOR = 8192


@dataclass(frozen=True)
class TransformersModel:
    """SmolLM2, Qwen, Llama, Gemma...: anything ``AutoModelForCausalLM`` loads that routes its
    attention through transformers' attention interface.

    Make one with `from_pretrained`. ``max_rows`` bounds the tokens forwarded at once, and with it
    memory, in scoring.
    """  # noqa: D205

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    placement: Placement
    max_rows: int
    kept: KeptPrefix | None = None

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
        compile: bool = False,  # noqa: A002
        max_rows: int | None = None,
        progress: bool = False,
    ) -> TransformersModel:
        """Load a model by hub id, folder, ``.gguf`` file or packaged name.

        Args:
            ref: What to load; see `llmrec.models.resolve_model`.
            device: ``cpu``, ``cuda``, ``mps``..., None to choose, or ``auto`` to spread the layers
                over all GPUs.
            dtype: ``float32``, ``bfloat16``, ``float16``, or None to choose for the device.
            quantization: ``none``, ``nf4`` or ``int8``.
            tp_plan: ``auto`` cuts every layer over the processes of ``torchrun``.
            skip_last_layers: How many of the last decoder layers are left out.
            compile: Refused, with the reason.
            max_rows: Tokens forwarded at once, or None to choose for the device.
            progress: Show bars on stderr while fetching and loading.

        Raises:
            ModelNotFoundError: The reference names nothing that can be had.
            HardwareError: The device is not there, or there is no ``torchrun`` for ``tp_plan``.
            ModelError: The model cannot share prefixes, or what was found is no whole model.
            OptionError: An argument has a value that is not allowed.
        """
        if max_rows is not None and max_rows < 1:
            raise OptionError(f"max_rows={max_rows}: at least 1 is needed.")
        loaded = load_causal_lm(
            ref,
            device=device,
            dtype=dtype,
            quantization=quantization,
            tp_plan=tp_plan,
            skip_last_layers=skip_last_layers,
            compile=compile,
            attn_implementation=tree_attention.NAME,
            progress=progress,
        )
        check_prefix_sharing(loaded.model)
        on_cpu = loaded.placement.device == "cpu"
        return cls(
            loaded.model,
            loaded.tokenizer,
            loaded.name,
            loaded.revision,
            loaded.placement,
            max_rows or (ROWS_ON_CPU if on_cpu else ROWS_ON_ACCELERATOR),
        )

    @property
    def max_length(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        return longest_sequence(self.model.config)

    @cached_property
    def reader(self) -> PromptTokenizer:
        """What the model reads prompts through."""
        return PromptTokenizer(self.tokenizer, self.name)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens."""
        return self.reader.special_tokens

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text: nothing added, and no text read as a control token."""
        return self.reader.encode(text)

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` that is at most ``n_tokens`` tokens long."""
        return self.reader.cut(text, n_tokens)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt up to where the answer begins."""
        return self.reader.encode_prompt(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt up to where the answer begins."""
        return self.reader.count_tokens(prompt)

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Log-probabilities of the asked positions, through one prefix tree for all sequences.

        Raises:
            ModelError: A score is not a finite number, or the model cannot share prefixes.
            OutOfMemoryError: Not even a small batch fits.
        """
        started = time.perf_counter()
        with torch.inference_mode():
            passed = score_sequences(self.model, sequences, max_rows=self.max_rows, kept=self.kept)
        values = tuple(scores.cpu().double().numpy() for scores in passed.log_probs)
        if not all(np.isfinite(scores).all() for scores in values):
            raise ModelError(
                f"{self.name} gave a score that is not a finite number "
                f"(dtype {self.placement.dtype}, quantization {self.placement.quantization}).",
                hint="Load it with dtype='float32', or without quantization.",
            )
        usage = Usage(
            # A whole prompt is one prompt, however many labels are read at its end.
            tokens_given=sum(map(len, {sequence.tokens[:-1] for sequence in sequences})),
            tokens_forwarded=passed.rows,
            forwards=passed.forwards,
            seconds=time.perf_counter() - started,
        )
        fallbacks = {"batch_halved": passed.halvings} if passed.halvings else {}
        return LogProbs(values, usage, fallbacks)

    def session(self) -> TransformersModel:
        """The same model, which keeps what prompts begin with from one call to the next."""
        return replace(self, kept=KeptPrefix())

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label, all its spellings that are one token summed.

        Raises:
            ModelError: A label has no single token of its own, or a score is not a finite number.
            OutOfMemoryError: Not even a small batch fits.
        """
        return score_labels(self, requests)

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuations.

        Raises:
            ModelError: A score is not a finite number.
            OutOfMemoryError: Not even a small batch fits.
        """
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
        """Continue every prompt; greedy at temperature 0, else sampled from ``seed``.

        An answer that has to be an order of labels is held to it token by token.

        Raises:
            OutOfMemoryError: Not even one prompt fits.
        """
        started = time.perf_counter()
        encoded = [self.encode_prompt(prompt) for prompt in prompts]
        labels = orders_of or [()] * len(prompts)
        decoded = decode(
            self.model,
            encoded,
            [Order.of(some, self) if some else None for some in labels],
            fill=self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        given = sum(map(len, encoded))
        usage = Usage(
            tokens_given=given,
            tokens_forwarded=given,
            tokens_generated=sum(map(len, decoded.answers)),
            forwards=decoded.forwards,
            seconds=time.perf_counter() - started,
        )
        return Generated(
            tuple(
                str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
                for tokens in decoded.answers
            ),
            usage,
            {"batch_halved": decoded.halvings} if decoded.halvings else {},
            decoded.finished,
            tuple(len(p) + len(a) for p, a in zip(encoded, decoded.answers, strict=True)),
        )


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
