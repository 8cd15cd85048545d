"""Hardware: devices and memory, and the choice of device and precision for a model.

Importing this module loads no torch; its functions do.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import psutil

from llmrec.errors import HardwareError, OptionError, OutOfMemoryError, nearest, one_of

logger = logging.getLogger(__name__)

Quantization = Literal["none", "nf4", "int8"]
Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

T = TypeVar("T")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_RESET_PEAK, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_MIB = 2**20


@dataclass(frozen=True)
class Gpu:
    """A graphics card: its name, memory in bytes, and whether it has bfloat16 instructions."""

    name: str
    memory: int
    bfloat16: bool


@dataclass(frozen=True)
class Machine:
    """The hardware and the versions that decide where a model runs.

    ``memory`` is main memory in bytes, ``cores`` those that this process may use, ``flags`` the
    processor's instruction sets that matter here, ``torch`` a version that names its build.
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
        """Whether the processor has bfloat16 instructions."""
        return not _BF16_FLAGS.isdisjoint(self.flags)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices a model can be put on, the preferred one first."""
        cards = [f"cuda:{number}" for number in range(len(self.gpus))]
        return (*(["cuda"] if cards else []), *cards, *(["mps"] if self.mps else []), "cpu")


@dataclass(frozen=True)
class Placement:
    """Where a model runs, in which precision, and why.

    ``device`` is ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``auto``: all GPUs, then main memory.
    ``quantization`` is the format of the weights, ``reasons`` are sentences for a reader.
    """

    device: str
    dtype: Dtype
    quantization: Quantization
    reasons: tuple[str, ...]


def machine() -> Machine:
    """Describe this machine."""
    import torch  # noqa: PLC0415

    flags, name = _cpu()
    cards = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    rocm = torch.version.hip is not None  # every card that torch supports there has bfloat16
    return Machine(
        cpu=name,
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        flags=tuple(flag for flag in _CPU_FLAGS if flag in flags),
        gpus=tuple(Gpu(card.name, card.total_memory, rocm or card.major >= 8) for card in cards),
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
    """Choose where and in which precision a model runs, or check what was asked for.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; None or ``auto`` takes the fastest.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes what suits the device.
        quantization: ``none``, ``nf4`` or ``int8``.
        spread: Whether ``auto`` may put layers on several devices; then it means all CUDA GPUs.
        on: The machine; None describes this one.

    Raises:
        HardwareError: The device is not available.
        OptionError: A value is not one of those allowed.
    """
    held = one_of("quantization", quantization, QUANTIZATIONS)
    known = None if dtype is None else one_of("dtype", dtype, DTYPES)
    here = on or machine()
    chosen, device_reason = _device(device, here, spread=spread)
    precision, dtype_reason = _dtype(known, chosen, held, here)
    reasons = [device_reason, dtype_reason]
    if held == "nf4":
        reasons.append("The weights are stored in 4 bits (nf4), to save memory.")
    elif held == "int8":
        reasons.append(
            "The weights are stored in 8 bits (int8), to save memory, "
            "and products are rounded to float16."
        )
        if chosen == "cpu":
            reasons.append("On a CPU nf4 is smaller and faster than int8, and less exact.")
    return Placement(chosen, precision, held, tuple(reasons))


def _device(asked: str | None, here: Machine, *, spread: bool) -> tuple[str, str]:
    best = here.devices[0]
    if asked == "auto" and spread and here.gpus:
        cards = ", ".join(card.name for card in here.gpus)
        return asked, f"The model is spread over all GPUs ({cards}), then main memory."
    if asked in {None, "auto"}:
        why = "torch sees no GPU" if best == "cpu" else "it is the fastest device here"
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
            hint="Leave the device out to take the fastest one, or install a torch that is "
            "built for this GPU.",
        )
    return asked, f"The model runs on {asked}, as requested."


def _dtype(
    asked: Dtype | None, device: str, held: Quantization, here: Machine
) -> tuple[Dtype, str]:
    if asked is not None:
        slow = device == "cpu" and asked != "float32" and not here.cpu_bfloat16
        warning = ", but this CPU has no instructions for it: float32 is far faster"
        return asked, f"It computes in {asked}, as requested{warning if slow else ''}."
    if device == "cpu":
        why = (
            "for exact scores. This CPU has bfloat16 instructions: ask for the dtype bfloat16 to "
            "trade exactness for speed and memory."
            if here.cpu_bfloat16
            else "whatever the checkpoint says: this CPU has no bfloat16 instructions, and "
            "bfloat16 without them is some 15 times slower."
        )
        return "float32", f"It computes in float32, {why}"
    if device == "mps":
        return "float16", "It computes in float16: half the memory, and an Apple GPU is fast in it."
    if held == "int8":
        return "float16", "It computes in float16: int8 products on CUDA are rounded to it anyway."
    cards = here.gpus if device == "auto" else here.gpus[int(device.partition(":")[2] or 0) :][:1]
    for card in cards:
        if not card.bfloat16:
            return "float16", f"It computes in float16: {card.name} has no bfloat16 instructions."
    return "bfloat16", f"It computes in bfloat16: {cards[0].name} has instructions for it."


def _cpu() -> tuple[frozenset[str], str]:
    """Return the processor's instruction sets, as far as the system lists them, and its name."""
    import torch  # noqa: PLC0415

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


