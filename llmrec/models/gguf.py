"""Turns a GGUF file into a safetensors folder, once.

Reading a GGUF file takes transformers half a minute and more, the folder that comes of it a second.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path

from llmrec.errors import ModelError
from llmrec.models.build_cache import cache_folder, is_kept, keep

logger = logging.getLogger(__name__)

_LARGE = 1 << 30
"""Bytes of a GGUF file from which its weights are kept in half precision, to spare the disk."""


def converted_folder(sha256: str) -> Path:
    """Return where the conversion of the GGUF file with this SHA-256 is kept."""
    return cache_folder() / "converted" / sha256[:32]


def is_converted(sha256: str) -> bool:
    """Say whether the GGUF file with this SHA-256 has been converted and the result is whole."""
    return is_kept(converted_folder(sha256))


def convert(file: Path, sha256: str, *, progress: bool = False, verify: bool = False) -> Path:
    """Return the safetensors folder, with tokenizer and chat template, of a GGUF file.

    Args:
        file: The GGUF file.
        sha256: Its digest, which the conversion is kept under.
        progress: Show transformers' progress bars on a terminal.
        verify: Read every byte of a conversion that is there.

    Raises:
        ModelError: transformers cannot read the file, or what was kept answers differently.
    """

    def build(folder: Path) -> None:
        logger.warning(
            "Converting %s to safetensors: half a minute or more, this one time", file.name
        )
        _convert_into(file, folder, progress=progress)

    return keep(
        converted_folder(sha256), build, what=f"the conversion of {file.name}", verify=verify
    )


def _convert_into(file: Path, folder: Path, *, progress: bool) -> None:
    # torch and transformers take seconds to import, and only a conversion needs them here.
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    from llmrec.models.progress import transformers_bars  # noqa: PLC0415

    dtype = torch.float32 if file.stat().st_size < _LARGE else torch.float16
    source = str(file.parent)
    with transformers_bars(shown=progress), torch.inference_mode():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=file.name, dtype=dtype, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(
                source, gguf_file=file.name, local_files_only=True
            )
        except (OSError, ValueError, KeyError, IndexError, NotImplementedError) as error:
            raise ModelError(
                f"{file} cannot be read as a GGUF language model: {error}",
                hint="Name a safetensors model instead, or a GGUF of an architecture that "
                "transformers reads.",
            ) from error
        # A model that came from GGUF refuses to be saved: move its weights into a plain one.
        config = deepcopy(model.config)
        del config.quantization_config
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
        plain.load_state_dict(model.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = model.generation_config
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

        kept = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        tokens = torch.arange(8).reshape(1, -1)
        if not torch.equal(kept(tokens).logits, model(tokens).logits):
            raise ModelError(f"The conversion of {file} answers differently from the file itself.")
