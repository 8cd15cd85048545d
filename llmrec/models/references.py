"""Where a language model is to be had: a server, an engine in this process, or weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from llmrec.errors import OptionError
from llmrec.models.protocol import LanguageModel

SERVER, ENGINE = "openai:", "vllm:"
_SERVER_FORM = "A server's model is named like openai:http://localhost:8000/v1#Qwen/Qwen3-8B."
_ENGINE_FORM = "A model for the engine is named like vllm:Qwen/Qwen3-8B."


@dataclass(frozen=True, slots=True)
class ServerReference:
    """A model of an OpenAI-compatible server: ``openai:BASE_URL#MODEL``."""

    base_url: str
    model: str


@dataclass(frozen=True, slots=True)
class EngineReference:
    """A model for vLLM in this process: ``vllm:MODEL``."""

    model: str


@dataclass(frozen=True, slots=True)
class WeightsReference:
    """A model for transformers: a hub id, a folder, a ``.gguf`` file or a packaged name."""

    ref: str


Reference: TypeAlias = ServerReference | EngineReference | WeightsReference


def parse_reference(ref: str) -> Reference:
    """Read a reference; nothing is asked of a network or a disk.

    Raises:
        OptionError: It begins like a server's or an engine's, but is none.
    """
    if ref.startswith(ENGINE):
        model = ref.removeprefix(ENGINE)
        if not model or model != model.strip():
            raise OptionError(f"{ref!r} names no model.", hint=_ENGINE_FORM)
        return EngineReference(model)
    if not ref.startswith(SERVER):
        return WeightsReference(ref)
    url, _, model = ref.removeprefix(SERVER).partition("#")
    why = _fault(url)
    if not why and (not model or model != model.strip()):
        why = "no model stands after #"
    if why:
        raise OptionError(
            f"{_without_secret(ref)!r} names no server's model: {why}.", hint=_SERVER_FORM
        )
    return ServerReference(url.rstrip("/"), model)


def _fault(url: str) -> str:
    """What is wrong with a base URL; empty where nothing is."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in {"http", "https"}:
        return "the address has to begin with http:// or https://"
    if not parts.hostname or any(letter.isspace() for letter in url):
        return "the address has no host"
    if parts.username is not None or parts.password is not None:
        return "a key stands in the environment variable LLMREC_API_KEY, never in an address"
    if parts.query:
        return "the address has a query"
    return ""


def _without_secret(ref: str) -> str:
    """The reference as it may be shown: without what stands before an @ of the address."""
    url, mark, model = ref.partition("#")
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}{mark}{model}"


def load_language_model(
    ref: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: str = "none",
    progress: bool = False,
    tokenizer: str | None = None,
    max_length: int | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
    skip_last_layers: int = 0,
) -> LanguageModel:
    """Load the model that a reference names, or connect to the server that has it.

    Args:
        ref: ``openai:http://host:port/v1#model``, ``vllm:model``, or what `resolve_model` takes.
        device: Where transformers runs it; None takes the fastest there is.
        dtype: What to compute in, of transformers and vLLM.
        quantization: ``none``, ``nf4`` or ``int8``; a server's weights are as they are, and vLLM
            knows ``nf4`` alone.
        progress: Show bars on stderr while fetching and loading.
        tokenizer: The tokenizer of a server's model, by hub id, folder, ``.gguf`` file or packaged
            name: tokens are then counted, not estimated.
        max_length: Tokens a sequence may have, of a server or vLLM; None asks them.
        concurrency: Requests that a server is sent at the same time.
        timeout: Seconds until a server's silence counts as a failure.
        skip_last_layers: Layers that transformers leaves out at the end.

    Raises:
        OptionError: The reference is malformed, or an option is not one of this backend.
        ModelError: The model cannot be had.
    """
    found = parse_reference(ref)
    asked = {
        "device": device,
        "dtype": dtype,
        "quantization": None if quantization == "none" else quantization,
        "tokenizer": tokenizer,
        "max_length": max_length,
        "concurrency": concurrency,
        "timeout": timeout,
        "skip_last_layers": skip_last_layers or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if isinstance(found, ServerReference):
        _refuse(
            ref,
            given,
            ("device", "dtype", "quantization", "skip_last_layers"),
            "the server decided that",
        )
        from llmrec.models.openai import OpenAIServerModel  # noqa: PLC0415
        from llmrec.models.openai.model import CONCURRENCY, TIMEOUT  # noqa: PLC0415

        return OpenAIServerModel.connect(
            found.base_url,
            found.model,
            tokenizer=tokenizer,
            max_length=max_length,
            concurrency=CONCURRENCY if concurrency is None else concurrency,
            timeout=TIMEOUT if timeout is None else timeout,
        )
    if isinstance(found, EngineReference):
        why = "vLLM in this process takes dtype, quantization='nf4' and max_length"
        _refuse(
            ref, given, ("device", "tokenizer", "concurrency", "timeout", "skip_last_layers"), why
        )
        from llmrec.models.vllm_engine import VllmModel  # noqa: PLC0415

        return VllmModel.load(
            found.model, dtype=dtype, quantization=quantization, max_length=max_length
        )
    _refuse(
        ref, given, ("tokenizer", "max_length", "concurrency", "timeout"), "that is for servers"
    )
    from llmrec.models.transformers_model import TransformersModel  # noqa: PLC0415

    return TransformersModel.from_pretrained(
        found.ref,
        device=device,
        dtype=dtype,
        quantization=quantization,
        skip_last_layers=skip_last_layers,
        progress=progress,
    )


def load_reader(ref: str, *, progress: bool = False) -> LanguageModel:
    """What counts and cuts tokens as a model does: of weights no more is loaded, nor can it answer.

    Of a server's or vLLM's model it is the model itself.

    Args:
        ref: As `load_language_model` takes it.
        progress: Show bars on stderr while fetching.

    Raises:
        OptionError: The reference is malformed.
        ModelError: The model cannot be had.
    """
    found = parse_reference(ref)
    if not isinstance(found, WeightsReference):
        return load_language_model(ref)
    from llmrec.models.prompt_tokenizer import PromptTokenizer  # noqa: PLC0415

    return cast("LanguageModel", PromptTokenizer.from_pretrained(found.ref, progress=progress))


def _refuse(ref: str, given: Mapping[str, object], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if name in given:
            raise OptionError(
                f"{name}={given[name]!r} cannot be asked of {ref}: {why}.",
                hint=f"Leave {name} out, or name another model.",
            )
