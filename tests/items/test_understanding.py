"""All parts of understanding together, over a small data set with broken files among whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from llmrec.catalog import Catalog
from llmrec.content_cache import ContentCache
from llmrec.errors import OptionError
from llmrec.items import understanding
from llmrec.items.text_encoder import TextEncoder
from llmrec.items.understanding import modalities_of, understand_items
from llmrec.records import Caption, CaptionSource, Insight
from tests.items.small_encoders import SmallEncoder


class Reader:
    """Says how large a picture is."""

    name, batch_size = "reader@1", 2

    def __init__(self) -> None:
        self.asked = 0

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        self.asked += len(pictures)
        return [Caption(f"{one.width} wide", CaptionSource.MODEL) for one in pictures]


ENCODER = TextEncoder(SmallEncoder(lambda text: [len(text), text.count("e") + 1.0]), "letters@1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "whole.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:50])
    (tmp_path / "clip.mp4").write_text("no clip")
    (tmp_path / "items.csv").write_text(
        "item_id,title,image,video,caption\n"
        "1,One,whole.png,,\n2,Two,torn.png,,\n"
        "3,Three,whole.png,clip.mp4,A given caption.\n4,Four,,,\n"
    )
    (tmp_path / "reviews.csv").write_text(
        "item_id,text\n4,This is a very good thing and I love it.\n"
    )
    (tmp_path / "facts.csv").write_text("head,relation,tail\n1,made_by,Somebody\n")
    return tmp_path


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr(understanding, "load_captioner", lambda _, **__: made)
    monkeypatch.setattr(understanding, "DEFAULT_SENTIMENT_MODEL", None)  # no hub is asked
    return made


def understood(folder: Path, **options: Sequence[str]) -> dict[str, Insight]:
    catalog = Catalog.from_folder(folder)
    cache = ContentCache(folder / "cache.sqlite3")
    return understand_items(catalog, ENCODER, cache=cache, **options)  # type: ignore[arg-type]


def test_each_part_reports_results_and_gaps(folder: Path, reader: Reader) -> None:
    found = understood(folder)
    assert found["1"].picture == Caption("40 wide", CaptionSource.MODEL)
    assert found["1"].facts == ("made by: Somebody",)
    assert found["2"].picture is None
    assert "torn.png" in found["2"].gaps["image"]
    assert found["3"].picture == Caption("A given caption.", CaptionSource.GIVEN)
    assert "clip.mp4" in found["3"].gaps["clip"]
    assert found["4"].opinion is not None
    assert found["4"].opinion.n == 1


def test_second_run_uses_the_cache(folder: Path, reader: Reader) -> None:
    first = understood(folder)
    asked = reader.asked
    assert understood(folder) == first
    assert reader.asked == asked == 1


def test_excluded_parts_are_not_read(folder: Path, reader: Reader) -> None:
    found = understood(folder, without=("image", "clip", "reviews"))
    assert found == {"1": Insight(facts=("made by: Somebody",))}
    assert reader.asked == 0


def test_given_captions_need_neither_a_picture_nor_a_captioner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(understanding, "load_captioner", None)  # calling it would fail
    items = folder / "items.csv"
    items.write_text("item_id,title,image,caption\n1,One,whole.png,A shoe.\n2,Two,,A hat.\n")
    (folder / "reviews.csv").unlink()
    given = [Caption(text, CaptionSource.GIVEN) for text in ("A shoe.", "A hat.")]
    catalog = Catalog.from_folder(folder)
    for each in (catalog, replace(catalog, folder=None)):
        found = understand_items(each, ENCODER)
        assert [found[name].picture for name in ("1", "2")] == given
    assert understood(folder, without=("image",))["1"].picture is None


def test_an_unknown_part_is_named_with_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"'images' cannot be left out.*Did you mean 'image'"):
        understand_items(Catalog({}), ENCODER, without=("images",))
    with pytest.raises(OptionError, match=r"'text' cannot be left out"):
        modalities_of(Catalog({}), ENCODER, without=("text",))


def test_only_modalities_that_an_item_has_are_embedded(folder: Path) -> None:
    catalog = Catalog.from_folder(folder)
    found = modalities_of(catalog, ENCODER, without=("image", "clip"))
    assert [given.name for given in found] == ["text", "reviews"]
    assert found[1].present.tolist() == [False, False, False, True]
