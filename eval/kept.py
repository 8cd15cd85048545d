"""Results kept as they come, one JSON line each, so that a killed run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_kept(path: Path) -> dict[str, dict[str, Any]]:
    """Read what is kept by its key; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return {}
    # The last line of a killed run may be cut: it is dropped, so that none is glued to it.
    whole = path.read_bytes().rpartition(b"\n")[0]
    path.write_bytes(whole + b"\n" if whole else b"")
    return {entry["key"]: entry for entry in map(json.loads, whole.splitlines())}
