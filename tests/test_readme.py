from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_tables_of_the_readme_are_those_of_the_committed_results(tmp_path: Path) -> None:
    script = ROOT / "eval" / "readme_tables.py"

    def check(script: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script), "--check"]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    found = check(script)
    assert found.returncode == 0, found.stderr
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- strategies: python eval/readme_tables.py -->" in readme
    copy = tmp_path / "eval" / script.name
    copy.parent.mkdir()
    copy.write_bytes(script.read_bytes())
    (copy.parent / "results").symlink_to(ROOT / "eval" / "results")
    (tmp_path / "README.md").write_text(readme.replace("| popularity |", "| fame |"))
    assert "run python eval/readme_tables.py" in check(copy).stderr
