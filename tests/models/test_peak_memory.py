from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from llmrec.models.hardware import peak_mib, reset_peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone forgets a peak")


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


def test_a_peak_that_cannot_be_forgotten_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrec.models.hardware._RESET_PEAK", tmp_path / "absent")
    reset_peak_memory()
    assert peak_mib() is None
