"""The command line: parses arguments, calls the package and prints results."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the process was started with, and end the process."""
    try:
        from llmrec.cli.app import app

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a title must not stop a narrow terminal
        app()
    except KeyboardInterrupt:  # while the commands themselves are imported; they catch their own
        sys.stderr.write("Interrupted.\n")
        raise SystemExit(130) from None
