"""Rank with Cornac's models through an environment of their own (``environment.py cornac``).

``cornac_worker.py`` runs there and exchanges files. Peers learn from training rows for validation
and from training and validation rows for the test, since they know a user by nothing else. Each
grid is tried on validation targets with one seed; the best setting by recall@20 is then fitted with
every seed.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import Kept
from joint_rows import Case, Ranks, kept_ranks, quality

SEEDS = (0, 1, 2)
SCRIPT = Path(__file__).parent / "cornac_worker.py"


@dataclass(frozen=True)
class Peer:
    """A model, the settings to choose from, and the numbers of epochs."""

    name: str
    model: str
    modalities: tuple[str, ...]
    grid: tuple[Mapping[str, Any], ...]
    stops: tuple[int, ...]
    seeds: tuple[int, ...] = SEEDS


ALL = ("text", "reviews", "image")
# Cornac's defaults (k 10, learning rate .005, lambda .01, batches of 100), and more factors.
PEERS = (
    Peer(
        "VBPR (Cornac), all",
        "VBPR",
        ALL,
        (
            {"k": 10, "k2": 10, "corrected": False},
            {"k": 10, "k2": 10, "corrected": True},
            {"k": 32, "k2": 32, "corrected": True},
        ),
        (5, 10, 20),
    ),
    Peer(
        "AMR (Cornac), all",
        "AMR",
        ALL,
        ({"k": 10, "k2": 10}, {"k": 32, "k2": 32}),
        (5, 10, 20),
        seeds=(0,),  # a fit takes a quarter of an hour of one core
    ),
    Peer(
        "VBPR (Cornac), image",
        "VBPR",
        ("image",),
        ({"k": 10, "k2": 10, "corrected": True}, {"k": 32, "k2": 32, "corrected": True}),
        (5, 10, 20),
    ),
    Peer(
        "BPR (Cornac), no content",
        "BPR",
        (),
        tuple({"k": k, "learning_rate": 0.01, "lambda_reg": 0.01} for k in (10, 32, 64)),
        (25, 50, 100, 200),
    ),
)


def peer_ranks(
    case: Case, peer: Peer, kept: Kept, python: Path
) -> tuple[list[dict[str, Ranks]], dict[str, str | int | float]]:
    """Ranks of the best setting for each seed, and that setting."""
    tried = {}
    for settings in peer.grid:
        found = fit(
            case, peer, {**settings, "stops": list(peer.stops)}, 0, "validation", kept, python
        )
        for place, stop in enumerate(peer.stops):
            tried[json.dumps([settings, stop])] = quality(found[str(place)])
    best = max(tried, key=lambda key: tried[key])
    settings, stop = json.loads(best)
    stops = [s for s in peer.stops if s <= stop]
    ranks = [
        {
            "test": fit(case, peer, {**settings, "stops": stops}, seed, "test", kept, python)[
                str(len(stops) - 1)
            ]
        }
        for seed in peer.seeds
    ]
    return ranks, {**settings, "epochs": stop, "seeds": len(peer.seeds), "validation": tried[best]}


def fit(
    case: Case,
    peer: Peer,
    settings: Mapping[str, Any],
    seed: int,
    which: str,
    kept: Kept,
    python: Path,
) -> dict[str, Ranks]:
    """Ranks at each stop of one fit, kept."""
    about = {
        "peer": peer.model,
        "modalities": list(peer.modalities),
        "data": case.catalog.fingerprint,
        "encoders": [case.modalities[name].encoder for name in peer.modalities],
        "settings": dict(settings),
        "seed": seed,
        "which": which,
    }

    def make() -> Mapping[str, Ranks]:
        scores = run(case, peer, settings, seed, which, python)
        return {str(place): case.rank(some, which) for place, some in enumerate(scores)}

    return kept_ranks(kept, about, make)


def run(
    case: Case, peer: Peer, settings: Mapping[str, Any], seed: int, which: str, python: Path
) -> np.ndarray:
    """Train in the peers' environment: float32 [stops, users, items]."""
    rows = {held.user.user_id: row for row, held in enumerate(case.held[which])}
    known = [*case.split.train, *(case.split.validation.values() if which == "test" else ())]
    known = [row for row in known if row.user_id in rows]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        arrays: dict[str, Any] = {name: case.modalities[name].vectors for name in peer.modalities}
        arrays["users"] = np.array([rows[row.user_id] for row in known])
        arrays["items"] = np.array([case.columns[row.item_id] for row in known])
        np.savez(given, n_users=len(rows), n_items=len(case.item_ids), **arrays)
        command: Sequence[str] = [str(python), str(SCRIPT), str(given), str(made)]
        what = json.dumps({**settings, "modalities": list(peer.modalities)})
        options = ["--model", peer.model, "--seed", str(seed), "--settings", what]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        with np.load(made) as file:
            return np.asarray(file["scores"])
