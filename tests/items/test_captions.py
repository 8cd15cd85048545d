from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmrec.content_cache import ContentCache
from llmrec.items.captions import (
    MOST_CHARACTERS,
    caption_from_classes,
    caption_pictures,
    one_line,
)
from llmrec.records import Caption, CaptionSource, Item


class Sizes:
    """Says how wide a picture is; nothing of one that is 16 wide. Counts what it was asked."""

    name = "sizes@1"
    batch_size = 2

    def __init__(self) -> None:
        self.asked = 0

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        self.asked += len(pictures)
        return [
            None if one.width == 16 else Caption(f"{one.width} wide", CaptionSource.MODEL)
            for one in pictures
        ]


def shop(folder: Path) -> list[Item]:
    for width in (16, 20, 30):
        Image.new("RGB", (width, 20)).save(folder / f"{width}.png")
    (folder / "text.jpg").write_text("no picture")
    return [
        Item("given", image="text.jpg", attributes={"caption": "A red shoe"}),
        Item("wide", image="20.png"),
        Item("same", image="20.png"),
        Item("wider", image="30.png"),
        Item("nothing", image="16.png"),
        Item("broken", image="text.jpg"),
        Item("missing", image="missing.jpg"),
        Item("none"),
    ]


def test_captions_are_given_or_written_and_faults_are_gaps(tmp_path: Path) -> None:
    found = caption_pictures(Sizes(), shop(tmp_path), tmp_path)
    assert found.by_item == {
        "given": Caption("A red shoe", CaptionSource.GIVEN),
        "wide": Caption("20 wide", CaptionSource.MODEL),
        "same": Caption("20 wide", CaptionSource.MODEL),
        "wider": Caption("30 wide", CaptionSource.MODEL),
    }
    assert set(found.gaps) == {"broken", "missing"}
    assert "is no picture" in found.gaps["broken"]
    assert (found.computed, found.cached) == (3, 0)


def test_captions_are_kept_by_content_those_with_nothing_to_say_too(tmp_path: Path) -> None:
    items, cache = shop(tmp_path), ContentCache(tmp_path / "insights.sqlite3")
    first = caption_pictures(Sizes(), items, tmp_path, cache=cache)
    reader = Sizes()
    again = caption_pictures(reader, items, tmp_path, cache=cache)
    assert reader.asked == 0
    assert (again.computed, again.cached) == (0, 3)
    assert again.by_item == first.by_item


def test_an_interrupted_run_continues_where_it_stopped(tmp_path: Path) -> None:
    class Interrupted(Sizes):
        def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
            if self.asked:
                raise KeyboardInterrupt
            return super().describe(pictures)

    items, cache = shop(tmp_path), ContentCache(tmp_path / "insights.sqlite3")
    with pytest.raises(KeyboardInterrupt):
        caption_pictures(Interrupted(), items, tmp_path, cache=cache)
    assert caption_pictures(Sizes(), items, tmp_path, cache=cache).cached == 2


def test_classes_are_named_with_how_sure_it_is() -> None:
    names = ["jersey", "sweatshirt", "clog", "crane"]
    caption = caption_from_classes(names, np.array([0.41, 0.22, 0.19, 0.01]))
    assert caption == Caption("perhaps: jersey (41 %), sweatshirt (22 %)", CaptionSource.CLASSES)
    assert caption_from_classes(names, np.array([0.19, 0.19, 0.19, 0.19])) is None


def test_what_a_model_writes_becomes_one_bounded_line() -> None:
    assert one_line("  A\nred\t shoe.\x00\u202e ") == "A red shoe."
    cut = one_line("word " * 200)
    assert len(cut) <= MOST_CHARACTERS
    assert cut.endswith("word…")
    assert one_line("\n ") == ""
