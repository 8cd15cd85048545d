from __future__ import annotations

import sys

import pytest

from llmrec.errors import ModelError, OptionError
from llmrec.models import DEFAULT_LANGUAGE_MODEL, TransformersModel, resolve_model
from llmrec.models.references import (
    ModelReference,
    load_model,
    parse_reference,
)


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        (
            "openai:http://localhost:8000/v1#m",
            ModelReference("openai", "m", "http://localhost:8000/v1"),
        ),
        ("openai:https://h.org/v1/#a/b:c", ModelReference("openai", "a/b:c", "https://h.org/v1")),
        ("openai:http://[::1]:8000/v1#m", ModelReference("openai", "m", "http://[::1]:8000/v1")),
        ("vllm:Qwen/Qwen3-8B", ModelReference("vllm", "Qwen/Qwen3-8B")),
        (
            "HuggingFaceTB/SmolLM2-135M",
            ModelReference("transformers", "HuggingFaceTB/SmolLM2-135M"),
        ),
        ("models/openai:x.gguf", ModelReference("transformers", "models/openai:x.gguf")),
    ],
)
def test_references_are_read(ref: str, found: ModelReference) -> None:
    assert parse_reference(ref) == found


@pytest.mark.parametrize(
    "ref",
    [
        "openai:", "openai:gpt-4o", "openai:localhost:8000/v1#m", "openai:ftp://h/v1#m",
        "openai:http://#m", "openai:http:///v1#m", "openai:http://h/v1", "openai:http://h/v1#",
        "openai:http://h:port/v1#m", "openai:http://h:99999/v1#m", "openai:http://h/v1?k=v#m",
        "openai:http://a b/v1#m", "openai:http://h/v1# m", "openai:http://[::1/v1#m",
    ],
)  # fmt: skip
def test_a_malformed_server_is_refused_with_an_example(ref: str) -> None:
    with pytest.raises(OptionError, match="names no server's model") as refused:
        parse_reference(ref)
    assert "openai:http://localhost:8000/v1#" in refused.value.hint


@pytest.mark.parametrize("ref", ["vllm:", "vllm: m"])
def test_a_malformed_engine_is_refused_with_an_example(ref: str) -> None:
    with pytest.raises(OptionError, match=r"names no model.*vllm:Qwen"):
        parse_reference(ref)


def test_a_key_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(OptionError, match="LLMREC_API_KEY") as refused:
        parse_reference("openai:http://me:sk-hidden@h/v1#m")
    assert "sk-hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("ref", "options", "name"),
    [
        ("openai:http://127.0.0.1:9/v1#m", {"quantization": "nf4"}, "quantization"),
        ("openai:http://127.0.0.1:9/v1#m", {"device": "cuda"}, "device"),
        ("openai:http://127.0.0.1:9/v1#m", {"dtype": "float16"}, "dtype"),
        ("vllm:m", {"device": "cuda"}, "device"),
        ("vllm:m", {"tokenizer": "m"}, "tokenizer"),
        ("vllm:m", {"quantization": "int8"}, "quantization"),
        ("vllm:m", {"dtype": "float15"}, "Did you mean 'float16'"),
        ("smollm2-135m-instruct", {"tokenizer": "m"}, "tokenizer"),
        ("smollm2-135m-instruct", {"concurrency": 3}, "concurrency"),
    ],
)
def test_options_of_another_backend_are_refused(
    ref: str, options: dict[str, str], name: str
) -> None:
    with pytest.raises(OptionError, match=name):
        load_model(ref, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("smollm2_folder")
def test_without_a_reference_the_default_model_is_loaded() -> None:
    model = load_model(device="cpu")
    assert isinstance(model, TransformersModel)
    assert model.revision == resolve_model(DEFAULT_LANGUAGE_MODEL).revision


@pytest.mark.parametrize(
    ("ref", "package", "way_out"),
    [
        ("openai:http://127.0.0.1:9/v1#m", "openai", r"llmrec\[server\]"),
        ("vllm:m", "vllm", "vllm serve"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, ref: str, package: str, way_out: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=f"{package}.*{way_out}"):
        load_model(ref)
