from __future__ import annotations

import logging
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llmrec.catalog import MediaError
from llmrec.errors import DataError, ModelError, ModelNotFoundError, OutOfMemoryError
from llmrec.items import VectorCache
from llmrec.items.pictures import PictureEncoder, PictureError, embed_pictures, open_picture
from llmrec.models import resolve
from tests.items.small_encoders import SmallEncoder, fits, interrupted_after, mean_colour


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
def test_file_type_comes_from_its_bytes(tmp_path: Path, suffix: str) -> None:
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


def test_transparency_becomes_white(tmp_path: Path) -> None:
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
        ".": "is a folder",
    }
    for name, fault in faults.items():
        with pytest.raises(MediaError, match=fault) as raised:
            open_picture(tmp_path / name)
        assert isinstance(raised.value, DataError)


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


def test_memory_is_bounded_at_20000_by_20000(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    Image.new("L", (20_000, 20_000), 90).save(path)
    done = subprocess.run(
        [sys.executable, "-c", HUGE, str(path)], capture_output=True, text=True, check=True
    )
    said, grown = done.stdout.splitlines()
    assert said == "(1024, 1024)"
    assert int(grown) < 150  # MiB; decoded in full it is 400 in grey, 1,200 in colour


@pytest.mark.parametrize(
    ("suffix", "options", "place"),
    [("jpg", {"progressive": True}, b"\xff\xc2\x00\x0b\x08"), ("png", {}, b"IHDR")],
    ids=["progressive", "png"],
)
def test_too_many_pixels_are_refused_by_the_header(
    tmp_path: Path, suffix: str, options: dict[str, Any], place: bytes
) -> None:
    """Pillow decodes such files in full, so the size that the header states is checked before."""
    path = tmp_path / f"huge.{suffix}"
    Image.new("L", (200, 200), 90).save(path, **options)
    content = path.read_bytes()
    start = content.index(place) + len(place)
    side = (20_000).to_bytes(2 if suffix == "jpg" else 4)
    content = content[:start] + 2 * side + content[start + 2 * len(side) :]
    if suffix == "png":  # the checksum of the header
        end = start + 13
        content = (
            content[:end] + zlib.crc32(content[start - 4 : end]).to_bytes(4) + content[end + 4 :]
        )
    path.write_bytes(content)
    with pytest.raises(
        PictureError, match="20,000 x 20,000 pixels is too large: at most 50,000,000"
    ):
        open_picture(path)


def folder_of(tmp_path: Path, *colours: str) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(len(colours))]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (16, 16), colour).save(path)
    return paths


