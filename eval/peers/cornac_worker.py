"""Train one of Cornac's multimodal models on a split that a file gives, and write its scores.

Runs in the environment that environment.py makes, not in llmrec's, and imports nothing of llmrec:

    python cornac_worker.py INPUT.npz OUTPUT.npz --model VBPR --seed 0 --settings '{"k": 32}'

INPUT holds ``users`` and ``items`` (int64 [n_rows], the rows to learn from), ``n_users``,
``n_items`` and one float32 [n_items, d] for each modality. OUTPUT gets ``scores`` float32
[stops, n_users, n_items], higher is better, NaN where the model knows no such item, one block for
each number of epochs in ``stops``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cornac  # type: ignore[import-not-found]
import numpy as np
import torch
from cornac.data import Dataset, ImageModality  # type: ignore[import-not-found]

# Parameters that a model takes over from an earlier fit, by the name of its init_params.
CARRIED = {
    "VBPR": {
        "Bi": "beta_item",
        "Gu": "gamma_user",
        "Gi": "gamma_item",
        "Tu": "theta_user",
        "E": "emb_matrix",
        "Bp": "beta_prime",
    },
    "AMR": {"Gu": "gamma_user", "Gi": "gamma_item", "E": "emb_matrix"},
    "BPR": {"U": "u_factors", "V": "i_factors", "Bi": "i_biases"},
}


def main() -> None:
    """Train and write the scores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", choices=[*CARRIED], required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, default={})
    options = parser.parse_args()
    settings = dict(options.settings)
    stops = settings.pop("stops")
    with np.load(options.input) as file:
        given = {name: file[name] for name in file.files}
    data, features, columns = dataset(given, settings.pop("modalities"), options.seed)
    scores = np.full((len(stops), int(given["n_users"]), len(columns)), np.nan, dtype=np.float32)
    for place, model in enumerate(
        carried(options.model, data, features, settings, stops, options.seed)
    ):
        for user in range(scores.shape[1]):
            found = np.asarray(model.score(user))
            scores[place, user, columns[: len(found)]] = found
    np.savez(options.output, scores=scores)


def dataset(
    given: dict[str, np.ndarray], modalities: list[str], seed: int
) -> tuple[Any, dict[str, np.ndarray], np.ndarray]:
    """Return Cornac's data set, the features in its order, and our column of each of its items."""
    users, items = given["users"], given["items"]
    met = np.unique(items)
    columns = np.concatenate([met, np.setdiff1d(np.arange(int(given["n_items"])), met)])
    data = Dataset.build(
        [(int(u), int(i), 1.0) for u, i in zip(users, items, strict=True)],
        global_uid_map={user: user for user in range(int(given["n_users"]))},
        global_iid_map={int(item): place for place, item in enumerate(columns)},
        seed=seed,
    )
    return data, {name: given[name][columns] for name in modalities}, columns


def carried(
    name: str,
    data: Any,  # noqa: ANN401 - Cornac's
    features: dict[str, np.ndarray],
    settings: dict[str, Any],
    stops: list[int],
    seed: int,
) -> Iterator[Any]:
    """Fit epoch by epoch up to each stop; a stop goes on from the parameters of the one before.

    Only the state of the optimiser starts anew at a stop. Several modalities are one concatenation.
    """
    model_class = getattr(cornac.models, name)
    if name == "VBPR" and settings.pop("corrected", False):
        model_class = corrected(model_class)
    if features:
        together = np.concatenate(list(features.values()), axis=1)
        data.add_modalities(item_image=ImageModality(features=together))
    parameters: dict[str, np.ndarray] = {}
    done = 0
    for stop in stops:
        torch.manual_seed(seed)
        epochs = {"max_iter" if name == "BPR" else "n_epochs": stop - done}
        model = model_class(**epochs, init_params=parameters, seed=seed, verbose=False, **settings)
        model.fit(data)
        parameters = {key: getattr(model, field) for key, field in CARRIED[name].items()}
        done = stop
        yield model


def corrected(model_class: Any) -> Any:  # noqa: ANN401 - Cornac's
    """Repair VBPR of Cornac 3.0.1: it adds a column [batch, 1] to a row [batch].

    The sum broadcasts to [batch, batch], so every pair is scored with every other pair's visual
    bias. Squeezing the column gives the sum of He and McAuley (2016), equation 4.
    """
    source = textwrap.dedent(inspect.getsource(model_class._fit_torch))
    broken, whole = "feat_diff.mm(Bp)", "feat_diff.mm(Bp).squeeze(1)"
    if source.count(broken) != 1:
        raise ValueError("This Cornac is not the one that the correction was written for.")
    space = dict(vars(sys.modules[model_class.__module__]))
    exec(source.replace(broken, whole), space)
    return type("CorrectedVBPR", (model_class,), {"_fit_torch": space["_fit_torch"]})


if __name__ == "__main__":
    main()
