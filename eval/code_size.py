"""Count files, lines, repeated names and the call chain of ``Reranker.rank``.

    python eval/code_size.py

The call chain is measured while ``rank`` runs: the files of llmrec that it enters, and the longest
chain of calls from one file to the next, generators included.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from llmrec import Reranker
from llmrec.models import DEFAULT_LANGUAGE_MODEL

ROOT = Path(__file__).parent.parent


def call_chain(call: Callable[[], object], package: str) -> tuple[int, int]:
    """Files of a package that a call enters, and the longest chain of calls between them."""
    files, longest = set[str](), 0

    def step(frame: FrameType, event: str, _: object) -> None:
        nonlocal longest
        if event != "call" or not frame.f_code.co_filename.startswith(package):
            return
        files.add(frame.f_code.co_filename)
        chain, here = 0, ""
        below: FrameType | None = frame
        while below is not None:
            name = below.f_code.co_filename
            if name.startswith(package) and name != here:
                chain, here = chain + 1, name
            below = below.f_back
        longest = max(longest, chain - 1)

    sys.setprofile(step)
    try:
        call()
    finally:
        sys.setprofile(None)
    return len(files), longest


def main() -> None:
    """Print what was counted."""
    for folder in ("llmrec", "tests", "eval"):
        paths = list((ROOT / folder).rglob("*.py"))
        lines = sum(len(path.read_text().splitlines()) for path in paths)
        print(f"{folder}: {len(paths)} files, {lines:,} lines")
    paths = [path for path in (ROOT / "llmrec").rglob("*.py") if path.name != "__init__.py"]
    names = Counter(path.name for path in paths)
    classes = Counter(
        name
        for path in paths
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
    )
    for what, counts in (("file", names), ("class", classes)):
        repeated = sorted(name for name, n in counts.items() if n > 1)
        print(f"{what} names that stand twice: {len(repeated)} {' '.join(repeated)}")
    reranker = Reranker(DEFAULT_LANGUAGE_MODEL)
    candidates = [{"title": "Heat", "score": 1.0}, {"title": "Dune", "score": 0.5}]

    def rank() -> object:
        return reranker.rank(candidates, history=["Alien", "Blade Runner"])

    rank()
    files, longest = call_chain(rank, str(ROOT / "llmrec"))
    print(f"Reranker.rank: {files} files, at most {longest} calls from file to file")


if __name__ == "__main__":
    main()
