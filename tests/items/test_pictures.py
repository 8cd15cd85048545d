from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmrec.errors import DataError
from llmrec.items.pictures import PictureError, open_picture


def noise(height: int = 60, width: int = 80) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def halves() -> Image.Image:
    """Red above, blue below."""
    picture = Image.new("RGB", (40, 60), "red")
    picture.paste("blue", (0, 30, 40, 60))
    return picture


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "I;16"])
def test_every_mode_comes_out_as_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.arange(0, 4800, dtype=np.uint16).reshape(60, 80) * 13
    picture = Image.fromarray(grey) if mode == "I;16" else noise().convert(mode)
    picture.save(tmp_path / "x.png")
    opened = open_picture(tmp_path / "x.png")
    assert (opened.mode, opened.size) == ("RGB", (80, 60))
    assert np.asarray(opened).std() > 20


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_a_file_is_what_its_bytes_say(tmp_path: Path, suffix: str) -> None:
    halves().save(tmp_path / f"x.{suffix}")
    named_wrongly = (tmp_path / f"x.{suffix}").rename(tmp_path / "x.jpg")
    top, bottom = (open_picture(named_wrongly).getpixel((20, y)) for y in (10, 50))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > 50 > top[2]
    assert bottom[2] > 200 > 50 > bottom[0]


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    halves().convert("CMYK").save(tmp_path / "x.jpg")
    opened = np.asarray(open_picture(tmp_path / "x.jpg"), dtype=int)
    assert np.abs(opened - np.asarray(halves())).mean() < 10


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert open_picture(tmp_path / "x.png").getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bits_are_not_cut_to_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 32768, dtype=np.uint16)).save(tmp_path / "x.png")
    assert open_picture(tmp_path / "x.png").getpixel((3, 3)) == (127, 127, 127)


def test_the_camera_s_orientation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    halves().save(tmp_path / "x.png", exif=exif)
    opened = open_picture(tmp_path / "x.png")
    assert opened.size == (60, 40)
    assert opened.getpixel((5, 20)) == (0, 0, 255)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    blue = Image.new("RGB", (20, 20), "blue")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "x.gif", save_all=True, append_images=[blue])
    assert open_picture(tmp_path / "x.gif").getpixel((3, 3)) == (255, 0, 0)


def test_a_large_picture_is_scaled_down(tmp_path: Path) -> None:
    noise(600, 3000).save(tmp_path / "x.jpg")
    assert open_picture(tmp_path / "x.jpg", longest_side=500).size == (500, 100)


def test_a_damaged_orientation_leaves_the_picture(tmp_path: Path) -> None:
    halves().save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_picture(tmp_path / "x.jpg").size == (40, 60)


def test_every_fault_is_named(tmp_path: Path) -> None:
    noise().save(tmp_path / "whole.jpg")
    noise().save(tmp_path / "whole.png")
    for suffix in ("jpg", "png"):
        whole = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "head.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture at all")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    faults = {
        "cut.jpg": "cannot be decoded",
        "cut.png": "cannot be decoded",
        "head.png": "cannot be decoded",
        "empty.jpg": "0 bytes",
        "text.jpg": "is no picture",
        "dot.png": "1 x 1 pixels shows nothing",
        "missing.jpg": "There is no file",
        "https://example.org/a.jpg": "is an address",
        ".": "is a folder",
    }
    for name, fault in faults.items():
        with pytest.raises(PictureError, match=fault) as raised:
            open_picture(tmp_path / name)
        assert isinstance(raised.value, DataError)
        assert raised.value.hint


@pytest.mark.parametrize("where", [10, 40, 100, 200, 400])
def test_flipped_bytes_never_crash(tmp_path: Path, where: int) -> None:
    for suffix in ("jpg", "png", "gif", "webp", "tiff", "bmp", "avif"):
        path = tmp_path / f"x.{suffix}"
        noise().save(path)
        content = bytearray(path.read_bytes())
        content[where : where + 8] = bytes(byte ^ 0xFF for byte in content[where : where + 8])
        path.write_bytes(content)
        try:
            assert open_picture(path).mode == "RGB"
        except PictureError as error:
            assert error.message  # noqa: PT017 - either is right


HUGE = """
import resource, sys
from pathlib import Path
from llmrec.items.pictures import PictureError, open_picture
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    print(open_picture(Path(sys.argv[1])).size)
except PictureError as error:
    print(error.message)
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("suffix", "options", "outcome"),
    [
        ("jpg", {}, "(1024, 1024)"),
        ("jpg", {"progressive": True}, "20,000 x 20,000 pixels is too large: at most 50,000,000"),
        ("png", {"compress_level": 1}, "20,000 x 20,000 pixels is too large: at most 50,000,000"),
    ],
    ids=["jpeg", "progressive", "png"],
)
def test_memory_is_bounded_at_20000_by_20000(
    tmp_path: Path, suffix: str, options: dict[str, Any], outcome: str
) -> None:
    path = tmp_path / f"huge.{suffix}"
    Image.new("L", (20_000, 20_000), 90).save(path, **options)
    done = subprocess.run(
        [sys.executable, "-c", HUGE, str(path)], capture_output=True, text=True, check=True
    )
    said, grown = done.stdout.splitlines()
    assert outcome in said
    assert int(grown) < 150  # MiB; decoded in full it is 400 in grey, 1,200 in colour
