"""The engine's contract once more, on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

__all__ = [name for name in dir() if name.startswith("test_")]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


@pytest.fixture(autouse=True)
def _on_the_gpu() -> Iterator[None]:
    """Models and tokens are made on the GPU."""
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)
