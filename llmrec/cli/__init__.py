"""The command line: parses arguments, calls the package and prints results."""

from __future__ import annotations

import errno
import io
import os
import sys

__all__ = ["main"]

_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF}
"""Errors of a stream that does not take what is written to it."""


def main() -> None:
    """Run the command that the process was started with, and end the process."""
    try:
        from llmrec.cli.app import app

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a title must not stop a narrow terminal
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # now: at the end of the process it would be a traceback
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        sys.stderr.write(f"Error: The output cannot be written: {error.strerror}.\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # while the commands themselves are imported; they catch their own
        sys.stderr.write("Interrupted.\n")
        raise SystemExit(130) from None
