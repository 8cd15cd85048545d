from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llmrec.benchmarking import BenchmarkModels
from llmrec.errors import HardwareError, ModelError, OptionError
from llmrec.models import DEFAULT_LANGUAGE_MODEL, resolve_model
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


def test_an_engine_is_loaded_for_its_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is not to be had here: what would be loaded is all there is to see."""
    loads: list[str] = []

    def load(ref: str, *, quantization: str, **_how: object) -> SimpleNamespace:
        loads.append(f"{ref} {quantization}")
        return SimpleNamespace(name=loads[-1])

    monkeypatch.setattr("llmrec.benchmarking.benchmark_models.load_model", load)
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    models, ref = BenchmarkModels(device="cuda:0"), f"vllm:{DEFAULT_LANGUAGE_MODEL}"
    weights = resolve_model(DEFAULT_LANGUAGE_MODEL).revision
    assert models.revision(ref, "none") == weights
    assert models.revision(ref, "nf4") == f"{weights}+nf4"
    with pytest.raises(OptionError, match="vLLM takes none, nf4"):
        models.revision(ref, "int8")
    assert models.reader(ref).encode("a kite")
    assert loads == []
    for quantization in ("none", "nf4"):
        assert models.load(ref, quantization).name == f"{ref} {quantization}"
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match="cannot be imported"):
        models.revision(ref, "none")


SERVER = "openai:http://127.0.0.1:9/v1#m"


@pytest.mark.parametrize(
    ("options", "refs", "told"),
    [
        ({"skip_layers": 2}, [SERVER, "vllm:m"], "skip_last_layers=2 is not supported by openai:"),
        ({"device": "cpu"}, ["vllm:m"], "device='cpu' is not supported by vllm:m"),
        ({"timeout": 5.0}, ["words"], "timeout=5.0 is not supported by words: that is for servers"),
        ({"adapter": Path("a")}, [SERVER], "adapter=.* is not supported"),
        ({"adapter": Path("a")}, ["one", SERVER, "two"], "one model; the plan has one, two"),
        ({"adapter": Path("a"), "device": "cpu", "timeout": 5.0}, ["one", SERVER], ""),
        ({}, ["one"], ""),
    ],
)
def test_an_option_that_no_model_takes_is_refused(
    options: dict[str, Any], refs: list[str], told: str
) -> None:
    refused = pytest.raises(OptionError, match=told) if told else nullcontext()
    with refused:
        BenchmarkModels(**options).check_options(refs)


def test_each_model_gets_the_options_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, dict[str, object]] = {}

    def load(ref: str, **options: object) -> None:
        given[ref] = options

    monkeypatch.setattr("llmrec.benchmarking.benchmark_models.load_model", load)
    models = BenchmarkModels("cpu", timeout=5.0, skip_layers=2)
    for ref in ("one", "vllm:m", SERVER):
        models.load(ref, "none")
    common = {"quantization": "none", "progress": False}
    assert given == {
        "one": {**common, "device": "cpu", "skip_last_layers": 2},
        "vllm:m": common,
        SERVER: {**common, "timeout": 5.0},
    }
