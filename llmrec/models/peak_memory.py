"""The most memory that something took: of the GPUs where there are any in use, else of the process.

Main memory is Linux's own high-water mark, which alone can be forgotten and so measured again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_MARK, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_MIB = 2**20


def forget_peak() -> None:
    """Count from what is in use now."""
    for device in _gpus_in_use():
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
    if _can_forget():
        _MARK.write_text("5")


def peak_mib() -> float | None:
    """MiB at the highest since `forget_peak`; None where this system does not say."""
    if gpus := _gpus_in_use():
        torch = sys.modules["torch"]
        return float(sum(torch.cuda.max_memory_allocated(device) for device in gpus)) / _MIB
    if not _can_forget():
        return None
    marks = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(marks[0].split()[1]) / 1024 if marks else None


def _can_forget() -> bool:
    """On Linux, but for containers that do not allow it: a peak that stays is nobody's own."""
    return os.access(_MARK, os.W_OK)


def _gpus_in_use() -> list[int]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    devices = range(torch.cuda.device_count())
    return [device for device in devices if torch.cuda.memory_allocated(device)]
