"""Finds a model by the name a user gives, and puts it on the disk."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from llmrec.errors import ModelNotFoundError, nearest
from llmrec.models import gguf, packaged
from llmrec.models.build_cache import digest
from llmrec.models.hub import (
    WANTED,
    cached_snapshot,
    download_snapshot,
    hub_answers,
    missing_parts,
)
from llmrec.models.packaged import PACKAGED, PackagedModel, packaged_equivalent

logger = logging.getLogger(__name__)

DEFAULT_LANGUAGE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_TEXT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_IMAGE_ENCODER = "sentence-transformers/clip-ViT-B-32"
OFFLINE_IMAGE_MODEL = "efficientnet-lite0"
"""The packaged model that embeds pictures and names classes where no hub can be reached."""
DEFAULT_CAPTIONER = "HuggingFaceTB/SmolVLM-256M-Instruct"
DEFAULT_SOUND_ENCODER = "laion/clap-htsat-unfused"

_HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_KINDS = "a local folder, a .gguf file, a hub id like org/name, or one of " + ", ".join(PACKAGED)


@dataclass(frozen=True)
class ModelFolder:
    """A model on the disk, ready to be loaded without a network.

    Args:
        path: The folder with config.json and safetensors weights.
        name: What to call it in results.
        revision: What tells these weights from any other: the hub's commit, or a content digest.
    """

    path: Path
    name: str
    revision: str


def resolve_model(ref: str, *, progress: bool = False, verify: bool = False) -> ModelFolder:
    """Put the model that ``ref`` names on the disk and say where it is.

    What is on the disk is taken without asking a network, in this order: a local path, the hub's
    cache, our cache. Only then the hub is asked; where it does not answer and a wheel on the
    package index holds the same model, that one is taken and a warning says so.

    Args:
        ref: A local folder, a .gguf file, a hub id ``org/name`` or ``org/name@revision``, or a name
            in ``PACKAGED`` (in any case of letters).
        progress: Show progress bars on a terminal.
        verify: Read every byte of a copy that is kept in our cache, and make a damaged one again.

    Raises:
        ModelNotFoundError: The reference names nothing that can be had.
        ModelError: What was found cannot be used.
    """
    path = Path(ref).expanduser()
    try:
        folder = bool(ref) and path.is_dir()
    except OSError as error:  # longer than a name may be
        raise _unknown(f"{ref[:60]}...", f"{error.strerror}".lower()) from error
    if folder:
        return _local_folder(path, progress=progress)
    if ref.endswith(".gguf"):
        return _gguf_file(path, progress=progress, verify=verify)
    if ref.lower() in PACKAGED:
        return _packaged(PACKAGED[ref.lower()], progress=progress, verify=verify)
    match = _HUB_ID.fullmatch(ref)
    if match is None or path.exists():
        raise _unknown(ref, "it is no model folder, .gguf file, hub id or packaged name")
    return _hub(ref, match["id"], match["revision"], progress=progress, verify=verify)


def _hub(
    ref: str, hub_id: str, revision: str | None, *, progress: bool, verify: bool
) -> ModelFolder:
    cached = cached_snapshot(hub_id, revision)
    if cached is not None:
        return ModelFolder(cached, hub_id, cached.name)
    stand_in = packaged_equivalent(hub_id) if revision is None else None
    if stand_in is not None and _is_ready(stand_in):
        return _packaged(stand_in, progress=progress, verify=verify)
    why = "the hub does not answer, or HF_HUB_OFFLINE is set"
    if hub_answers():
        try:
            folder = download_snapshot(hub_id, revision, progress=progress)
        except ModelNotFoundError as error:
            if stand_in is None:
                raise
            why = error.message
        else:
            return ModelFolder(folder, hub_id, folder.name)
    if stand_in is None:
        raise _unknown(ref, why)
    logger.warning(
        "%s comes from the package index instead of the hub (as %s): %s",
        hub_id,
        stand_in.name,
        why,
    )
    return _packaged(stand_in, progress=progress, verify=verify)


def _packaged(model: PackagedModel, *, progress: bool, verify: bool) -> ModelFolder:
    weights = model.files[0]
    if not model.is_gguf:
        folder = packaged.fetch(model, progress=progress, verify=verify)
    elif gguf.is_converted(weights.sha256) and not verify:
        folder = gguf.converted_folder(weights.sha256)
    else:
        file = packaged.fetch(model, progress=progress, verify=verify) / weights.name
        folder = gguf.convert(file, weights.sha256, progress=progress, verify=verify)
    return ModelFolder(folder, model.name, model.revision)


def _is_ready(model: PackagedModel) -> bool:
    if model.is_gguf:
        return gguf.is_converted(model.files[0].sha256)
    return packaged.is_fetched(model)


def _gguf_file(path: Path, *, progress: bool, verify: bool) -> ModelFolder:
    if not path.is_file():
        raise ModelNotFoundError(f"There is no GGUF file {str(path)!r}.", hint=f"Name {_KINDS}.")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelNotFoundError(
                f"{str(path)!r} is not a GGUF file: it does not begin with GGUF.",
                hint="Fetch it again: an error page or a broken download looks like this.",
            )
    sha256 = digest(path)
    folder = gguf.convert(path, sha256, progress=progress, verify=verify)
    return ModelFolder(folder, path.stem, sha256[:16])


def _local_folder(path: Path, *, progress: bool) -> ModelFolder:
    missing = missing_parts(path)
    if missing is not None:
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise ModelNotFoundError(
            f"The folder {str(path)!r} is no model: {missing} (but {held}).",
            hint="A model folder holds config.json (or modules.json) and safetensors weights, as "
            "save_pretrained writes them.",
        )
    content = hashlib.sha256()
    files_of = sorted({file for pattern in WANTED for file in path.rglob(pattern)})
    for file in tqdm(files_of, desc="Reading the model", disable=None if progress else True):
        content.update(f"{file.relative_to(path).as_posix()}:{digest(file)}\n".encode())
    return ModelFolder(path.absolute(), path.absolute().name, content.hexdigest()[:16])


def _unknown(ref: str, why: str) -> ModelNotFoundError:
    near = nearest(ref.lower(), [*PACKAGED, *(m.hub_id for m in PACKAGED.values())])
    return ModelNotFoundError(
        f"The model {ref!r} cannot be had: {why}.", hint=f"{near} Name {_KINDS}.".lstrip()
    )
