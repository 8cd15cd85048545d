from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

import pytest

from llmrec.errors import StorageError
from llmrec.models.build_cache import build_once, cache_folder, digest, is_built


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))


class Builds:
    """Counts how often a folder is built."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "inner").mkdir()
        (folder / "weights").write_bytes(b"weights" * 1000)
        (folder / "inner" / "config").write_text("config")


def test_a_folder_is_built_once_and_then_found() -> None:
    builds = Builds()
    first = build_once(cache_folder() / "it", builds, what="it")
    second = build_once(cache_folder() / "it", builds, what="it")
    assert first == second
    assert builds.count == 1
    assert (first / "inner" / "config").read_text() == "config"
    assert is_built(first)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: _flip(folder / "weights"), "weights is not what was stored"),
        (lambda folder: os.truncate(folder / "weights", 10), "weights is not what was stored"),
        (lambda folder: (folder / "inner" / "config").unlink(), "inner/config is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: No such file"),
    ],
)
def test_damaged_folder_is_rebuilt_with_a_warning(
    harm: object, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    builds = Builds()
    folder = build_once(cache_folder() / "it", builds, what="it")
    assert callable(harm)
    harm(folder)
    assert not is_built(folder)
    with caplog.at_level(logging.WARNING):
        build_once(folder, builds, what="it")
    assert builds.count == 2
    assert said in caplog.text
    assert (folder / "weights").read_bytes() == b"weights" * 1000
    assert is_built(folder)


def test_damage_that_keeps_size_and_time_is_found_by_verify() -> None:
    builds = Builds()
    folder = build_once(cache_folder() / "it", builds, what="it")
    before = (folder / "weights").stat()
    _flip(folder / "weights")
    os.utime(folder / "weights", ns=(before.st_atime_ns, before.st_mtime_ns))
    build_once(folder, builds, what="it", verify=True)
    assert builds.count == 2
    assert (folder / "weights").read_bytes() == b"weights" * 1000


def test_a_copied_cache_with_other_times_is_still_whole() -> None:
    builds = Builds()
    folder = build_once(cache_folder() / "it", builds, what="it")
    os.utime(folder / "weights", (1, 1))
    build_once(folder, builds, what="it")
    assert builds.count == 1


@pytest.mark.parametrize("fault", [KeyboardInterrupt, StorageError])
def test_a_build_that_fails_leaves_nothing(fault: type[BaseException]) -> None:
    def build(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise fault("stopped")

    with pytest.raises(fault):
        build_once(cache_folder() / "it", build, what="it")
    assert [path.name for path in cache_folder().iterdir() if path.is_dir()] == []


def _die_half_way(folder: Path) -> None:
    def build(partial: Path) -> None:
        (partial / "weights").write_text("half")
        os._exit(9)

    build_once(folder, build, what="it")


def test_a_build_that_was_killed_is_started_afresh() -> None:
    folder = cache_folder() / "it"
    process = multiprocessing.get_context("spawn").Process(target=_die_half_way, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not folder.exists()
    builds = Builds()
    build_once(folder, builds, what="it")
    assert builds.count == 1
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == [
        "digests",
        "it",
    ]


def _build_in_turn(folder: Path, log: Path) -> None:
    def build(partial: Path) -> None:
        with log.open("a") as stream:
            stream.write("built\n")
        (partial / "weights").write_text("whole")

    build_once(folder, build, what="it")


def test_two_processes_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    arguments = (cache_folder() / "it", log)
    processes = [context.Process(target=_build_in_turn, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"
    assert is_built(cache_folder() / "it")


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="LLMREC_CACHE"):
        build_once(cache_folder() / "it", Builds(), what="it")


def test_a_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(path) == digest(path) == known
    path.write_bytes(b"abd")
    assert digest(path) != known


def test_without_the_variable_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMREC_CACHE")
    assert cache_folder().name == "llmrec"
