from __future__ import annotations

import builtins
import json
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmrec.catalog import MediaError
from llmrec.errors import ModelError
from llmrec.items import clips
from llmrec.items.clips import ClipError, caption_clips, embed_clips, key_frames
from llmrec.items.pictures import PictureEncoder, open_picture
from llmrec.records import Caption, CaptionSource, Item
from tests.items.small_encoders import mean_colour

av = pytest.importorskip("av")


def encode(
    path: Path, pictures: Sequence[Image.Image], frames: int = 20, rate: int = 10, **options: str
) -> Path:
    """Show each picture for so many frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 240, "yuv420p"
        for picture in pictures:
            scaled = picture.convert("RGB").resize((160, 240))
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_image(scaled)))
        container.mux(stream.encode(None))
    return path


def drawn(number: int) -> Image.Image:
    """Squares of random colour: as different from another as pictures are."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)).resize((160, 240), 0)


def test_a_scene_begins_where_the_picture_changes(tmp_path: Path) -> None:
    scenes = [drawn(number) for number in range(4)]
    frames = key_frames(encode(tmp_path / "x.mp4", scenes))
    assert [frame.seconds for frame in frames] == pytest.approx([0, 2, 4, 6], abs=0.05)
    for frame, scene in zip(frames, scenes, strict=True):
        shown = np.asarray(frame.picture, dtype=int)
        assert np.abs(shown - np.asarray(scene.resize(frame.picture.size))).mean() < 25


def test_real_posters_cut_into_a_clip_are_found(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    folder = shared_data("movielens_mm")
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()[:6]]
    posters = [open_picture(folder / row["image"]) for row in rows]
    frames = key_frames(encode(tmp_path / "x.mkv", posters))
    assert [frame.seconds for frame in frames] == pytest.approx([0, 2, 4, 6, 8, 10], abs=0.05)


