"""``llmrec tune``: settings that suit your data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.folders import SkipBroken, check_writable
from llmrec.cli.options import AsJson, ColumnFile, DataFolder
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.cli.training import Epochs, ModelFolderOut, Seed, Settings, config_of, read_material

app = typer.Typer(help="Find settings on your data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Find settings on your data."""


@app.command()
@ends_well
def fusion(
    data: DataFolder,
    *,
    out: ModelFolderOut,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 20,
    columns: ColumnFile = None,
    epochs: Epochs = None,
    seed: Seed = None,
    settings: Settings = None,
    skip_broken: SkipBroken = False,
    as_json: AsJson = False,
) -> None:
    """Try settings of a fusion on each user's last interaction, then train with the best.

    Trials are kept in MODEL/trials.sqlite3; `--set` fixes what they start from.
    """
    config = config_of(settings, epochs, seed)
    check_writable(out)
    with waiting("Loading torch"):
        from llmrec.training import train_fusion
        from llmrec.training.tuning import tune_fusion
    material = read_material(data, columns, skip_broken=skip_broken)
    given = (material.training, material.modalities, material.validation)
    tuned = tune_fusion(
        *given, config, trials=trials, storage=out / "trials.sqlite3", progress=True
    )
    # No checkpoint: that of an earlier call, with fewer trials, has other settings.
    trained = train_fusion(*given, tuned.config, progress=True)
    trained.fusion.save(out)
    best = trained.best
    if as_json:
        print_json(
            {
                "model": out,
                "name": trained.fusion.name,
                "trials": tuned.trials,
                "recall@20": best.recall,
                "ndcg@10": best.ndcg,
                "config": asdict(tuned.config),
            }
        )
        return
    start = asdict(config)
    changed = {n: v for n, v in asdict(tuned.config).items() if v != start[n]}
    screen().print(
        fields(
            {
                "Model": out,
                "Name": trained.fusion.name,
                "Trials": tuned.trials,
                "recall@20": f"{best.recall:.3f}",
                "nDCG@10": f"{best.ndcg:.3f}",
                "Settings": ", ".join(f"{n}={v}" for n, v in changed.items()),
            }
        )
    )