def test_rows_are_of_length_one_in_the_order_of_the_paths(tmp_path: Path) -> None:
    red, blue = folder_of(tmp_path, "red", "blue")
    found = embed_pictures(PictureEncoder(mean_colour(), "colours"), [blue, None, red])
    assert (found.name, found.encoder, found.gaps) == ("image", "colours", {})
    np.testing.assert_array_equal(found.vectors, [[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    assert found.vectors.dtype == np.float32
    assert found.present.tolist() == [True, False, True]


def test_a_broken_picture_is_a_gap_among_whole_ones(tmp_path: Path) -> None:
    (red,) = folder_of(tmp_path, "red")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    paths = [red, tmp_path / "empty.jpg", tmp_path / "text.jpg", tmp_path / "missing.jpg", red]
    found = embed_pictures(PictureEncoder(mean_colour(), "colours"), paths)
    assert found.present.tolist() == [True, False, False, False, True]
    assert "0 bytes" in found.gaps[1]
    assert "is no picture" in found.gaps[2]
    assert "There is no file" in found.gaps[3]


def test_a_modality_that_every_item_lacks_has_rows_of_zeros(tmp_path: Path) -> None:
    encoder = PictureEncoder(mean_colour(), "colours")
    found = embed_pictures(encoder, [None, tmp_path / "missing.jpg"])
    assert found.vectors.shape == (2, 3)
    assert not found.present.any()
    assert embed_pictures(encoder, []).vectors.shape == (0, 3)


def test_identical_files_are_computed_once_and_kept(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, "red", "blue", "red")
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    model = mean_colour()
    embed_pictures(PictureEncoder(model, "colours", cache=cache), paths)
    assert len(model.asked) == 2
    again = mean_colour()
    Image.new("RGB", (16, 16), "green").save(paths[2])
    encoder = PictureEncoder(again, "colours", cache=cache)
    embed_pictures(encoder, paths)
    assert len(again.asked) == 1


def test_an_interrupted_run_continues_where_it_stopped(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, *(f"rgb({number},0,9)" for number in range(1, 9)))
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    stopped = mean_colour(interrupted_after(4))
    with pytest.raises(KeyboardInterrupt):
        embed_pictures(PictureEncoder(stopped, "c", cache=cache, batch_size=2), paths)
    model = mean_colour()
    embed_pictures(PictureEncoder(model, "c", cache=cache, batch_size=20), paths)
    assert len(model.asked) == 4


def test_a_batch_that_does_not_fit_is_halved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = folder_of(tmp_path, "red", "blue", "lime")
    full = torch.OutOfMemoryError("CUDA out of memory.")
    small = PictureEncoder(mean_colour(fits(2, full)), "small")
    assert embed_pictures(small, paths).present.all()
    assert "with 2 pictures at once" in caplog.text
    with pytest.raises(OutOfMemoryError, match="Not even one picture"):
        embed_pictures(PictureEncoder(mean_colour(fits(0, full)), "small"), paths)


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    broken = SmallEncoder(lambda _: [np.nan] * 3)
    with pytest.raises(ModelError, match="broken@1"):
        embed_pictures(PictureEncoder(broken, "broken@1"), folder_of(tmp_path, "red"))


def tiny_tokenizer() -> object:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="</s>", eos_token="</s>"
    )


def save_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor  # noqa: PLC0415
    from transformers.models.clip.image_processing_pil_clip import (  # noqa: PLC0415
        CLIPImageProcessorPil,
    )

    side = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    side |= {"num_attention_heads": 2}
    text = {**side, "vocab_size": 3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    vision = {**side, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.save_pretrained(folder)
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(pictures, tiny_tokenizer()).save_pretrained(folder)


def save_siglip(folder: Path) -> None:
    from transformers import SiglipConfig, SiglipModel, SiglipProcessor  # noqa: PLC0415
    from transformers.models.siglip.image_processing_pil_siglip import (  # noqa: PLC0415
        SiglipImageProcessorPil,
    )

    side = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    side |= {"num_attention_heads": 2}
    text = {**side, "vocab_size": 3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    vision = {**side, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    pictures = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    SiglipProcessor(pictures, tiny_tokenizer()).save_pretrained(folder)


@pytest.mark.parametrize(("save", "dimension"), [(save_clip, 12), (save_siglip, 16)])
def test_models_of_the_hub_embed_pictures(tmp_path: Path, save: object, dimension: int) -> None:
    """A tiny random model of each family, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    raw, folder = tmp_path / "raw", tmp_path / "tiny"
    assert callable(save)
    save(raw)
    SentenceTransformer(str(raw), device="cpu").save(str(folder))
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    encoder = PictureEncoder.from_pretrained(str(folder), device="cpu", cache=cache)
    assert encoder.name.startswith("tiny@")
    assert encoder.dimension == dimension
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (50 + n, 40, 3), dtype=np.uint8)) for n in range(3)
    ]
    vectors = encoder.encode(pictures)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(vectors[1:2], encoder.encode(pictures[1:2]), atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_without_a_hub_the_packaged_network_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(resolve, "hub_answers", lambda: False)
    monkeypatch.setattr(resolve, "cached_snapshot", lambda _hub_id, _revision: None)
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    with caplog.at_level(logging.WARNING):
        try:
            encoder = PictureEncoder.from_pretrained(device="cpu", cache=cache)
        except ModelNotFoundError as error:
            pytest.skip(str(error))
    assert "efficientnet-lite0 instead" in caplog.text
    assert encoder.name == "efficientnet-lite0@579344248a93e230"
    assert encoder.dimension == 1280
    with pytest.raises(ModelNotFoundError, match="openai/other"):
        PictureEncoder.from_pretrained("openai/other")


def test_a_text_encoder_is_refused(minilm_folder: Path) -> None:
    with pytest.raises(ModelError, match="does not read images but text"):
        PictureEncoder.from_pretrained(str(minilm_folder), device="cpu")


def test_a_folder_that_holds_no_encoder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=str(tmp_path)):
        PictureEncoder.from_pretrained(str(tmp_path))
