"""What this machine has, and where and how precisely a model will run on it."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import psutil
import torch

from llmrec.errors import HardwareError, OptionError, nearest

Quantization = Literal["none", "nf4", "int8"]
Dtype = Literal["float32", "bfloat16", "float16"]

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

_Name = TypeVar("_Name", bound=str)
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Gpu:
    """A graphics card: its name, memory in bytes, and whether it computes in bfloat16 itself."""

    name: str
    memory: int
    bfloat16: bool


@dataclass(frozen=True)
class Machine:
    """What this machine has.

    Args:
        cpu: The processor's name.
        cores: Cores that this process may use.
        memory: Main memory in bytes.
        flags: Those of the processor's instruction sets that matter here.
        gpus: The CUDA (or ROCm) cards that torch sees.
        mps: Whether torch sees an Apple GPU.
        torch: The version of torch, which says what it was built for.
        python: The version of Python.
    """

    cpu: str
    cores: int
    memory: int
    flags: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    mps: bool
    torch: str
    python: str

    @property
    def cpu_bfloat16(self) -> bool:
        """Whether the processor computes in bfloat16 itself."""
        return not _BF16_FLAGS.isdisjoint(self.flags)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices a model can be put on, the preferred one first."""
        cards = [f"cuda:{number}" for number in range(len(self.gpus))]
        return (*(["cuda"] if cards else []), *cards, *(["mps"] if self.mps else []), "cpu")


@dataclass(frozen=True)
class Placement:
    """Where a model runs, how precisely, and why.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` is all GPUs, then main memory.
        dtype: What is computed in: ``float32``, ``bfloat16`` or ``float16``.
        quantization: How the weights are held: ``none`` (as computed), ``nf4`` or ``int8``.
        reasons: Sentences for a reader.
    """

    device: str
    dtype: Dtype
    quantization: Quantization
    reasons: tuple[str, ...]


def machine() -> Machine:
    """Look at this machine."""
    words, name = _cpu()
    return Machine(
        cpu=name,
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        flags=tuple(flag for flag in _CPU_FLAGS if flag in words),
        gpus=tuple(_gpu(number) for number in range(torch.cuda.device_count())),
        mps=torch.backends.mps.is_available(),
        torch=torch.__version__,
        python=platform.python_version(),
    )


def choose_placement(
    device: str | None = None,
    dtype: str | None = None,
    quantization: str = "none",
    *,
    spread: bool = False,
    on: Machine | None = None,
) -> Placement:
    """Choose where and how precisely to run a model, or check what was asked for.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None or ``auto`` takes the fastest there
            is.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes what suits the device.
        quantization: ``none``, ``nf4`` or ``int8``.
        spread: Whether ``auto`` may put layers on several devices; then it is all CUDA GPUs.
        on: The machine; None looks at this one.

    Raises:
        HardwareError: The device is not there.
        OptionError: A name is not one of those allowed.
    """
    here = on or machine()
    held = _one_of("quantization", quantization, QUANTIZATIONS)
    chosen, device_reason = _device(device, here, spread=spread)
    precision, dtype_reason = _dtype(dtype, chosen, held, here)
    reasons = [device_reason, dtype_reason]
    if held == "nf4":
        reasons.append("The weights are held in 4 bits (nf4), to spare memory.")
    elif held == "int8":
        reasons.append(
            "The weights are held in 8 bits (int8), to spare memory, "
            "and products are rounded to float16."
        )
        if chosen == "cpu":
            reasons.append("On a CPU nf4 is smaller and faster than int8, and less exact.")
    return Placement(chosen, precision, held, tuple(reasons))


def _one_of(kind: str, asked: str, allowed: tuple[_Name, ...]) -> _Name:
    for known in allowed:
        if asked == known:
            return known
    raise OptionError(
        f"The {kind} {asked!r} is not one of {', '.join(allowed)}.", hint=nearest(asked, allowed)
    )


def _device(asked: str | None, here: Machine, *, spread: bool) -> tuple[str, str]:
    best = here.devices[0]
    if asked == "auto" and spread and here.gpus:
        cards = ", ".join(card.name for card in here.gpus)
        return asked, f"The model is spread over all GPUs ({cards}), then main memory."
    if asked in {None, "auto"}:
        why = {
            "cuda": "it is the fastest device here",
            "mps": "it is the fastest device here",
            "cpu": "torch sees no GPU",
        }[best]
        return best, f"The model runs on {best}: {why}."
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", asked):
        raise OptionError(
            f"The device {asked!r} is not one of auto, cpu, cuda, cuda:N, mps.",
            hint=nearest(asked, ("auto", "cpu", "cuda", "mps")),
        )
    if asked not in here.devices:
        build = " (this torch is built without CUDA)" if "+cpu" in here.torch else ""
        raise HardwareError(
            f"The device {asked!r} is not there: torch {here.torch} sees "
            f"{', '.join(here.devices)}{build}.",
            hint="Leave the device out to take the fastest there is, or install a torch that is "
            "built for this GPU.",
        )
    return asked, f"The model runs on {asked}: it was asked for."


def _dtype(asked: str | None, device: str, held: Quantization, here: Machine) -> tuple[Dtype, str]:
    if asked is not None:
        known = _one_of("dtype", asked, DTYPES)
        slow = device == "cpu" and known != "float32" and not here.cpu_bfloat16
        warning = ", but this CPU has no instructions for it: float32 is far faster"
        return known, f"It computes in {known}: it was asked for{warning if slow else ''}."
    if device == "cpu":
        return "float32", _why_float32(here)
    if device == "mps":
        return "float16", "It computes in float16: half the memory, and an Apple GPU is fast in it."
    if held == "int8":
        return "float16", "It computes in float16: int8 products on CUDA are rounded to it anyway."
    cards = here.gpus if device == "auto" else here.gpus[int(device.partition(":")[2] or 0) :][:1]
    for card in cards:
        if not card.bfloat16:
            return "float16", f"It computes in float16: {card.name} has no bfloat16 instructions."
    return "bfloat16", f"It computes in bfloat16: {cards[0].name} has instructions for it."


def _why_float32(here: Machine) -> str:
    if here.cpu_bfloat16:
        return (
            "It computes in float32, for exact scores. This CPU has bfloat16 instructions: ask for "
            "the dtype bfloat16 to trade exactness for speed and memory."
        )
    return (
        "It computes in float32, whatever the checkpoint says: this CPU has no bfloat16 "
        "instructions, and bfloat16 without them is some 15 times slower."
    )


def _gpu(number: int) -> Gpu:
    properties = torch.cuda.get_device_properties(number)
    # From compute capability 8.0 on; ROCm's cards that torch supports all have it.
    bfloat16 = torch.version.hip is not None or properties.major >= 8
    return Gpu(properties.name, properties.total_memory, bfloat16)


def _cpu() -> tuple[frozenset[str], str]:
    """Return the processor's instruction sets, as far as the system tells, and its name."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        capability = torch.backends.cpu.get_cpu_capability().lower()
        words = {"avx2": ["avx2"], "avx512": ["avx2", "avx512f"]}.get(capability, [])
        return frozenset(words), platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    words = fields.get("flags", fields.get("features", "")).lower().split()
    return frozenset(words), fields.get("model name", platform.machine())
