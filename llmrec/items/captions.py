"""What the pictures of items show, in words: given, written by a model, or named by classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from llmrec.content_cache import ContentCache
from llmrec.items.media_files import Reading, from_files
from llmrec.items.pictures import open_picture
from llmrec.records import Caption, CaptionSource, Item

if TYPE_CHECKING:
    from PIL import Image

LEAST_PROBABILITY = 0.2
"""Classes less likely than this are not named."""

MOST_CLASSES = 3
MOST_CHARACTERS = 300
"""A caption is one line of at most so many characters: it goes into prompts."""


class PictureReader(Protocol):
    """What writes captions: a :class:`~llmrec.items.captioner.Captioner`, or classes."""

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
    cache: ContentCache | None = None,
    progress: bool = False,
) -> Captions:
    """Say what the picture of each item shows.

    A caption that the data set brings (the attribute ``caption``) is used as it is, and the picture
    is not opened. Each batch is kept as soon as it is there, so an interrupted run continues where
    it stopped.

    Args:
        reader: What writes captions.
        items: Items; ``image`` is the picture's path.
        folder: What paths are relative to.
        cache: Where captions are kept between runs; None keeps none.
        progress: Show a bar on stderr while computing, where that is a terminal.

    Raises:
        ModelError, OutOfMemoryError: The model cannot be run.
        StorageError: The cache file cannot be read or written.
    """
    given = {item.item_id: caption for item in items if (caption := _given(item)) is not None}
    asked = [item for item in items if item.item_id not in given and item.image]
    by = Reading(
        unit="picture",
        doing="Captioning",
        recipe=("caption", reader.name),
        read=open_picture,
        compute=lambda pictures: [pack_caption(caption) for caption in reader.describe(pictures)],
        batch_size=reader.batch_size,
        cache=cache,
    )
    found = from_files([folder / (item.image or "") for item in asked], by, progress=progress)
    written = {asked[row].item_id: unpack_caption(packed) for row, packed in found.results.items()}
    return Captions(
        given | {item_id: caption for item_id, caption in written.items() if caption is not None},
        {asked[row].item_id: reason for row, reason in found.gaps.items()},
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


def _given(item: Item) -> Caption | None:
    value = item.attributes.get("caption")
    if isinstance(value, str) and value.strip():
        return Caption(value.strip(), CaptionSource.GIVEN)
    return None


def pack_caption(caption: Caption | None) -> bytes:
    """Write a caption, or none, for a cache."""
    known = None if caption is None else {"text": caption.text, "source": caption.source}
    return json.dumps(known, ensure_ascii=False).encode()


def unpack_caption(packed: bytes) -> Caption | None:
    """Read what :func:`pack_caption` wrote."""
    known = json.loads(packed)
    return None if known is None else Caption(known["text"], CaptionSource(known["source"]))
