from __future__ import annotations

import dataclasses
import mmap
import platform
import sys
from pathlib import Path

import pytest
import torch

from llmrec.errors import HardwareError, OptionError
from llmrec.models.hardware import (
    Gpu,
    Machine,
    choose_placement,
    machine,
    peak_mib,
    reset_peak_memory,
)

PLAIN = Machine(
    cpu="a CPU",
    cores=2,
    memory=8 << 30,
    flags=("avx2",),
    gpus=(),
    mps=False,
    torch="2.13.0+cpu",
    python="3.11.7",
)
NEW_CPU = dataclasses.replace(PLAIN, flags=("avx2", "avx512f", "avx512_bf16"))
NEW_GPU = dataclasses.replace(PLAIN, torch="2.13.0", gpus=(Gpu("New", 80 << 30, bfloat16=True),))
TWO_GPUS = dataclasses.replace(
    NEW_GPU, gpus=(Gpu("New", 80 << 30, bfloat16=True), Gpu("Old", 8 << 30, bfloat16=False))
)
APPLE = dataclasses.replace(PLAIN, mps=True, torch="2.13.0", flags=())


@pytest.mark.parametrize(
    ("here", "device", "dtype"),
    [
        (PLAIN, "cpu", "float32"),
        (NEW_CPU, "cpu", "float32"),
        (NEW_GPU, "cuda", "bfloat16"),
        (APPLE, "mps", "float16"),
    ],
)
def test_placement_and_its_reasons(here: Machine, device: str, dtype: str) -> None:
    placement = choose_placement(on=here)
    assert (placement.device, placement.dtype, placement.quantization) == (device, dtype, "none")
    assert all(reason.endswith(".") for reason in placement.reasons)
    assert device in placement.reasons[0]
    assert dtype in placement.reasons[1]


def test_requested_gpu_decides_the_dtype() -> None:
    assert choose_placement("cuda:0", on=TWO_GPUS).dtype == "bfloat16"
    assert choose_placement("cuda:1", on=TWO_GPUS).dtype == "float16"


def test_auto_takes_all_cards_where_layers_may_be_spread_and_else_the_fastest() -> None:
    placement = choose_placement("auto", spread=True, on=TWO_GPUS)
    assert (placement.device, placement.dtype) == ("auto", "float16")
    assert "New, Old" in placement.reasons[0]
    assert choose_placement("auto", spread=True, on=NEW_GPU).dtype == "bfloat16"
    assert choose_placement("auto", on=TWO_GPUS).device == "cuda"
    assert choose_placement("auto", spread=True, on=PLAIN).device == "cpu"


def test_quantization_picks_the_dtype_of_the_device() -> None:
    assert choose_placement(quantization="nf4", on=PLAIN).dtype == "float32"
    assert choose_placement(quantization="nf4", on=NEW_GPU).dtype == "bfloat16"
    assert choose_placement(quantization="int8", on=NEW_GPU).dtype == "float16"
    assert any("nf4 is" in r for r in choose_placement(quantization="int8", on=PLAIN).reasons)


def test_slow_dtype_is_used_on_request_with_a_reason() -> None:
    placement = choose_placement("cpu", "bfloat16", on=PLAIN)
    assert placement.dtype == "bfloat16"
    assert "far faster" in placement.reasons[1]
    assert "far faster" not in choose_placement("cpu", "bfloat16", on=NEW_CPU).reasons[1]


@pytest.mark.parametrize(
    ("device", "here"), [("cuda", PLAIN), ("cuda:1", NEW_GPU), ("mps", NEW_GPU)]
)
def test_a_device_that_is_not_there_is_refused(device: str, here: Machine) -> None:
    with pytest.raises(HardwareError) as raised:
        choose_placement(device, on=here)
    assert repr(device) in raised.value.message
    assert ", ".join(here.devices) in raised.value.message
    assert raised.value.hint


def test_a_torch_without_cuda_is_named_as_the_cause() -> None:
    with pytest.raises(HardwareError, match="built without CUDA"):
        choose_placement("cuda", on=PLAIN)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "CUDA"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(OptionError, match="not one of auto, cpu, cuda, cuda:N, mps"):
        choose_placement(device, on=TWO_GPUS)


def test_an_unknown_dtype_or_quantization_is_refused() -> None:
    with pytest.raises(OptionError, match="Did you mean 'float16'"):
        choose_placement(dtype="float15", on=PLAIN)
    with pytest.raises(OptionError, match="not one of none, nf4, int8"):
        choose_placement(quantization="int4", on=PLAIN)


def test_this_machine_is_described() -> None:
    here = machine()
    assert here.cores >= 1
    assert here.memory > 1 << 28
    assert here.cpu
    assert here.torch == torch.__version__
    assert here.python == platform.python_version()
    assert len(here.gpus) == torch.cuda.device_count()
    assert here.devices[-1] == "cpu"
    assert choose_placement().device == here.devices[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_missing_gpu_is_an_error() -> None:
    with pytest.raises(HardwareError, match="'cuda' is not there"):
        choose_placement("cuda")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets its peak")
def test_a_peak_is_seen_and_forgotten() -> None:
    reset_peak_memory()
    before = peak_mib()
    assert before is not None
    # Mapped, since an array might be given memory that the process has freed and still holds.
    with mmap.mmap(-1, 64 * 2**20) as taken:
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
    high = peak_mib()
    assert high is not None
    assert high > before + 50
    reset_peak_memory()
    after = peak_mib()
    assert after is not None
    assert after < high - 50


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets its peak")
def test_peak_memory_is_none_without_a_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrec.models.hardware._RESET_PEAK", tmp_path / "absent")
    reset_peak_memory()
    assert peak_mib() is None
