"""Lines and names that a first ranking takes, in llmrec and in three other libraries.

    python eval/peers/first_ranking.py [--python NAME=INTERPRETER ...]

Each program below ranks two films for a history of two with SmolLM2-135M-Instruct and prints the
best first. Every program with an interpreter (llmrec and sentence-transformers: this one) is run.
The other libraries need transformers 4, so they get environments of their own:

    pip install rerankers==0.10.0 torch transformers==4.57.3 accelerate sentencepiece
    pip install transformers==4.47.1, the dependencies of rank-llm without vllm,
        and rank-llm==0.25.7 with --no-deps

rank_llm runs causal models through vLLM or through an OpenAI-compatible server. Here it asks
llama.cpp's server (the package xllamacpp, in this environment) for the same model. It imports
``vllm`` in any case, whose wheel needs CUDA: an empty module stands in for it. tiktoken, which it
counts tokens with, downloads a file; offline, ``TIKTOKEN_CACHE_DIR`` names a folder that has it.

Lines are those that are neither blank nor comments. Names are counted in the program's syntax: what
it imports, methods and attributes it uses, keyword arguments. "Besides" is what must exist outside
the program. Writes results/first_ranking.json and .md.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from llmrec.models import resolve_model
from llmrec.models.packaged import PACKAGED, fetch

RESULTS = Path(__file__).parent.parent / "results"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SERVED = "smollm2-135m-instruct"
SERVER = Path(__file__).parents[2] / "tests" / "models" / "openai" / "llama_server.py"
STUB = "class RequestOutput: ...\n"
"""Of vllm, the one name that rank_llm reads while it is imported."""

LLMREC = f"""
from llmrec import Reranker

reranker = Reranker("{MODEL}")
ranking = reranker.rank(history=["Alien", "Blade Runner"], candidates=["Heat", "Dune"])
for row in ranking.items:
    print(row.title, row.score)
"""

RERANKERS = f"""
from rerankers import Reranker

reranker = Reranker("{MODEL}", model_type="mxbaiv2", device="cpu")
results = reranker.rank("Films for somebody who chose Alien and Blade Runner", ["Heat", "Dune"])
for result in results.results:
    print(result.text, result.score)
"""

SENTENCE_TRANSFORMERS = f"""
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore

transformer = Transformer("{MODEL}", transformer_task="text-generation")
tokenizer = transformer.tokenizer
tokenizer.chat_template = "{{% for m in messages %}}{{{{ m['content'] }}}}{{% endfor %}}"
yes, no = (tokenizer.encode(word)[0] for word in ("Yes", "No"))
encoder = CrossEncoder(modules=[transformer, LogitScore(yes, no)], device="cpu")
query = "Chosen before: Alien, Blade Runner. Would the user choose "
films = ["Heat", "Dune"]
for row in encoder.rank(query, [f"{{film}}? Answer Yes or No:" for film in films]):
    print(films[row["corpus_id"]], row["score"])
"""

RANK_LLM = f"""
from rank_llm.data import Candidate, Query, Request
from rank_llm.rerank import Reranker
from rank_llm.rerank.listwise import SafeOpenai
from rank_llm.rerank.rankllm import PromptMode

coordinator = SafeOpenai(
    "{SERVED}",
    4096,
    prompt_mode=PromptMode.RANK_GPT,
    keys="none",
    base_url="SERVER/v1/",
)
query = Query("Films for somebody who chose Alien and Blade Runner", "1")
candidates = [
    Candidate("heat", 0.0, {{"content": "Heat"}}),
    Candidate("dune", 0.0, {{"content": "Dune"}}),
]
result = Reranker(coordinator).rerank(Request(query, candidates))
for candidate in result.candidates:
    print(candidate.doc["content"], candidate.score)
