from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(ROOT)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_prompts_sample_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    templates = {path.relative_to(ROOT / "prompts") for path in ROOT.glob("prompts/*/*.jinja")}
    assert templates
    assert {f"llmrec/_prompts/{path.as_posix()}" for path in templates} <= set(names)
    assert "llmrec/catalog/sample/items.jsonl" in names
    assert "llmrec/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "eval/", "prompts/"))]


def test_templates_are_found_in_an_unpacked_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import llmrec.prompting as p; folder = p.prompts_folder();"
        "assert folder.name == '_prompts', folder;"
        "assert p.load_template(p.DEFAULT_TEMPLATES['likelihood']).path.is_relative_to(folder)"
    )
    # The unpacked wheel stands before the checkout on the path, as an installed one would.
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
