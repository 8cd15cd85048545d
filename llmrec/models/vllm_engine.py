"""vLLM in this process as a `LanguageModel`: a thin adapter over ``vllm.LLM``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ModelError, OptionError
from llmrec.models.labels import order_regex
from llmrec.models.prefix_tree import ScoredSequence, Tokens
from llmrec.models.prompt_tokenizer import PromptTokenizer
from llmrec.models.protocol import ContinuationRequest, Generated, LabelRequest, LogProbs
from llmrec.models.resolve import resolve_model, revision_of
from llmrec.models.scoring import (
    score_continuations,
    score_labels,
)
from llmrec.records import Prompt, Usage

_MOST_NAMED = 128
"""vLLM's own limit of tokens that one request may name."""
_QUANTIZATIONS: Mapping[str, str | None] = {"none": None, "nf4": "bitsandbytes"}


def import_vllm(ref: str, quantization: str) -> ModuleType:
    """The package that is to run a model in a quantization; nothing is loaded.

    Raises:
        OptionError: vLLM does not have the quantization.
        ModelError: vLLM is not installed.
    """
    if quantization not in _QUANTIZATIONS:
        raise OptionError(
            f"quantization={quantization!r}: vLLM takes {', '.join(_QUANTIZATIONS)}.",
            hint="Name a model that is quantized already, or let transformers run it.",
        )
    try:
        return import_module("vllm")
    except ImportError as error:
        raise ModelError(
            f"vllm:{ref} needs the package vllm, which cannot be imported: {error}.",
            hint="vLLM pins versions of torch and transformers other than llmrec's. Run it as "
            "a server in an environment of its own (`vllm serve MODEL`) and name the model "
            "openai:http://localhost:8000/v1#MODEL.",
        ) from error


@dataclass(frozen=True)
class VllmModel:
    """A model that vLLM runs; make one with `load`.

    Labels are read from the first generated token (``logprob_token_ids``), continuations from
    ``prompt_logprobs``. vLLM caches shared prefixes itself.
    """

    engine: Any = field(repr=False)  # vllm.LLM
    vllm: ModuleType = field(repr=False)
    reader: PromptTokenizer = field(repr=False)
    name: str
    revision: str
    max_length: int

    @classmethod
    def load(
        cls,
        ref: str,
        *,
        dtype: str | None = None,
        quantization: str = "none",
        max_length: int | None = None,
    ) -> VllmModel:
        """Load a model, named as for `resolve_model`, into an engine.

        Raises:
            OptionError: vLLM does not have the quantization.
            ModelNotFoundError: The reference names no model that can be reached.
            ModelError: vLLM is not installed, or cannot run the model.
        """
        vllm = import_vllm(ref, quantization)
        source = resolve_model(ref)
        try:
            engine = vllm.LLM(
                model=str(source.path),
                dtype=dtype or "auto",
                quantization=_QUANTIZATIONS[quantization],
                max_model_len=max_length,
                max_logprobs=_MOST_NAMED,
                enable_prefix_caching=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(
                f"vLLM cannot run {source.name}: {error}",
                hint="Try a smaller max_length, another model, or transformers.",
            ) from error
        reader = PromptTokenizer(engine.get_tokenizer(), source.name)
        reader.log_notes()
        return cls(
            engine,
            vllm,
            reader,
            f"vllm:{source.name}",
            revision_of(source.revision, quantization),
            int(engine.llm_engine.model_config.max_model_len),
        )

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

    @property
    def max_rows(self) -> int:
        """Enough requests for the engine's own batches."""
        return 32_768

    def session(self) -> VllmModel:
        """The same model: the engine caches prefixes itself."""
        return self

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Log-probabilities of the scored positions.

        Raises:
            ModelError: Alternatives are asked for after more than one scored token, or the engine
                leaves out what it was asked for.
        """
        prompts: list[Tokens] = []
        parameters = []
        for sequence in sequences:
            if not sequence.alternatives:
                prompts.append(sequence.tokens)
                parameters.append(self._sampling(1, prompt_logprobs=1))
                continue
            if sequence.start != len(sequence.tokens) - 1:
                raise ModelError(f"{self.name} lists alternatives of a single token alone.")
            named = _last_tokens(sequence)
            prompts.append(sequence.tokens[:-1])
            parameters.append(self._sampling(1, logprobs=len(named), logprob_token_ids=named))
        outputs, usage = self._run(prompts, parameters)
        try:
            values = tuple(map(_values, sequences, outputs))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{self.name} did not give a log-probability that was asked for: {error!r}.",
                hint="Use a later version of vLLM.",
            ) from error
        if not all(np.isfinite(value).all() for value in values):
            raise ModelError(
                f"{self.name} gave a score that is not a finite number.",
                hint="Load it with dtype='float32', or without quantization.",
            )
        return LogProbs(values, usage)

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
        structured = self.vllm.sampling_params.StructuredOutputsParams
        parameters = []
        for order in orders_of or [()] * len(prompts):
            held = {"structured_outputs": structured(regex=order_regex(order))} if order else {}
            options = {"seed": seed, "stop_token_ids": list(self.reader.end_tokens()), **held}
            parameters.append(self._sampling(max_new_tokens, temperature, **options))
        outputs, usage = self._run([p.tolist() for p in self.encode_prompts(prompts)], parameters)
        answers = [output.outputs[0] for output in outputs]
        written = [len(answer.token_ids) for answer in answers]
        return Generated(
            tuple(str(answer.text) for answer in answers),
            replace(usage, tokens_generated=sum(written)),
            {},
            tuple(answer.finish_reason == "stop" for answer in answers),
            tuple(len(o.prompt_token_ids) + n for o, n in zip(outputs, written, strict=True)),
        )

    def _sampling(self, max_tokens: int, temperature: float = 0.0, **options: object) -> object:
        try:
            return self.vllm.SamplingParams(
                max_tokens=max_tokens, temperature=temperature, **options
            )
        except TypeError as error:
            raise ModelError(
                f"This version of vLLM does not know {', '.join(options)}.",
                hint="Use a later one, or run it as a server (openai:http://...).",
            ) from error

    def _run(
        self, prompts: Sequence[Tokens], parameters: Sequence[object]
    ) -> tuple[list[Any], Usage]:
        given = [{"prompt_token_ids": np.asarray(tokens).tolist()} for tokens in prompts]
        started = time.perf_counter()
        outputs = list(self.engine.generate(given, parameters, use_tqdm=False))
        seconds = time.perf_counter() - started
        tokens = sum(len(output.prompt_token_ids) for output in outputs)
        cached = sum(getattr(output, "num_cached_tokens", None) or 0 for output in outputs)
        return outputs, Usage(tokens, tokens - cached, forwards=len(outputs), seconds=seconds)


def _last_tokens(sequence: ScoredSequence) -> list[int]:
    return [int(sequence.tokens[-1]), *sequence.alternatives]


def _values(sequence: ScoredSequence, output: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """The scores of a sequence in its output; missing parts raise what Python raises."""
    if sequence.alternatives:
        listed = output.outputs[0].logprobs[0]
        return np.array([listed[token].logprob for token in _last_tokens(sequence)], np.float64)
    places = output.prompt_logprobs[sequence.start : len(sequence.tokens)]
    scored = zip(places, sequence.tokens[sequence.start :], strict=True)
    return np.array([place[token].logprob for place, token in scored], np.float64)