def halve_until_it_fits(
    compute: Callable[[int], T],
    size: int,
    *,
    unit: str,
    name: str,
    least: int = 1,
    hint: str = "Use a smaller or quantized model, shorter inputs, or another device.",
) -> tuple[T, int]:
    """Return ``compute(size)``, with half the size as long as memory does not suffice.

    Args:
        compute: Runs a model with at most so many inputs at once.
        size: How many to begin with.
        unit: What an input is (``text``, ``picture``...), for messages.
        name: The model, for messages.
        least: Below it, halving ends.
        hint: The way out, for the error.

    Returns:
        The result, and how often the size was halved, rounded up.

    Raises:
        OutOfMemoryError: Not even ``least`` fit.
    """
    halvings = 0
    while True:
        try:
            return compute(size), halvings
        except RuntimeError as error:
            from accelerate.utils.memory import should_reduce_batch_size  # noqa: PLC0415

            if not should_reduce_batch_size(error):
                raise
            smaller = (size + 1) // 2
            if smaller == size or smaller < least:
                what = f"one {unit} fits" if size == 1 else f"{size} {unit}s fit"
                raise OutOfMemoryError(
                    f"Not even {what} into memory for {name} ({error}).", hint=hint
                ) from error
            size, halvings = smaller, halvings + 1
            logger.warning("out of memory: trying again with %d %ss at once", size, unit)


def free_memory(device: str) -> int:
    """Bytes that a process may still take on a device; with ``auto``, on its fullest GPU."""
    import torch  # noqa: PLC0415

    if device == "auto":
        return min(free_memory(f"cuda:{card}") for card in range(torch.cuda.device_count()))
    if not device.startswith("cuda"):
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def reset_peak_memory() -> None:
    """Measure peak memory from what is in use now."""
    for device in _gpus_in_use():
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
    if os.access(_RESET_PEAK, os.W_OK):  # Linux, but for containers that do not allow it
        _RESET_PEAK.write_text("5")


def peak_mib() -> float | None:
    """Peak memory in MiB since `reset_peak_memory`: of the GPUs in use, else of the process.

    None where the system cannot reset its own high-water mark (other systems than Linux).
    """
    if gpus := _gpus_in_use():
        torch = sys.modules["torch"]
        return float(sum(torch.cuda.max_memory_allocated(device) for device in gpus)) / _MIB
    if not os.access(_RESET_PEAK, os.W_OK):
        return None
    marks = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(marks[0].split()[1]) / 1024 if marks else None


def _gpus_in_use() -> list[int]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    devices = range(torch.cuda.device_count())
    return [device for device in devices if torch.cuda.memory_allocated(device)]
