"""Captions of item pictures: given, written by a model, or class names."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from llmrec.catalog.media_files import MediaPath, media_paths
from llmrec.content_cache import ContentCache
from llmrec.documents import parse_json
from llmrec.errors import ModelError, ModelNotFoundError, naming
from llmrec.items.cached_results import FileTask, from_files, unreadable
from llmrec.items.pictures import open_picture
from llmrec.models import DEFAULT_CAPTIONER, OFFLINE_IMAGE_MODEL, resolve_model
from llmrec.models.chat_sandbox import render_chat
from llmrec.models.hardware import halve_until_it_fits
from llmrec.records import Caption, CaptionSource, Item

if TYPE_CHECKING:
    from PIL import Image

    from llmrec.items.efficientnet import EfficientNetLite0

logger = logging.getLogger(__name__)

LEAST_PROBABILITY = 0.2
"""Classes less likely than this are not named."""

MOST_CLASSES = 3
MOST_CHARACTERS = 300
"""A caption is one line of at most so many characters: it goes into prompts."""


class PictureReader(Protocol):
    """Writes captions: a :class:`~llmrec.items.captions.Captioner`, or class names."""

    @property
    def name(self) -> str:
        """The model with its revision and whatever else its captions depend on."""
        ...

    @property
    def batch_size(self) -> int:
        """Pictures that are held in memory at once."""
        ...

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        """Return a caption of each RGB picture, None where there is nothing to say."""
        ...


@dataclass(frozen=True)
class Captions:
    """Captions by item id; and by item id, why a picture could not be read.

    ``computed`` and ``cached`` count distinct pictures; captions that were given are neither.
    """

    by_item: Mapping[str, Caption]
    gaps: Mapping[str, str]
    computed: int = 0
    cached: int = 0


def caption_pictures(
    reader: PictureReader,
    items: Sequence[Item],
    folder: Path,
    *,
    media_root: Path | None = None,
    cache: ContentCache | None = None,
    progress: bool = False,
) -> Captions:
    """Say what the picture of each item shows.

    A caption that the data set brings (the attribute ``caption``) is used as it is, and the picture
    is not opened. Each batch is kept as soon as it is there, so an interrupted run continues where
    it stopped.

    Args:
        reader: Writes the captions.
        items: Items; ``image`` is the picture's path.
        folder: The data set's folder: relative paths start there.
        media_root: A folder in which files may lie besides ``folder``.
        cache: Where captions are kept between runs; None keeps none.
        progress: Show a progress bar on stderr while computing if it is a terminal.

    Raises:
        ModelError, OutOfMemoryError: The model cannot be run.
        StorageError: The cache file cannot be read or written.
    """
    given = given_captions(items)
    asked = [item for item in items if item.item_id not in given and item.image]
    task = FileTask(
        unit="picture",
        doing="Captioning",
        recipe=("caption", reader.name),
        read=open_picture,
        compute=lambda pictures: [pack_caption(caption) for caption in reader.describe(pictures)],
        batch_size=reader.batch_size,
        cache=cache,
        damaged=lambda known: unreadable(known, unpack_caption),
    )
    paths = media_paths(folder, [item.image for item in asked], root=media_root)
    written = caption_files(asked, paths, task, progress=progress)
    return replace(written, by_item={**given, **written.by_item})


def caption_files(
    items: Sequence[Item], paths: Sequence[MediaPath], task: FileTask[Any, bytes], *, progress: bool
) -> Captions:
    """Caption the file of each item; ``task`` packs captions by :func:`pack_caption`."""
    found = from_files(paths, task, progress=progress)
    written = {items[row].item_id: unpack_caption(packed) for row, packed in found.results.items()}
    return Captions(
        {item_id: caption for item_id, caption in written.items() if caption is not None},
        {items[row].item_id: reason for row, reason in found.gaps.items()},
        found.computed,
        found.cached,
    )


def caption_from_classes(names: Sequence[str], probabilities: np.ndarray) -> Caption | None:
    """Say what a classifier sees and how sure it is: ``perhaps: jersey (41 %), sweatshirt (22 %)``.

    Args:
        names: The classes.
        probabilities: float [n_classes].

    Returns:
        The classes of at least ``LEAST_PROBABILITY``, the likeliest first; None where none is.
    """
    likeliest = np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]
    said = [
        f"{names[number]} ({probabilities[number]:.0%})".replace("%", " %")
        for number in likeliest.tolist()
        if probabilities[number] >= LEAST_PROBABILITY
    ]
    return Caption(f"perhaps: {', '.join(said)}", CaptionSource.CLASSES) if said else None


def one_line(text: str) -> str:
    """Bring what a model wrote to one line of printable characters, cut at a word."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(line) <= MOST_CHARACTERS:
        return line
    return line[: MOST_CHARACTERS - 1].rsplit(" ", 1)[0] + "…"


