"""The sample data set that is part of the package."""

from __future__ import annotations

from pathlib import Path


def sample_folder() -> Path:
    """Return the folder of the embedded sample, to read with ``Catalog.from_folder``."""
    return Path(__file__).parent / "sample"