"""

PROGRAMS = {
    "llmrec": (LLMREC, "nothing"),
    "rerankers": (RERANKERS, "the history in a query of one's own"),
    "sentence-transformers": (
        SENTENCE_TRANSFORMERS,
        "a prompt, a chat template and the ids of two tokens",
    ),
    "rank_llm": (RANK_LLM, "the history in a query of one's own; vLLM or a server"),
}


@dataclass(frozen=True)
class Row:
    """What a library takes; ``printed`` is None where it was not run."""

    library: str
    lines: int
    names: int
    besides: str
    printed: str | None

    @property
    def films(self) -> str:
        """The last two lines that were printed: titles and scores, best first."""
        if self.printed is None:
            return "not run"
        rows = [line.rsplit(" ", 1) for line in self.printed.strip().splitlines()[-2:]]
        return ", ".join(f"{title} {float(score):.2f}" for title, score in rows)


def lines_of(program: str) -> int:
    """Lines that are neither blank nor comments."""
    return sum(bool(line.strip()) and line.strip()[0] != "#" for line in program.splitlines())


def names_of(program: str) -> set[str]:
    """What a program imports, the methods and attributes it uses, and its keyword arguments."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
    return found


@contextmanager
def served() -> Iterator[str]:
    """llama.cpp's server with the model, while it is needed."""
    weights = fetch(PACKAGED[SERVED]) / PACKAGED[SERVED].files[0].name
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def for_transformers_4(model: Path, folder: Path) -> Path:
    """The same model with the two names that transformers 4 has for its rope and tokenizer."""
    out = folder / "model"
    if not out.exists():
        shutil.copytree(model, out)
        config = json.loads((out / "config.json").read_text())
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        (out / "config.json").write_text(json.dumps(config))
        tokenizer = json.loads((out / "tokenizer_config.json").read_text())
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
        (out / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return out


def run(program: str, interpreter: str, folder: Path) -> str:
    """What a program prints; the model is its folder on the disk."""
    (folder / "vllm").mkdir(exist_ok=True)
    (folder / "vllm" / "__init__.py").write_text(STUB)
    (folder / "vllm" / "outputs.py").write_text(STUB)
    own = interpreter == sys.executable
    found = resolve_model(MODEL).path
    path = folder / "program.py"
    path.write_text(
        program.replace(MODEL, str(found if own else for_transformers_4(found, folder)))
    )
    ended = subprocess.run(
        [interpreter, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "") if own else str(folder)},
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return ended.stdout


def row(library: str, interpreter: str | None, folder: Path) -> Row:
    """Count a library's program and run it where there is an interpreter."""
    program, besides = PROGRAMS[library]
    lines, names = lines_of(program), len(names_of(program))
    if interpreter is None:
        return Row(library, lines, names, besides, None)
    if "SERVER" not in program:
        return Row(library, lines, names, besides, run(program, interpreter, folder))
    with served() as address:
        asked = program.replace("SERVER", address)
        return Row(library, lines, names, besides, run(asked, interpreter, folder))


def main() -> None:
    """Count all programs, run those that can be, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=INTERPRETER")
    given = dict(each.split("=", 1) for each in parser.parse_args().python)
    own = dict.fromkeys(("llmrec", "sentence-transformers"), sys.executable)
    interpreters = {**own, **given}
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(name, interpreters.get(name), Path(folder)) for name in PROGRAMS]
    (RESULTS / "first_ranking.json").write_text(json.dumps(list(map(asdict, rows)), indent=1))
    table = [
        "| library | lines | names | besides | prints |",
        "|---|---:|---:|---|---|",
        *(f"| {r.library} | {r.lines} | {r.names} | {r.besides} | {r.films} |" for r in rows),
    ]
    programs = [f"**{name}**\n\n```python{PROGRAMS[name][0]}```" for name in PROGRAMS]
    page = "\n\n".join(["# Lines to a first ranking", "\n".join(table), *programs])
    (RESULTS / "first_ranking.md").write_text(f"{page}\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
