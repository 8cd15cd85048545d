"""vLLM in this process, behind the one protocol: a thin adapter over ``vllm.LLM``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from llmrec.errors import ModelError, OptionError
from llmrec.models.labels import order_regex
from llmrec.models.prefix_tree import ScoredSequence
from llmrec.models.prompt_tokenizer import PromptTokenizer
from llmrec.models.protocol import ContinuationRequest, Generated, LabelRequest, LogProbs
from llmrec.models.resolve import resolve_model
from llmrec.models.scoring import (
    score_continuations,
    score_labels,
)
from llmrec.records import Prompt, Usage

_MOST_NAMED = 128
"""Tokens that vLLM lists for one request: its own limit of those named, above that of others."""
QUANTIZATIONS: Mapping[str, str | None] = {"none": None, "nf4": "bitsandbytes"}


class Engine(Protocol):
    """What is used of ``vllm.LLM``."""

    def generate(
        self, prompts: Sequence[Any], sampling_params: Sequence[Any], *, use_tqdm: bool
    ) -> Sequence[Any]:
        """A ``RequestOutput`` a prompt, each with sampling parameters of its own."""


@dataclass(frozen=True)
class VllmModel:
    """A model that vLLM runs; make one with `load`.

    Labels are read from the first generated token (``logprob_token_ids``), continuations from
    ``prompt_logprobs``. vLLM keeps the keys of shared prefixes itself.
    """

    engine: Engine = field(repr=False)
    vllm: ModuleType = field(repr=False)
    tokens: PromptTokenizer = field(repr=False)
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
        """Load what `resolve_model` takes into an engine.

        Raises:
            OptionError: vLLM does not know the quantization.
            ModelNotFoundError: The reference names nothing that can be had.
            ModelError: vLLM is not installed, or cannot run the model.
        """
        if quantization not in QUANTIZATIONS:
            raise OptionError(
                f"quantization={quantization!r}: vLLM takes {', '.join(QUANTIZATIONS)}.",
                hint="Name a model that is quantized already, or let transformers run it.",
            )
        try:
            import vllm  # noqa: PLC0415
        except ImportError as error:
            raise ModelError(
                f"vllm:{ref} needs the package vllm, which cannot be imported: {error}.",
                hint="vLLM pins versions of torch and transformers other than llmrec's. Run it as "
                "a server in an environment of its own (`vllm serve MODEL`) and name the model "
                "openai:http://localhost:8000/v1#MODEL.",
            ) from error
        source = resolve_model(ref)
        try:
            engine = vllm.LLM(
                model=str(source.path),
                dtype=dtype or "auto",
                quantization=QUANTIZATIONS[quantization],
                max_model_len=max_length,
                max_logprobs=_MOST_NAMED,
                enable_prefix_caching=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(
                f"vLLM cannot run {source.name}: {error}",
                hint="Try a smaller max_length, another model, or transformers.",
            ) from error
        return cls(
            engine,
            vllm,
            PromptTokenizer(engine.get_tokenizer(), source.name),
            f"vllm:{source.name}",
            source.revision if quantization == "none" else f"{source.revision}+{quantization}",
            int(engine.llm_engine.model_config.max_model_len),
        )

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens."""
        return self.tokens.special_tokens

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text: nothing added, and no text read as a control token."""
        return self.tokens.encode(text)

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` that is at most ``n_tokens`` tokens long."""
        return self.tokens.cut(text, n_tokens)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt up to where the answer begins."""
        return self.tokens.encode_prompt(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt up to where the answer begins."""
        return self.tokens.count_tokens(prompt)

    def session(self) -> VllmModel:
        """The same model: the engine keeps what prompts begin with by itself."""
        return self

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        """Log-probabilities of the asked positions.

        Raises:
            ModelError: Alternatives are asked for after more than one scored token, or the engine
                leaves out what it was asked for.
        """
        prompts, parameters = [], []
        for sequence in sequences:
            if not sequence.alternatives:
                prompts.append(_ids(sequence.tokens))
                parameters.append(
                    self.vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1)
                )
                continue
            if sequence.start != len(sequence.tokens) - 1:
                raise ModelError(f"{self.name} lists alternatives of a single token alone.")
            prompts.append(_ids(sequence.tokens[:-1]))
            named = [sequence.tokens[-1], *sequence.alternatives]
            parameters.append(self._naming(named))
        started = time.perf_counter()
        outputs = self.engine.generate(prompts, parameters, use_tqdm=False)
        seconds = time.perf_counter() - started
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
        return LogProbs(values, _usage(outputs, seconds))

    def _naming(self, tokens: Sequence[int]) -> Any:  # noqa: ANN401 - vllm has no types here
        try:
            return self.vllm.SamplingParams(
                max_tokens=1, temperature=0.0, logprobs=len(tokens), logprob_token_ids=list(tokens)
            )
        except TypeError as error:
            raise ModelError(
                "This version of vLLM cannot name tokens to list (logprob_token_ids).",
                hint="Use a later one, or run it as a server (openai:http://...).",
            ) from error

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        """Log-probability of each label, all its spellings that are one token summed.

        Raises:
            ModelError: A label has no single token of its own, or vLLM does not list it.
        """
        return score_labels(self, requests)

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        """Log-probability of each token of the continuations.

        Raises:
            ModelError: vLLM does not list them.
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
        """Continue every prompt; held to an order of labels where one is asked for."""
        orders = orders_of or [()] * len(prompts)
        given = [_ids(self.encode_prompt(prompt)) for prompt in prompts]
        parameters = [
            self.vllm.SamplingParams(
                max_tokens=max_new_tokens, temperature=temperature, seed=seed, **self._held(order)
            )
            for order in orders
        ]
        started = time.perf_counter()
        outputs = self.engine.generate(given, parameters, use_tqdm=False)
        usage = _usage(outputs, time.perf_counter() - started)
        answers = [output.outputs[0] for output in outputs]
        return Generated(
            tuple(str(answer.text) for answer in answers),
            Usage(
                usage.tokens_given,
                usage.tokens_forwarded,
                sum(len(answer.token_ids) for answer in answers),
                usage.forwards,
                usage.seconds,
            ),
            {},
            tuple(answer.finish_reason == "stop" for answer in answers),
            tuple(
                len(output.prompt_token_ids) + len(answer.token_ids)
                for output, answer in zip(outputs, answers, strict=True)
            ),
        )

    def _held(self, order: Sequence[str]) -> dict[str, object]:
        if not order:
            return {}
        held = self.vllm.sampling_params.StructuredOutputsParams(regex=order_regex(order))
        return {"structured_outputs": held}


def _ids(tokens: Sequence[int]) -> dict[str, list[int]]:
    return {"prompt_token_ids": list(tokens)}


def _values(sequence: ScoredSequence, output: Any) -> np.typing.NDArray[np.float64]:  # noqa: ANN401
    """What a request output says of a sequence; missing parts raise what Python raises."""
    if sequence.alternatives:
        listed = output.outputs[0].logprobs[0]
        named = (sequence.tokens[-1], *sequence.alternatives)
        return np.array([listed[token].logprob for token in named], dtype=np.float64)
    places = output.prompt_logprobs[sequence.start : len(sequence.tokens)]
    scored = zip(places, sequence.tokens[sequence.start :], strict=True)
    return np.array([place[token].logprob for place, token in scored], dtype=np.float64)


def _usage(outputs: Sequence[Any], seconds: float) -> Usage:
    given = sum(len(output.prompt_token_ids) for output in outputs)
    kept = sum(getattr(output, "num_cached_tokens", None) or 0 for output in outputs)
    return Usage(given, given - kept, forwards=len(outputs), seconds=seconds)