def test_of_many_scenes_at_most_so_many_are_kept_in_order(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mp4", [drawn(number) for number in range(12)], frames=5)
    seconds = [frame.seconds for frame in key_frames(path, most=3)]
    assert len(seconds) == 3
    assert seconds == sorted(seconds)


def test_one_still_picture_is_one_scene(tmp_path: Path) -> None:
    assert len(key_frames(encode(tmp_path / "x.mp4", [drawn(1)]))) == 1


def test_blank_first_frames_are_skipped(tmp_path: Path) -> None:
    black = Image.new("RGB", (160, 240))
    (frame,) = key_frames(encode(tmp_path / "x.mp4", [black, drawn(1)]))
    assert frame.seconds == pytest.approx(2, abs=0.05)
    (frame,) = key_frames(encode(tmp_path / "y.mp4", [black]))
    assert frame.seconds == 0


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_long_clip_is_looked_at_here_and_there(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "_SHORT_FRAMES", 50)  # of a clip that is taken for a short one
    scenes = [drawn(number) for number in range(4)]
    path = encode(tmp_path / f"x.{suffix}", scenes, frames=60, rate=2, g="10")
    seconds = [frame.seconds for frame in key_frames(path)]
    assert seconds == pytest.approx([0, 30, 60, 90], abs=5)


def broken(folder: Path) -> dict[str, str]:
    """Write clips that cannot be read; by name, the fault."""
    whole = encode(folder / "whole.mp4", [drawn(1), drawn(2)]).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no clip at all " * 40)
    # Playlists of a whole clip: what they name must not be opened.
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:2,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    (folder / "list.ffconcat").write_text("ffconcat version 1.0\nfile whole.mp4\n")
    (folder / "stream.sdp").write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\n")
    (folder / "manifest.mpd").write_text('<?xml version="1.0"?><MPD type="static"></MPD>')
    drawn(1).save(folder / "picture.png")
    with wave.open(str(folder / "sound.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    return {
        "cut.mp4": "cannot be decoded",
        "empty.mp4": "cannot be decoded",
        "text.mp4": "cannot be decoded",
        "sound.mp4": "no video stream",
        "missing.mp4": "There is no file",
        "list.m3u8": "cannot be decoded",
        "list.ffconcat": "cannot be decoded",
        "stream.sdp": "cannot be decoded",
        "manifest.mpd": "cannot be decoded",
        "picture.png": "cannot be decoded",
    }


def test_every_fault_is_named(tmp_path: Path) -> None:
    for name, fault in broken(tmp_path).items():
        with pytest.raises(MediaError, match=fault) as raised:
            key_frames(tmp_path / name)
        assert raised.value.hint


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_clip_that_ends_early_is_named(tmp_path: Path, suffix: str) -> None:
    whole = encode(
        tmp_path / f"whole.{suffix}", [drawn(number) for number in range(8)], movflags="faststart"
    )
    content, cut = whole.read_bytes(), tmp_path / f"cut.{suffix}"
    for share in (3, 5):
        cut.write_bytes(content[: len(content) // share])
        with pytest.raises(ClipError, match="copied to its end"):
            key_frames(cut)


def test_sound_may_go_on_after_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        shown = container.add_stream("mpeg4", rate=10)
        shown.width, shown.height, shown.pix_fmt = 160, 240, "yuv420p"
        heard = container.add_stream("pcm_s16le", rate=8000)
        for _ in range(20):
            container.mux(shown.encode(av.VideoFrame.from_image(drawn(0))))
        for second in range(40):
            silence = np.zeros((1, 8000), dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 8000 * second
            container.mux(heard.encode(frame))
        container.mux([*shown.encode(None), *heard.encode(None)])
    assert [frame.seconds for frame in key_frames(path)] == [0.0]


def test_a_clip_is_the_mean_of_its_frames_and_a_broken_one_a_gap(tmp_path: Path) -> None:
    scenes = [drawn(1), drawn(2)]
    faults = broken(tmp_path)
    paths = [encode(tmp_path / "x.mp4", scenes), None, *(tmp_path / name for name in faults)]
    encoder = PictureEncoder(mean_colour(), "colours")
    found = embed_clips(encoder, paths)
    assert (found.name, found.encoder) == ("clip", "colours")
    assert found.present.tolist() == [True, False, *[False] * len(faults)]
    assert set(found.gaps) == set(range(2, len(paths)))
    expected = encoder.encode(scenes).mean(axis=0)
    np.testing.assert_allclose(found.vectors[0], expected / np.linalg.norm(expected), atol=0.03)
    assert np.linalg.norm(found.vectors[0]) == pytest.approx(1, abs=1e-6)


class Brightness:
    name = "brightness"
    batch_size = 8

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        bright = [np.asarray(one).mean() > 128 for one in pictures]
        return [Caption("Bright." if one else "Dark.", CaptionSource.MODEL) for one in bright]


def test_a_summary_has_the_different_captions_in_order(tmp_path: Path) -> None:
    light, dark = (drawn(1).point(lambda v, o=offset: v // 2 + o) for offset in (128, 0))
    encode(tmp_path / "x.mp4", [dark, light, dark])
    (tmp_path / "text.mp4").write_text("no clip")
    items = [Item("a", video="x.mp4"), Item("b", video="text.mp4"), Item("c")]
    found = caption_clips(Brightness(), items, tmp_path)
    assert found.by_item == {"a": Caption("Dark; Bright", CaptionSource.MODEL)}
    assert set(found.gaps) == {"b"}


def test_missing_pyav_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:  # noqa: ANN401
        if name == "av":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r"pip install 'llmrec\[video\]'"):
        key_frames(tmp_path / "x.mp4")


LARGE = """
import resource, sys
from pathlib import Path
from llmrec.items.clips import key_frames
print(len(key_frames(Path(sys.argv[1]))), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    peaks = []
    for scenes in (4, 40):
        path = encode(tmp_path / "x.mp4", [drawn(number) for number in range(scenes)], frames=10)
        done = subprocess.run(
            [sys.executable, "-c", LARGE, str(path)], capture_output=True, text=True, check=True
        )
        found, peak = done.stdout.split()
        assert int(found) == min(scenes, 8)
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] * 1.1
