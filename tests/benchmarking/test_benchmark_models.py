from __future__ import annotations

from types import SimpleNamespace

import pytest

from llmrec.benchmarking import BenchmarkModels
from llmrec.errors import HardwareError, OptionError
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from tests.models.openai.scripted_server import ScriptedServer


def test_a_revision_says_the_weights_and_how_they_are_computed() -> None:
    models = BenchmarkModels(device="cpu")
    plain = models.revision(DEFAULT_LANGUAGE_MODEL, "none")
    assert plain.endswith("+float32")
    assert models.revision(DEFAULT_LANGUAGE_MODEL, "nf4") == f"{plain}+nf4"
    shorter = BenchmarkModels(device="cpu", skip_layers=2)
    assert shorter.revision(DEFAULT_LANGUAGE_MODEL, "none") == f"{plain}+skip-2"


def test_missing_device_fails_before_a_download() -> None:
    with pytest.raises(HardwareError, match="cuda:7"):
        BenchmarkModels(device="cuda:7").revision("no/such-model", "none")


def test_one_model_is_kept_and_makes_room_for_the_next() -> None:
    models = BenchmarkModels(device="cpu")
    first = models.load(DEFAULT_LANGUAGE_MODEL, "none")
    assert models.load(DEFAULT_LANGUAGE_MODEL, "none") is first
    assert models.revision(DEFAULT_LANGUAGE_MODEL, "none").startswith(first.revision)
    models.load(DEFAULT_LANGUAGE_MODEL, "int8")
    assert models.load(DEFAULT_LANGUAGE_MODEL, "none") is not first


def test_a_server_is_connected_to_once() -> None:
    with ScriptedServer() as server:
        models = BenchmarkModels(timeout=5.0, concurrency=2)
        ref = f"openai:{server.url}#m"
        model = models.load(ref, "none")
        assert models.reader(ref) is model
        assert models.revision(ref, "none") == model.revision
        with pytest.raises(OptionError, match="the server decides that"):
            models.revision(ref, "nf4")


def test_an_engine_is_loaded_in_the_quantization_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vLLM is not to be had here: what would be loaded is all there is to see."""
    loads: list[str] = []

    def load(ref: str, *, quantization: str, **_how: object) -> SimpleNamespace:
        loads.append(f"{ref} {quantization}")
        return SimpleNamespace(name=loads[-1], revision="1")

    monkeypatch.setattr("llmrec.benchmarking.benchmark_models.load_model", load)
    models = BenchmarkModels(device="cuda:0")
    assert models.load("vllm:m", "none").name == "vllm:m none"
    assert models.revision("vllm:m", "nf4") == "1"
    assert models.load("vllm:m", "nf4").name == models.reader("vllm:m").name == "vllm:m nf4"
    assert loads == ["vllm:m none", "vllm:m nf4"]
