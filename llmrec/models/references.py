"""Loads the language model that a reference names: a server's, one for vLLM, or weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from llmrec.errors import (
    OptionError,
    check_count,
    check_kind,
    check_path,
    is_number,
    not_allowed,
    one_of,
)
from llmrec.models.hardware import DTYPES, QUANTIZATIONS
from llmrec.models.protocol import LanguageModel
from llmrec.models.resolve import DEFAULT_LANGUAGE_MODEL, resolve_model, revision_of

Backend: TypeAlias = Literal["transformers", "vllm", "openai"]
_OPTIONS: dict[Backend, tuple[str, str]] = {
    "transformers": ("device dtype quantization skip_last_layers adapter", "that is for servers"),
    "vllm": (
        "dtype quantization max_length",
        "vLLM in this process takes dtype, quantization='nf4' and max_length",
    ),
    "openai": ("tokenizer max_length concurrency timeout", "the server decides that"),
}
"""The options of each backend, and why it takes no others."""
MODEL_HINT = f"Name one such as {DEFAULT_LANGUAGE_MODEL!r}; `llmrec models list` lists more."


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A parsed reference: ``openai:BASE_URL#MODEL``, ``vllm:MODEL``, else one for transformers.

    ``model`` is a hub id, a folder, a ``.gguf`` file, a packaged name, or a server's name for it.
    """

    backend: Backend
    model: str
    base_url: str = ""


def parse_reference(ref: str) -> ModelReference:
    """Read a reference; uses no network and no disk.

    Raises:
        OptionError: It begins like a server's or an engine's, but is malformed.
    """
    if ref.startswith("vllm:"):
        model = ref.removeprefix("vllm:")
        if not model or model != model.strip():
            raise OptionError(
                f"{ref!r} names no model.",
                hint="A model for the engine is named like vllm:Qwen/Qwen3-8B.",
            )
        return ModelReference("vllm", model)
    if not ref.startswith("openai:"):
        return ModelReference("transformers", ref)
    url, _, model = ref.removeprefix("openai:").partition("#")
    why = _url_fault(url)
    if not why and (not model or model != model.strip()):
        why = "no model stands after #"
    if why:
        scheme, slashes, rest = ref.partition("//")
        address, mark, name = rest.partition("#")
        shown = f"{scheme}{slashes}{address.rpartition('@')[2]}{mark}{name}"  # without a secret
        raise OptionError(
            f"{shown!r} names no server's model: {why}.",
            hint="A server's model is named like openai:http://localhost:8000/v1#Qwen/Qwen3-8B.",
        )
    return ModelReference("openai", model, url.rstrip("/"))


def _check_options(
    device: object, max_length: object, concurrency: object, timeout: object, skipped: object
) -> None:
    check_device(device)
    for name, count in (("max_length", max_length), ("concurrency", concurrency)):
        if count is not None:
            check_count(name, count)
    if timeout is not None and not is_number(timeout):
        raise not_allowed("timeout", timeout, "a number of seconds", "Give 60, for example.")
    check_count("skip_last_layers", skipped, least=0)


def _url_fault(url: str) -> str:
    """The faults of a base URL; empty if valid."""
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
    return "the address has a query" if parts.query else ""


def takes(ref: str, option: str) -> bool:
    """Whether `load_model` takes an option for a reference."""
    return option in _OPTIONS[parse_reference(ref).backend][0].split()


def check_device(device: object) -> None:
    """Refuse a device that is neither text nor None (OptionError)."""
    hint = "Give cpu, cuda, cuda:N, mps or auto."
    check_kind("device", device, (str, NoneType), "text", hint)


def check_reference(model: object) -> str:
    """Return a reference as text; a folder may be a `pathlib.Path`.

    Raises:
        OptionError: It is no text, or begins like a server's but is malformed.
    """
    ref = check_kind("model", model, (str, Path), "a reference as text", MODEL_HINT)
    parse_reference(str(ref))
    return str(ref)


