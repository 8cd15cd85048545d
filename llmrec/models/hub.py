"""Models of the Hugging Face hub, in the hub's own cache folder: safetensors only.

A cached copy is used without asking the hub. Whether the hub answers is probed once a process,
with a limit of a few seconds: a network that drops packets otherwise costs minutes.
"""

from __future__ import annotations

import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from llmrec.errors import ModelNotFoundError
from llmrec.models.model_folder import WANTED, missing_parts

PROBE_SECONDS = 4.0
"""How long the hub may take to answer at all."""
_HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
"""The error of the hub's HTTP library, which is httpx or httpx2 by its version."""
_CHECK = "Check the name, and log in with `hf auth login` if its authors ask for that."


def cached_snapshot(hub_id: str, revision: str | None) -> Path | None:
    """Return the complete copy in the hub's cache, or None; uses no network.

    Raises:
        ModelNotFoundError: The name is not valid on the hub.
    """
    try:
        folder = _snapshot(hub_id, revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"The hub has no model {hub_id!r}: {_first_line(error)}.", hint=_CHECK
        ) from error
    return folder if missing_parts(folder) is None else None


def download_snapshot(hub_id: str, revision: str | None, *, progress: bool = False) -> Path:
    """Download a model into the hub's cache and return its folder.

    ``revision`` is a commit, branch or tag; None takes the main branch.

    Raises:
        ModelNotFoundError: The hub has no such model, restricts it, or stopped answering.
    """
    try:
        with progress_bars(shown=progress):
            folder = _snapshot(hub_id, revision, local_files_only=False)
    except (_HTTP_ERROR, OSError) as error:
        raise ModelNotFoundError(
            f"The hub does not give the model {hub_id!r}: {_first_line(error)}.", hint=_CHECK
        ) from error
    missing = missing_parts(folder)
    if missing is not None:
        raise ModelNotFoundError(
            f"The hub's model {hub_id!r} cannot be used: {missing}.",
            hint="Only models with safetensors weights are loaded.",
        )
    return folder


@contextmanager
def progress_bars(*, shown: bool) -> Iterator[None]:
    """Show the bars of transformers and the hub in this block, if asked for and on a terminal."""
    from transformers.utils import logging as bars  # noqa: PLC0415 - its switch moves the hub's too

    before = bars.is_progress_bar_enabled()

    def switch(*, on: bool) -> None:
        if on:
            bars.enable_progress_bar()
        else:
            bars.disable_progress_bar()

    switch(on=shown and sys.stderr.isatty())
    try:
        yield
    finally:
        switch(on=before)


def hub_answers() -> bool:
    """Whether the hub may be asked (HF_HUB_OFFLINE) and answers; probed once a process."""
    return not constants.is_offline_mode() and _probe(constants.ENDPOINT)


def _snapshot(hub_id: str, revision: str | None, *, local_files_only: bool) -> Path:
    folder = snapshot_download(
        hub_id,
        revision=revision,
        allow_patterns=list(WANTED),
        ignore_patterns=["onnx/*", "openvino/*", "original/*"],
        etag_timeout=PROBE_SECONDS,
        local_files_only=local_files_only,
    )
    return Path(folder)


@cache
def _probe(endpoint: str) -> bool:
    answered, finished = threading.Event(), threading.Event()

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - the user's own hub
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310
                answered.set()
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 407:  # a refusal is an answer, a gateway's is not
                answered.set()
        except OSError:
            pass
        finished.set()

    # A DNS lookup has no time limit of its own: leave the thread behind rather than wait for it.
    threading.Thread(target=ask, daemon=True).start()
    finished.wait(PROBE_SECONDS)
    return answered.is_set()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
