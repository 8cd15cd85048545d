from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec import locks
from llmrec.locks import holder_of, locked

HOLD = """
import sys, time
from pathlib import Path
from llmrec.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1)
"""


def test_a_wait_is_told_with_its_holder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.lock"
    monkeypatch.setattr(locks, "_SILENT_SECONDS", 0.05)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        with locked(path):
            (told,) = caplog.messages
    holders = (f"process {process.pid}", "another process")
    assert told in {f"Waiting for {holder} to release {path}." for holder in holders}


def test_who_does_not_wait_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with locked(tmp_path / "a.lock"):
        assert holder_of(tmp_path / "a.lock") in {f"process {os.getpid()}", "another process"}
    assert holder_of(tmp_path / "none.lock") == "another process"
    assert not caplog.messages
