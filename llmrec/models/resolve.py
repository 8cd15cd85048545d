"""Finds a model by its reference and puts it on the disk; a GGUF file is converted once."""

from __future__ import annotations

import hashlib
import logging
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from llmrec.errors import ModelError, ModelNotFoundError, check_kind, naming, nearest
from llmrec.models.adapter import read_adapter
from llmrec.models.build_cache import build_once, cache_folder, digest, is_built
from llmrec.models.hub import (
    cached_snapshot,
    download_snapshot,
    hub_answers,
    progress_bars,
)
from llmrec.models.model_folder import check_model_folder, loaded_files, missing_parts
from llmrec.models.packaged import PACKAGED, PackagedModel, fetch, is_fetched, packaged_equivalent

logger = logging.getLogger(__name__)

DEFAULT_LANGUAGE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_TEXT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_IMAGE_ENCODER = "sentence-transformers/clip-ViT-B-32"
OFFLINE_IMAGE_MODEL = "efficientnet-lite0"
"""The packaged model that embeds and classifies pictures where the hub cannot be reached."""
DEFAULT_CAPTIONER = "HuggingFaceTB/SmolVLM-256M-Instruct"
DEFAULT_SOUND_ENCODER = "laion/clap-htsat-unfused"

_HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_KINDS = "a local folder, a .gguf file, a hub id like org/name, or one of " + ", ".join(PACKAGED)
_LARGE_GGUF = 1 << 30
"""Bytes of a GGUF file from which its weights are stored in half precision, to save disk."""


@dataclass(frozen=True)
class ModelFolder:
    """A model on the disk, ready to be loaded without a network.

    Args:
        path: The folder with config.json and safetensors weights.
        name: Name for results.
        revision: Identifies the weights: the hub's commit, or a content digest.
    """

    path: Path
    name: str
    revision: str


def resolve_model(ref: str | Path, *, progress: bool = False, verify: bool = False) -> ModelFolder:
    """Put the model that ``ref`` names on the disk and say where it is.

    Copies on the disk come first and need no network: a local path, the hub's cache, our cache.
    Then the hub is asked. Where it does not answer and the package index has a wheel with the same
    model, that one is taken, with a warning.

    Args:
        ref: A local folder, a .gguf file, a hub id ``org/name`` or ``org/name@revision``, or a name
            in ``PACKAGED`` (case is ignored).
        progress: Show progress bars on a terminal.
        verify: Read every byte of a copy in our cache, and rebuild a damaged one.

    Raises:
        ModelNotFoundError: The reference names no model that can be reached.
        ModelError: The model that was found cannot be used.
    """
    found = _found(ref, progress=progress, verify=verify)
    check_model_folder(found.path)
    return found


def _found(ref: str | Path, *, progress: bool, verify: bool) -> ModelFolder:
    ref = str(check_kind("model", ref, (str, Path), "a reference as text", f"Name {_KINDS}."))
    path = Path(ref).expanduser()
    try:
        is_folder = bool(ref) and path.is_dir()
    except OSError as error:  # longer than a name may be
        raise _unknown(f"{ref[:60]}...", f"{error.strerror}".lower()) from error
    if is_folder:
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
    equivalent = packaged_equivalent(hub_id) if revision is None else None
    if equivalent is not None and is_on_disk(equivalent):
        return _packaged(equivalent, progress=progress, verify=verify)
    why = "the hub does not answer, or HF_HUB_OFFLINE is set"
    if hub_answers():
        try:
            folder = download_snapshot(hub_id, revision, progress=progress)
        except ModelNotFoundError as error:
            if equivalent is None:
                raise
            why = error.message
        else:
            return ModelFolder(folder, hub_id, folder.name)
    if equivalent is None:
        raise _unknown(ref, why)
    logger.warning(
        "%s comes from the package index instead of the hub (as %s): %s",
        hub_id,
        equivalent.name,
        why,
    )
    return _packaged(equivalent, progress=progress, verify=verify)


