from __future__ import annotations

import json
import logging
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llmrec.benchmarking import BenchmarkModels
from llmrec.catalog import Catalog, sample_folder
from llmrec.cli.app import app
from llmrec.models import LanguageModel
from llmrec.records import Prompt
from llmrec.retrieval import Index
from tests.benchmarking.faked import revision_of
from tests.reranking.oracle import Oracle


@pytest.fixture(scope="session")
def run() -> Callable[..., CompletedProcess[str]]:
    """Run a command in this process, on a screen of ``columns`` columns."""

    def run_command(*words: object, columns: int = 100) -> CompletedProcess[str]:
        logger = logging.getLogger("llmrec")
        handlers, level = logger.handlers, logger.level
        try:
            runner = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"})
            arguments = [str(word) for word in words]
            ended = runner.invoke(app, arguments, catch_exceptions=False)
        finally:
            logger.handlers, logger.level = handlers, level
        return CompletedProcess(arguments, ended.exit_code, ended.stdout, ended.stderr)

    return run_command


@pytest.fixture(autouse=True)
def _models_loaded_once(models_loaded_once: None) -> None: ...


@pytest.fixture(scope="session")
def document() -> Callable[[CompletedProcess[str]], dict[str, Any]]:
    """Read the one JSON document that a command printed; NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in a JSON document")

    def read(ended: CompletedProcess[str]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ended.stdout, parse_constant=refuse)
        return found

    return read


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command in a process of its own, which Ctrl-C reaches.

    A shell lets what it starts in the background ignore Ctrl-C, and so whatever that starts.
    """

    def start_command(*words: object) -> subprocess.Popen[str]:
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        main = f"{heard}; from llmrec.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", main, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_command


@pytest.fixture(scope="session")
def sample() -> Catalog:
    return Catalog.from_folder(sample_folder())


@pytest.fixture(scope="session")
def plain_index(sample: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with random vectors of an encoder that does not exist: no model is needed."""
    vectors = np.random.default_rng(0).normal(size=(len(sample.items), 8)).astype(np.float32)
    folder = tmp_path_factory.mktemp("plain") / "index"
    Index(
        items=sample.items,
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        interactions=sample.interactions,
        reviews=sample.reviews,
        profiles=sample.profiles,
        encoder="no-such-encoder@1",
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def sample_index(
    run: Callable[..., CompletedProcess[str]],
    minilm_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The sample, indexed on the command line with the default encoder."""
    folder = tmp_path_factory.mktemp("sample") / "index"
    ended = run("index", sample_folder(), "--out", folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def _worth(title: str, _place: int, prompt: Prompt) -> float:
    return -1 - zlib.crc32(f"{title}{prompt.text}".encode()) / 2**30


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model of words stands in for every model; what was loaded."""
    loads: list[str] = []

    def load(_: BenchmarkModels, ref: str, _quantization: str) -> LanguageModel:
        loads.append(ref)
        return Oracle(_worth)

    def read(*_: object) -> LanguageModel:
        return Oracle(_worth)

    def revision(_: BenchmarkModels, ref: str, quantization: str) -> str:
        return revision_of(ref, quantization)

    monkeypatch.setattr(BenchmarkModels, "load", load)
    monkeypatch.setattr(BenchmarkModels, "revision", revision)
    monkeypatch.setattr(BenchmarkModels, "reader", read)
    return loads
