"""Which files a data set may name, and how they are opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from llmrec.catalog import Catalog, MediaError, check_folder
from llmrec.catalog.media_files import MOST_BYTES, folder_mark, media_path, media_paths, open_media


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a picture, beside another one."""
    for name in ("shop/pictures/inside.png", "elsewhere/secret.png", "shopping/near.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "shop"


@pytest.mark.parametrize(
    "name",
    [
        "pictures/inside.png",
        "./pictures/../pictures/inside.png",
        "{shop}/pictures/inside.png",
        "file://{shop}/pictures/inside.png",
        "file:///{shop}/pictures/inside%2Epng",
        "link.png",
    ],
)
def test_a_file_inside_is_found(shop: Path, name: str) -> None:
    (shop / "link.png").symlink_to("pictures/inside.png")
    found = media_path(shop, name.format(shop=shop).replace("file:////", "file:///"))
    assert found == (shop / "pictures/inside.png").resolve()


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere/secret.png",
        "pictures/../../elsewhere/secret.png",
        "{elsewhere}/secret.png",
        "file://{elsewhere}/secret.png",
        "../shopping/near.png",
        "out.png",
        "outside/secret.png",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
    ],
)
def test_a_file_outside_is_refused_unless_its_folder_is_named(shop: Path, name: str) -> None:
    elsewhere = shop.parent / "elsewhere"
    (shop / "out.png").symlink_to(elsewhere / "secret.png")
    (shop / "outside").symlink_to(elsewhere)
    name = name.format(elsewhere=elsewhere)
    with pytest.raises(MediaError, match="lies outside the data set's folder") as caught:
        media_path(shop, name)
    assert "--media-root" in caught.value.hint
    if "secret" in name or name == "out.png":
        assert media_path(shop, name, root=elsewhere) == (elsewhere / "secret.png").resolve()
    else:
        with pytest.raises(MediaError, match="outside"):
            media_path(shop, name, root=elsewhere)


@pytest.mark.parametrize(
    "name",
    [
        "http://example.org/a.png",
        "HTTPS://example.org/a.png",
        "ftp://example.org/a.png",
        "s3://bucket/a.png",
        "data:image/png;base64," + "A" * 10_000,
        "concat:a.mp4|b.mp4",
        "file://example.org/a.png",
        "rtsp://example.org/live",
    ],
)
def test_an_address_is_refused(shop: Path, name: str) -> None:
    with pytest.raises(MediaError, match=r"is an address, not a file|There is no file") as caught:
        open_media(media_path(shop, name))
    assert len(caught.value.message) < 300


def test_names_that_are_no_paths_are_gaps(shop: Path) -> None:
    (shop / "loop").symlink_to("loop")
    broken = ["a\0b", "x" * 300, "y/" * 3000, "loop", "file://[x/y.png"]
    files = media_paths(shop, [*broken, None, "", "pictures/inside.png"])
    assert files[5:] == [None, None, (shop / "pictures/inside.png").resolve()]
    for file in files[:5]:
        error = file
        if isinstance(file, Path):
            with pytest.raises(MediaError) as caught:
                open_media(file)
            error = caught.value
        assert isinstance(error, MediaError)
        assert len(error.message) < 400


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "missing", "large"])
def test_only_regular_files_are_opened_and_nothing_waits(
    shop: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        bound = socket.socket(socket.AF_UNIX)
        monkeypatch.chdir(shop)  # a socket's path is at most 107 bytes
        bound.bind("odd")
        bound.close()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as stream:
            stream.truncate(MOST_BYTES + 1)
    with pytest.raises(MediaError, match=r"not a file|There is no file|too large"):
        open_media(path)


def test_data_check_counts_files_that_are_not_opened(shop: Path) -> None:
    (shop / "items.jsonl").write_text(
        '{"item_id": "a", "title": "A", "image": "pictures/inside.png"}\n'
        '{"item_id": "b", "title": "B", "image": "../elsewhere/secret.png"}\n'
        '{"item_id": "c", "title": "C", "image": "https://example.org/c.png"}\n'
        '{"item_id": "d", "title": "D", "image": "pictures/none.png"}\n'
    )
    gaps = check_folder(shop).gaps
    assert gaps["items.image (an address, or outside the folder)"] == 2
    assert gaps["items.image (no such file)"] == 1
    widened = check_folder(shop, media_root=shop.parent).gaps
    assert widened["items.image (an address, or outside the folder)"] == 1
    assert Catalog.from_folder(shop, media_root=shop.parent).media_root == shop.parent


def test_a_mark_belongs_to_both_folders_and_to_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "mine"))
    mark = folder_mark(Path("/data"), None)
    assert mark == folder_mark(Path("/data"), None)
    assert mark != folder_mark(Path("/data"), Path("/"))
    assert mark != folder_mark(Path("/"), None)
    assert (tmp_path / "mine" / "folder_key").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "theirs"))
    assert mark != folder_mark(Path("/data"), None)