def given_captions(items: Iterable[Item]) -> dict[str, Caption]:
    """The captions that the data set brings, by item id: the attribute ``caption``."""
    values = {item.item_id: item.attributes.get("caption") for item in items}
    return {
        item_id: Caption(value.strip(), CaptionSource.GIVEN)
        for item_id, value in values.items()
        if isinstance(value, str) and value.strip()
    }


def pack_caption(caption: Caption | None) -> bytes:
    """Write a caption, or none, for a cache."""
    known = None if caption is None else {"text": caption.text, "source": caption.source}
    return json.dumps(known, ensure_ascii=False).encode()


def unpack_caption(packed: bytes) -> Caption | None:
    """Read what :func:`pack_caption` wrote (ValueError: it is something else)."""
    known = parse_json(packed)
    if known is None:
        return None
    if not isinstance(known, dict) or not isinstance(text := known.get("text"), str):
        raise ValueError("it is no caption")
    return Caption(text, CaptionSource(str(known.get("source"))))


INSTRUCTION = "Describe what this picture shows in one short sentence."
MOST_TOKENS = 40


@dataclass(frozen=True)
class Captioner:
    """A vision-language model of transformers that writes one sentence about a picture.

    A model with a chat template is given ``INSTRUCTION``; one without (BLIP) captions by itself.
    Decoding is greedy, so a picture has one caption.

    Args:
        model: An ``AutoModelForImageTextToText``.
        processor: Its ``AutoProcessor``.
        name: The model's name with its revision and the instruction: captions are kept under it.
        device: Where it runs.
        batch_size: Pictures per forward pass.
    """

    model: Any
    processor: Any
    name: str
    device: str = "cpu"
    batch_size: int = 8

    @classmethod
    def from_pretrained(
        cls, ref: str = DEFAULT_CAPTIONER, *, device: str | None = None, progress: bool = False
    ) -> Captioner:
        """Load a captioning model.

        Args:
            ref: A hub id or a local folder.
            device: ``cpu``, ``cuda``...; None takes the best available.
            progress: Show a progress bar on stderr while fetching and loading if it is a terminal.

        Raises:
            ModelNotFoundError: ``ref`` cannot be resolved.
            HardwareError: The device is not available.
            ModelError: The folder holds no such model, or its processor needs a missing package.
        """
        folder = resolve_model(ref, progress=progress)
        # These load torch, which reading captions does not need.
        import torch  # noqa: PLC0415
        from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: PLC0415

        from llmrec.models.hardware import choose_placement  # noqa: PLC0415
        from llmrec.models.hub import progress_bars  # noqa: PLC0415

        placement = choose_placement(device)
        with (
            naming(
                f"{ref!r} is no captioning model that can be loaded here",
                ModelError,
                hint="Models whose processor also reads video (SmolVLM2, Qwen-VL) need the package "
                "torchvision, and SmolVLM2 num2words; BLIP, Idefics3 (SmolVLM) and LLaVA do not.",
            ),
            progress_bars(shown=progress),
        ):
            processor = AutoProcessor.from_pretrained(
                folder.path, local_files_only=True, trust_remote_code=False
            )
            model = AutoModelForImageTextToText.from_pretrained(
                folder.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=getattr(torch, placement.dtype),
            )
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None:
            raise ModelError(
                f"{ref!r} does not read pictures: its processor is {type(processor).__name__}.",
                hint=f"Name a captioning model, for example {DEFAULT_CAPTIONER}.",
            )
        tokenizer.padding_side = "left"  # generated text follows the prompt without a gap
        name = f"{folder.name}@{folder.revision}|{MOST_TOKENS}|{INSTRUCTION}"
        return cls(model.eval().to(placement.device), processor, name, placement.device)

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        """Write a caption of each RGB picture; None where the model writes nothing.

        Raises:
            OutOfMemoryError: Not even one picture fits.
        """

        def compute(size: int) -> list[str]:
            parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
            return [text for part in parts for text in self._write(part)]

        texts, _ = halve_until_it_fits(compute, self.batch_size, unit="picture", name=self.name)
        lines = [one_line(text) for text in texts]
        return [Caption(line, CaptionSource.MODEL) if line else None for line in lines]

    def _write(self, pictures: Sequence[Image.Image]) -> list[str]:
        import torch  # noqa: PLC0415

        given, prompt_tokens = self._inputs(pictures)
        given = given.to(self.device, self.model.dtype)
        with torch.inference_mode():
            written = self.model.generate(
                **given, do_sample=False, num_beams=1, max_new_tokens=MOST_TOKENS
            )
        texts = self.processor.batch_decode(written[:, prompt_tokens:], skip_special_tokens=True)
        return [str(text) for text in texts]

    def _inputs(self, pictures: Sequence[Image.Image]) -> tuple[Any, int]:
        source = getattr(self.processor, "chat_template", None)
        if not source:
            return self.processor(images=list(pictures), return_tensors="pt"), 0
        asked = [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]
        tokenizer = self.processor.tokenizer
        with naming(f"The chat template of {self.name} cannot be rendered", ModelError):
            text = render_chat(
                source["default"] if isinstance(source, dict) else source,
                {
                    **tokenizer.special_tokens_map,
                    "messages": [{"role": "user", "content": asked}],
                    "add_generation_prompt": True,
                },
            )
        begun = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        given = self.processor(
            text=[text] * len(pictures),
            images=[[picture] for picture in pictures],
            return_tensors="pt",
            padding=True,
            **({"add_special_tokens": False} if begun else {}),
        )
        return given, int(given["input_ids"].shape[1])