def load_model(
    ref: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: str = "none",
    tokenizer: str | None = None,
    max_length: int | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
    skip_last_layers: int = 0,
    adapter: str | Path | None = None,
    progress: bool = False,
) -> LanguageModel:
    """Load a language model, or connect to the server that runs it.

    The reference and the options are checked before anything is downloaded or loaded.

    Args:
        ref: A hub id ``org/name`` or ``org/name@revision``, a folder, a ``.gguf`` file, a packaged
            name, ``openai:http://host:port/v1#model`` or ``vllm:model``; None takes
            `DEFAULT_LANGUAGE_MODEL`.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto`` (all GPUs); None takes the
            fastest. transformers only.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes what suits the device.
            transformers and vLLM.
        quantization: ``none``, ``nf4`` or ``int8``; not for servers, and vLLM has no ``int8``.
        tokenizer: Tokenizer of a server's model, by hub id, folder, ``.gguf`` file or packaged
            name; None estimates token counts.
        max_length: Longest sequence in tokens, of a server or vLLM; None asks them.
        concurrency: Requests at the same time, for servers; None: 8.
        timeout: Seconds of silence until a request to a server counts as failed; None: 60.
        skip_last_layers: Number of last decoder layers to leave out, to trade quality for speed.
            transformers only.
        adapter: Folder of tuned weights that ``llmrec train reranker`` wrote. transformers only.
        progress: Show progress bars on stderr, if it is a terminal.

    Raises:
        OptionError: The reference is malformed, or an option is not allowed for it.
        HardwareError: The device is not available.
        ModelNotFoundError: The reference names no model that can be reached.
        ModelError: The model cannot be loaded.
    """
    ref = check_reference(DEFAULT_LANGUAGE_MODEL if ref is None else ref)
    found = parse_reference(ref)
    _check_options(device, max_length, concurrency, timeout, skip_last_layers)
    options: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "quantization": None if quantization == "none" else quantization,
        "tokenizer": tokenizer,
        "max_length": max_length,
        "concurrency": concurrency,
        "timeout": timeout,
        "skip_last_layers": skip_last_layers or None,
        "adapter": None if adapter is None else check_path("adapter", adapter),
    }
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if not takes(ref, name):
            raise OptionError(
                f"{name}={value!r} is not supported by {ref}: {_OPTIONS[found.backend][1]}.",
                hint=f"Leave {name} out, or name another model.",
            )
    one_of("quantization", quantization, QUANTIZATIONS)
    if dtype is not None:
        one_of("dtype", dtype, DTYPES)
    if found.backend == "openai":
        from llmrec.models.openai import OpenAIServerModel  # noqa: PLC0415

        return OpenAIServerModel.connect(found.base_url, found.model, **given)
    if found.backend == "vllm":
        from llmrec.models.vllm_engine import VllmModel  # noqa: PLC0415

        return VllmModel.load(found.model, **given)
    from llmrec.models.transformers_model import TransformersModel  # noqa: PLC0415

    return TransformersModel.from_pretrained(found.model, **given, progress=progress)


def load_reader(ref: str, *, progress: bool = False) -> LanguageModel:
    """What counts and cuts tokens as a model does: for weights only the tokenizer is loaded.

    For a server it is the model itself.

    Args:
        ref: As `load_model` takes it.
        progress: Show progress bars on stderr, if it is a terminal.

    Raises:
        OptionError: The reference is malformed.
        ModelError: The tokenizer or the model cannot be loaded.
    """
    found = parse_reference(ref)
    if found.backend == "openai":
        return load_model(ref)
    from llmrec.models.prompt_tokenizer import PromptTokenizer  # noqa: PLC0415

    return cast("LanguageModel", PromptTokenizer.from_pretrained(found.model, progress=progress))


def identity_of(
    ref: str,
    quantization: str = "none",
    skip_last_layers: int = 0,
    adapter: str | Path | None = None,
) -> str:
    """``name@revision`` of a model that is not loaded; empty for a server's.

    Raises:
        ModelError: It cannot be found.
        StorageError: ``adapter`` is no folder of an adapter.
    """
    what = parse_reference(ref)
    if what.backend != "transformers":
        return ""
    found = resolve_model(what.model)
    return f"{found.name}@{revision_of(found.revision, quantization, skip_last_layers, adapter)}"
