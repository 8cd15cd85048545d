"""Make the environment of a peer whose packages are not llmrec's: pinned, in a folder of its own.

python eval/peers/environment.py cornac|rerankers FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

# torch first: it decides which build the rest is satisfied with.
PACKAGES = {
    "cornac": ("torch==2.13.0", "cornac==3.0.1"),
    "rerankers": (
        "torch==2.13.0",
        "transformers==4.57.3",
        "accelerate==1.10.1",
        "rerankers==0.10.0",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PACKAGES)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    venv.create(options.folder, with_pip=True)
    for package in PACKAGES[options.peer]:
        python = options.folder / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", package], check=True)


if __name__ == "__main__":
    main()
