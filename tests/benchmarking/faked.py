"""A small world whose users keep to one family of kites, and a model that counts the family.

So a template's worth is known beforehand: ``GOOD`` says the history, ``BLIND`` does not, and
``WRONG`` makes the model answer upside down.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.benchmarking.run import Benchmark
from llmrec.models import LanguageModel
from llmrec.records import Interaction, Item, Prompt, Review
from llmrec.retrieval import Index
from tests.reranking.oracle import Oracle

ITEMS, FAMILIES, USERS, BUSY = 60, 6, 40, "u07"
GOOD = "{% for past in history %}\n{{ past.title }}\n{% endfor %}\n- "
BLIND = "Somebody chose:\n- "
WRONG = f"Anything but these:\n{GOOD}"
FAILS = "{% if history | length > 4 %}{{ history[9].title }}{% endif %}\n- "
"""Fails for ``BUSY``, who alone has more than four items in the history."""


def world(folder: Path, *, fingerprint: str = "kites") -> Path:
    """An index without a model: family n % 6, and users who met four of one, then the target."""
    items = {f"i{n}": Item(f"i{n}", f"Kite {n}", f"A kite, number {n}.") for n in range(ITEMS)}
    rows, draws = [], np.random.default_rng(0)
    for user in range(USERS):
        name = f"u{user:02}"
        own = user % FAMILIES + FAMILIES * draws.permutation(ITEMS // FAMILIES)
        met = own[: 6 if name == BUSY else 5]
        rows += [Interaction(name, f"i{n}", 4.0, time) for time, n in enumerate(met)]
    vectors = draws.normal(size=(ITEMS, 8)).astype(np.float32)
    index = Index(
        items=items,
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        interactions=tuple(rows),
        reviews=tuple(Review(row.item_id, "Flies.", 4.0, row.user_id) for row in rows),
        encoder="no-such-encoder@1",
        fingerprint=fingerprint,
    )
    index.save(folder)
    return folder


def template(folder: Path, name: str, text: str, strategy: str = "likelihood") -> str:
    """Write a plain template; its path."""
    path = folder / strategy / f"{name}.jinja"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{{% block text %}}\n{text}\n{{% endblock %}}\n", encoding="utf-8")
    return str(path)


def family(title: str, _place: int, prompt: Prompt) -> float:
    """How many kites of the prompt are of the title's family, and a little that tells titles."""
    found = re.fullmatch(r"Kite (\d+)", title.strip())
    if found is None:
        return -9.0
    text = prompt.text or prompt.user
    kites = [int(number) for number in re.findall(r"Kite (\d+)", text)]
    same = sum(number % FAMILIES == int(found[1]) % FAMILIES for number in kites)
    noise = zlib.crc32(f"{title}/{text}".encode()) / 2**32
    return (-0.3 if "Anything but" in text else 0.3) * same - 4 + noise


def family_model(label: Callable[[str, int, Prompt], float | None] = family) -> Oracle:
    """The model; tell it otherwise with ``label``."""
    return Oracle(label)


@dataclass
class Loading:
    """Loads one model whatever is asked for, and counts."""

    model: LanguageModel = field(default_factory=family_model)
    loads: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, ref: str, quantization: str) -> LanguageModel:
        self.loads[ref, quantization] += 1
        return self.model


def revision_of(ref: str, quantization: str, how: object = None) -> str:
    """A revision that needs no model."""
    return f"{ref}@{quantization}"


def plan_of(index: Path, *templates: str, **settings: object) -> BenchmarkPlan:
    """A plan of a few users; six candidates each."""
    asked = {"users": 12, "n_candidates": 6, "models": ["kites"], **settings}
    document = {"index": str(index), "templates": list(templates), **asked}
    return BenchmarkPlan.of(document, "The test")


def benchmark_of(index: Path, *templates: str, **settings: object) -> Benchmark:
    """The benchmark of such a plan."""
    return Benchmark.of(plan_of(index, *templates, **settings), revision_of)