def revision_of(
    revision: str,
    quantization: str = "none",
    skip_last_layers: int = 0,
    adapter: str | Path | None = None,
) -> str:
    """The revision of weights that were quantized, shortened or tuned: their scores are others.

    Raises:
        StorageError: ``adapter`` is no folder of an adapter.
    """
    changes = [quantization] * (quantization != "none")
    changes += [f"skip-{skip_last_layers}"] * (skip_last_layers > 0)
    changes += [] if adapter is None else [f"adapter-{read_adapter(adapter).digest}"]
    return "+".join([revision, *changes])


def is_on_disk(model: PackagedModel) -> bool:
    """Whether a packaged model can be loaded without a network or a conversion."""
    return is_built(_converted(model.files[0].sha256)) if model.is_gguf else is_fetched(model)


def _packaged(model: PackagedModel, *, progress: bool, verify: bool) -> ModelFolder:
    sha256 = model.files[0].sha256
    if model.is_gguf and is_on_disk(model) and not verify:
        return ModelFolder(_converted(sha256), model.name, model.revision)
    folder = fetch(model, progress=progress, verify=verify)
    if model.is_gguf:
        file = folder / model.files[0].name
        folder = _convert_gguf(file, sha256, progress=progress, verify=verify)
    return ModelFolder(folder, model.name, model.revision)


def _gguf_file(path: Path, *, progress: bool, verify: bool) -> ModelFolder:
    if not path.is_file():
        raise ModelNotFoundError(f"There is no GGUF file {str(path)!r}.", hint=f"Name {_KINDS}.")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelNotFoundError(
                f"{str(path)!r} is not a GGUF file: it does not begin with GGUF.",
                hint="Download it again: an error page or a broken download looks like this.",
            )
    sha256 = digest(path)
    folder = _convert_gguf(path, sha256, progress=progress, verify=verify)
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
    for file in tqdm(
        loaded_files(path), desc="Reading the model", disable=None if progress else True
    ):
        content.update(f"{file.relative_to(path).as_posix()}:{digest(file)}\n".encode())
    return ModelFolder(path.absolute(), path.absolute().name, content.hexdigest()[:16])


def _unknown(ref: str, why: str) -> ModelNotFoundError:
    near = nearest(ref.lower(), [*PACKAGED, *(m.hub_id for m in PACKAGED.values())])
    return ModelNotFoundError(
        f"The model {ref!r} was not found: {why}.", hint=f"{near} Name {_KINDS}.".lstrip()
    )


def _converted(sha256: str) -> Path:
    """Where the conversion of the GGUF file with this digest is cached."""
    return cache_folder() / "converted" / sha256[:32]


def _convert_gguf(file: Path, sha256: str, *, progress: bool, verify: bool) -> Path:
    """Return the safetensors folder, with tokenizer and chat template, of a GGUF file.

    transformers reads a GGUF file in half a minute or more, the converted folder in a second.
    """

    def build(folder: Path) -> None:
        logger.warning("Converting %s to safetensors, once: half a minute or more", file.name)
        with progress_bars(shown=progress):
            _write_safetensors(file, folder)

    what = f"the conversion of {file.name}"
    return build_once(_converted(sha256), build, what=what, verify=verify)


def _write_safetensors(file: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415 - both take seconds to import, and only a conversion needs them
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    dtype = torch.float32 if file.stat().st_size < _LARGE_GGUF else torch.float16
    with torch.inference_mode():
        with naming(
            f"{file} cannot be read as a GGUF language model",
            ModelError,
            hint="Download the file again if it is cut short. Or name a safetensors model, or a "
            "GGUF of an architecture that transformers reads.",
        ):
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=dtype, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(
                file.parent, gguf_file=file.name, local_files_only=True
            )
        # A model read from GGUF refuses to be saved: move its weights into a plain one.
        config = deepcopy(model.config)
        del config.quantization_config
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
        plain.load_state_dict(model.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = model.generation_config
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        tokens = torch.arange(8).reshape(1, -1)
        if not torch.equal(saved(tokens).logits, model(tokens).logits):
            raise ModelError(f"The conversion of {file} gives other scores than the file itself.")
