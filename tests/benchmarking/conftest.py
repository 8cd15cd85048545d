from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarking.faked import world


@pytest.fixture(scope="session")
def kites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the small world."""
    return world(tmp_path_factory.mktemp("kites") / "index")
