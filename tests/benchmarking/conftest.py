from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarking.faked import world


@pytest.fixture(scope="session")
def kites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the small world."""
    return world(tmp_path_factory.mktemp("kites") / "index")


@pytest.fixture(autouse=True)
def _not_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is on the disk before the next is asked for: no test here pulls the plug."""
    monkeypatch.setattr("llmrec.resumable.os.fsync", lambda _: None)