@dataclass(frozen=True)
class ClassCaptioner:
    """Names the ImageNet classes of a picture, with their probabilities.

    Args:
        model: The classifier.
        name: Its name with its revision: captions are kept under it.
        batch_size: Pictures per forward pass.
    """

    model: EfficientNetLite0
    name: str
    batch_size: int = 32

    @classmethod
    def from_pretrained(
        cls, ref: str = OFFLINE_IMAGE_MODEL, *, device: str | None = None, progress: bool = False
    ) -> ClassCaptioner:
        """Load EfficientNet-Lite0.

        Raises:
            ModelNotFoundError: It cannot be fetched.
            ModelError: The folder does not hold it.
        """
        folder = resolve_model(ref, progress=progress)
        from llmrec.items.efficientnet import EfficientNetLite0  # noqa: PLC0415
        from llmrec.models.hardware import choose_placement  # noqa: PLC0415 - loads torch

        model = EfficientNetLite0(folder.path, choose_placement(device, "float32").device)
        return cls(model, f"{folder.name}@{folder.revision}")

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        """Name the likely classes of each RGB picture; None where none is likely enough."""
        found, _ = halve_until_it_fits(
            lambda size: self.model.probabilities(pictures, batch_size=size),
            self.batch_size,
            unit="picture",
            name=self.name,
        )
        return [caption_from_classes(self.model.class_names, row) for row in found]


def load_captioner(
    ref: str = DEFAULT_CAPTIONER, *, device: str | None = None, progress: bool = False
) -> PictureReader:
    """Load a captioner; if the default one is not available, use class names with a warning.

    Raises:
        ModelNotFoundError: ``ref`` cannot be resolved.
        ModelError: It cannot be loaded.
    """
    if ref == OFFLINE_IMAGE_MODEL:
        return ClassCaptioner.from_pretrained(ref, device=device, progress=progress)
    try:
        return Captioner.from_pretrained(ref, device=device, progress=progress)
    except ModelNotFoundError as error:
        if ref != DEFAULT_CAPTIONER:
            raise
        logger.warning("Pictures are captioned by their classes instead: %s", error.message)
        return ClassCaptioner.from_pretrained(device=device, progress=progress)
